"""The same numbers on the CPU and on a CUDA device."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from ddlight.core.randomness import generator
from ddlight.views import dsa
from ddlight.views.colour import jitter, lighting
from ddlight.views.crop import crop_boxes, flip, resized_crop
from ddlight.views.mix import cutmix, cutmix_draw, mixup
from ddlight.views.normalise import normalise
from ddlight.views.patches import patch_orders, shuffle_patches

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

COUNT = 12
RNG = generator(0, "gpu")
U = RNG.random((COUNT, 22))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

BYTES: dict[str, Callable[[Tensor], Tensor]] = {
    "crop up": lambda x: resized_crop(x, crop_boxes(U, 64), 64),
    "crop down": lambda x: resized_crop(x, crop_boxes(U, 64), 48),
    "flip": lambda x: flip(x, U[:, 0] < 0.5),
    "cutmix": lambda x: cutmix(x, x.flip(0), cutmix_draw(U[0, :3], 64)),
    "cutmix each": lambda x: cutmix(x, x.flip(0), cutmix_draw(U[:, :3], 64)),
    "shuffle": lambda x: shuffle_patches(x, 2, patch_orders(U[:, :4], 2)),
}
FLOATS: dict[str, Callable[[Tensor], Tensor]] = {
    **BYTES,
    "jitter": lambda x: jitter(x, U[:, :4]),
    "lighting": lambda x: lighting(x, U[:, :3]),
    "mixup": lambda x: mixup(x, x.flip(0), U[:, 0]),
    **{
        f"dsa {op}": lambda x, op=op: dsa.apply(x, *dsa.draw(dsa.Strategy(op), 0.0, U[:, :3], 64))
        for op in dsa.Strategy().ops
    },
}


def pixels() -> Tensor:
    return torch.from_numpy(RNG.integers(0, 256, (COUNT, 3, 64, 64), dtype=np.uint8))


@pytest.mark.parametrize("name", BYTES)
def test_bytes_agree_within_one_level(name):
    images = pixels()
    here, there = BYTES[name](images), BYTES[name](images.cuda())
    assert there.is_cuda and there.dtype == torch.uint8
    assert (here.int() - there.cpu().int()).abs().max() <= 1


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("autocast", [False, True])
def test_floats_agree_within_one_level(name, autocast):
    images = pixels().float() / 255
    here = FLOATS[name](images)
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=autocast):
        there = FLOATS[name](images.cuda())
    assert there.is_cuda and there.dtype == torch.float32
    assert (here - there.cpu()).abs().max() <= 1 / 255


def test_normalise_agrees():
    images = pixels()
    here, there = normalise(images, MEAN, STD), normalise(images.cuda(), MEAN, STD)
    assert there.is_cuda and there.dtype == torch.float32
    torch.testing.assert_close(there.cpu(), here, atol=1e-5, rtol=0)

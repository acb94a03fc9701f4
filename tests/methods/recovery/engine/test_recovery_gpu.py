"""On a GPU: the same bytes each time, much the same images as on a CPU, bf16 near fp32."""

import numpy as np
import pytest
import torch

from ddlight.core.randomness import generator
from ddlight.methods.images import NormalisedSpace, repeatable
from ddlight.methods.recovery.engine.loop import Objective, recover
from ddlight.methods.recovery.engine.observer import Observer
from ddlight.methods.recovery.engine.options import Recovery
from ddlight.methods.recovery.engine.statistics import Statistics
from ddlight.methods.recovery.engine.views import Views

SIZE = 96


def recovered(teacher, device, iterations=40, precision="fp32"):
    """Images that a ResNet-18 was matched with, normalised, on the CPU."""
    recovery = Recovery(iterations, lr=0.05, roll=8, precision=precision)
    space = NormalisedSpace((0.5,) * 3, (0.25,) * 3)
    views = Views(generator(0, "views"), np.full(iterations, 0.08), iterations, recovery.shifts, True)
    observer = Observer(teacher, space, device, Statistics, precision)
    images = torch.from_numpy(generator(0, "noise").standard_normal((5, 3, SIZE, SIZE), np.float32)).to(device)
    with repeatable():
        return recover(
            Objective(recovery, space, torch.arange(5, device=device), [observer], views, SIZE), images
        ).cpu()


@pytest.mark.gpu
def test_a_gpu_repeats_itself_and_agrees_with_a_cpu(untrained):
    from ddlight.networks.students import ResNet

    teacher, gpu = untrained(ResNet(18, stem="imagenet"), size=SIZE), torch.device("cuda")
    first, again = recovered(teacher, gpu), recovered(teacher, gpu)
    assert torch.equal(first, again)
    few = [recovered(teacher, device, 3) for device in (gpu, torch.device("cpu"))]
    assert (few[0] - few[1]).abs().mean() < 0.02
    mixed = recovered(teacher, gpu, precision="bf16")
    assert torch.equal(mixed, recovered(teacher, gpu, precision="bf16"))
    start = torch.from_numpy(generator(0, "noise").standard_normal((5, 3, SIZE, SIZE), np.float32)).clamp(-2, 2)
    assert 0 < (mixed - first).norm() < (first - start).norm()

"""Crops against PIL and a scalar reading of torchvision's rule."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop

from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.views import crop
from ddlight.views.crop import (
    CROP_UNIFORMS,
    crop_boxes,
    flip,
    resized_crop,
    resized_crop_batched,
    resized_crop_each,
    tile_crop_boxes,
    tile_sides,
)


def uniforms(*shape: int, purpose: str = "test") -> np.ndarray:
    return generator(0, purpose, *shape).random(shape)


def scalar_box(u, height, width, scale, ratio):
    """One box by plain arithmetic, in the words of torchvision's documentation."""
    for attempt in range(10):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * u[attempt])
        aspect = math.exp(math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * u[10 + attempt])
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(u[20] * (height - h + 1)), int(u[21] * (width - w + 1)), h, w
    if width / height < ratio[0]:
        w, h = width, round(width / ratio[0])
    elif width / height > ratio[1]:
        w, h = round(height * ratio[1]), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize(
    ("size", "scale", "ratio"),
    [
        (224, (0.08, 1.0), (3 / 4, 4 / 3)),
        (32, (0.5, 1.0), (3 / 4, 4 / 3)),
        (32, (1.0, 1.0), (3 / 4, 4 / 3)),
        ((375, 500), (0.08, 1.0), (1.0, 1.0)),
        ((20, 200), (0.9, 1.0), (3 / 4, 4 / 3)),
        ((200, 20), (0.9, 1.0), (3 / 4, 4 / 3)),
    ],
)
def test_boxes_equal_the_scalar_rule(size, scale, ratio):
    u = uniforms(400, CROP_UNIFORMS)
    height, width = (size, size) if isinstance(size, int) else size
    expected = [scalar_box(row, height, width, scale, ratio) for row in u]
    boxes = crop_boxes(u, size, scale, ratio)
    assert boxes.dtype == np.int64
    np.testing.assert_array_equal(boxes, expected)


def test_boxes_of_images_of_several_sizes():
    u, sizes = uniforms(50, CROP_UNIFORMS), generator(0, "sizes").integers(8, 300, (50, 2))
    expected = [scalar_box(row, h, w, (0.08, 1), (3 / 4, 4 / 3)) for row, (h, w) in zip(u, sizes, strict=True)]
    np.testing.assert_array_equal(crop_boxes(u, sizes), expected)


def test_an_epoch_drawn_at_once_is_the_same_as_its_batches():
    u = uniforms(12, 5, CROP_UNIFORMS)
    whole = crop_boxes(u, 64)
    assert whole.shape == (12, 5, 4)
    np.testing.assert_array_equal(whole[3], crop_boxes(u[3], 64))


def test_boxes_are_distributed_as_torchvisions():
    torch.manual_seed(0)
    image = torch.empty(3, 96, 128)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(2000)])
    ours = crop_boxes(uniforms(2000, CROP_UNIFORMS), (96, 128), (0.2, 1.0))
    for column in range(4):
        assert ks_2samp(theirs[:, column], ours[:, column]).pvalue > 1e-3
    assert ks_2samp(theirs[:, 2] * theirs[:, 3], ours[:, 2] * ours[:, 3]).pvalue > 1e-3


def test_boxes_lie_inside_and_reach_every_edge():
    boxes = crop_boxes(uniforms(3000, CROP_UNIFORMS), 16, (0.3, 1.0))
    ends = boxes[:, :2] + boxes[:, 2:]
    assert boxes[:, :2].min() == 0 and ends.max() == 16 and boxes[:, 2:].min() > 0


@pytest.mark.parametrize(("scale", "ratio"), [((0.5, 0.2), (0.75, 1.3)), ((0.1, 1.5), (0.75, 1.3)), ((0.1, 1), (0, 1))])
def test_wrong_ranges_are_refused(scale, ratio):
    with pytest.raises(UsageError, match="random resized crop"):
        crop_boxes(uniforms(1, CROP_UNIFORMS), 32, scale, ratio)


def pictures(count, channels, height, width):
    """Half noise, the worst case, and half smooth."""
    rng = generator(1, "pictures", channels, height, width)
    noise = rng.integers(0, 256, (count, channels, height, width))
    y, x = np.mgrid[:height, :width] / max(height, width)
    wave = 127.5 + 127.5 * np.sin(7 * x + 11 * y + rng.random((count, channels, 1, 1)) * 6)
    noise[1::2] = wave[1::2]
    return torch.from_numpy(noise.astype(np.uint8))


def pil_crops(images, boxes, size):
    crops = []
    for image, (top, left, height, width) in zip(images.numpy(), boxes.tolist(), strict=True):
        layers = [Image.fromarray(layer).crop((left, top, left + width, top + height)) for layer in image]
        crops.append([np.asarray(layer.resize((size, size), Image.Resampling.BILINEAR)) for layer in layers])
    return torch.from_numpy(np.array(crops))


CASES = [
    (3, (64, 64), 64),  # store at the size of the result: only up-sampling
    (3, (80, 80), 64),  # both
    (3, (100, 150), 40),  # down-sampling of images that are not square
    (1, (28, 28), 28),
    (1, (32, 32), 16),
    (4, (50, 50), 50),
]


@pytest.mark.parametrize(("channels", "source", "size"), CASES)
@pytest.mark.parametrize("way", [resized_crop, resized_crop_each, resized_crop_batched])
def test_crops_are_within_one_level_of_pil(way, channels, source, size):
    """uint8: at most 1 level; float: at most 1 level and never rounded. Both: 0.35 levels on average."""
    images = pictures(8, channels, *source)
    boxes = crop_boxes(uniforms(8, CROP_UNIFORMS), source, (0.1, 1.0))
    expected = pil_crops(images, boxes, size)
    bytes_ = way(images, boxes, size)
    floats = way(images.float() / 255, boxes, size)
    assert bytes_.dtype == torch.uint8 and floats.dtype == torch.float32
    assert bytes_.shape == floats.shape == expected.shape
    for result in (bytes_.float(), floats * 255):
        difference = (result - expected.float()).abs()
        assert difference.max() <= 1.001
        assert difference.mean() <= 0.35


def test_uint8_crops_on_the_cpu_are_pils_almost_everywhere():
    images = pictures(6, 3, 64, 64)
    boxes = crop_boxes(uniforms(6, CROP_UNIFORMS), 64)
    difference = resized_crop_each(images, boxes, 64).float() - pil_crops(images, boxes, 64).float()
    assert difference.abs().mean() <= 0.05


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize(("side", "size"), [(64, 48), (48, 64), (24, 24)])
def test_rows_of_a_set_are_cropped_as_they_are_alone_in_either_memory_format(side, size, dtype, monkeypatch):
    images, rows = pictures(7, 3, side, side).to(dtype), np.array([5, 0, 5, 2])
    boxes = crop_boxes(uniforms(4, CROP_UNIFORMS), side)
    alone = [resized_crop(images[row][None], box[None], size) for row, box in zip(rows, boxes, strict=True)]
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        found = resized_crop(images, boxes, size, rows)
        assert torch.equal(found, torch.cat(alone)) and found.is_contiguous()
    turned = np.array([True, False, False, True])
    found = resized_crop(images, boxes, size, rows=rows, mirrored=turned)
    assert torch.equal(found, torch.cat([c.flip(3) if t else c for c, t in zip(alone, turned, strict=True)]))
    if dtype == torch.uint8:  # what decoded files are; floats may differ in the last bit
        apart = images.contiguous(memory_format=torch.channels_last)
        assert torch.equal(resized_crop(apart, boxes, size, rows=rows), torch.cat(alone))


@pytest.mark.parametrize("way", [resized_crop_each, resized_crop_batched])
@pytest.mark.parametrize("size", [20, 48, 96])
def test_nothing_outside_the_box_is_seen(way, size):
    images = torch.full((2, 3, 48, 48), 255, dtype=torch.uint8)
    boxes = np.array([[5, 7, 20, 30], [0, 18, 48, 11]])
    for image, (top, left, height, width) in zip(images, boxes, strict=True):
        image[:, top : top + height, left : left + width] = 0
    assert way(images, boxes, size).max() == 0
    assert way(images.float(), boxes, size).abs().max() <= 1e-3


@pytest.mark.parametrize("way", [resized_crop_each, resized_crop_batched])
def test_the_whole_image_at_its_own_size_is_itself(way):
    images, boxes = pictures(2, 3, 30, 30), np.array([[0, 0, 30, 30]] * 2)
    assert torch.equal(way(images, boxes, 30), images)


def test_half_precision_products_stay_within_one_level():
    """What a GPU does with uint8 images that are larger than the result."""
    images = pictures(4, 3, 80, 80)
    boxes = crop_boxes(uniforms(4, CROP_UNIFORMS), 80)
    expected = pil_crops(images, boxes, 56).float()
    product = crop._product(images, boxes, 56, torch.float16)
    assert product.dtype == torch.float16
    assert (product.float() - expected).abs().max() <= 1.001


@pytest.mark.parametrize("size", [24, 40])
def test_autocast_costs_no_bits(size):
    images, boxes = pictures(4, 3, 32, 32).float(), crop_boxes(uniforms(4, CROP_UNIFORMS), 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = resized_crop(images, boxes, size)
    assert torch.equal(result, resized_crop(images, boxes, size))


@pytest.mark.parametrize(("source", "size"), [(32, 32), (32, 24), (64, 64)])
def test_a_view_does_not_depend_on_its_batch_or_on_threads(source, size, monkeypatch):
    images, boxes = pictures(7, 3, source, source), crop_boxes(uniforms(7, CROP_UNIFORMS), source)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    whole = resized_crop(images, boxes, size)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    for i in range(7):
        assert torch.equal(whole[i : i + 1], resized_crop(images[i : i + 1], boxes[i : i + 1], size))


@pytest.mark.parametrize("threads", [1, 2])
def test_works_in_inference_mode(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    images, boxes = pictures(4, 3, 64, 64), crop_boxes(uniforms(4, CROP_UNIFORMS), 64)
    with torch.inference_mode():
        inside = resized_crop(images, boxes, 48)
    assert torch.equal(inside, resized_crop(images, boxes, 48))


@pytest.mark.parametrize("size", [48, 64])
def test_gradients_reach_exactly_the_box(size):
    images = torch.rand(1, 1, 64, 64, requires_grad=True)
    resized_crop(images, np.array([[10, 20, 30, 40]]), size).sum().backward()
    seen = images.grad[0, 0] != 0
    assert seen[10:40, 20:60].all() and seen.sum() == 30 * 40


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_flip_mirrors_the_masked_images(dtype):
    images = pictures(5, 3, 9, 12).to(dtype)
    before = images.clone()
    mask = np.array([True, False, False, True, True])
    flipped = flip(images, mask)
    for image, result, mirrored in zip(images.numpy(), flipped.numpy(), mask, strict=True):
        np.testing.assert_array_equal(result, image[:, :, ::-1] if mirrored else image)
    assert torch.equal(images, before)
    assert torch.equal(flip(images, np.array([True])), images.flip(-1))
    assert torch.equal(flip(images, np.zeros(5, bool)), images)


# --- crops of one tile ---


@pytest.mark.parametrize(("size", "factor", "sides"), [(28, 2, [14, 14]), (28, 3, [10, 9, 9]), (7, 4, [2, 2, 2, 1])])
def test_tiles_share_the_pixels_out(size, factor, sides):
    assert tile_sides(size, factor) == sides


def test_a_crop_of_a_tile_stays_in_it_and_every_tile_is_drawn():
    place, u = uniforms(4000, purpose="tile"), uniforms(4000, CROP_UNIFORMS)
    boxes = tile_crop_boxes(place, u, 28, 3, (0.1, 0.9))
    ends = {0: (0, 10), 1: (10, 19), 2: (19, 28)}
    seen = np.zeros((3, 3), int)
    for share, (top, left, height, width), row in zip(place, boxes.tolist(), u, strict=True):
        tile = int(share * 9)
        (y, below), (x, beyond) = ends[tile // 3], ends[tile % 3]
        assert y <= top < top + height <= below and x <= left < left + width <= beyond
        inside = scalar_box(row, below - y, beyond - x, (0.1, 0.9), (3 / 4, 4 / 3))
        assert (top - y, left - x, height, width) == inside
        seen[tile // 3, tile % 3] += 1
    assert seen.min() > 350  # 444 each are expected

"""Random resized crops and flips of a batch, one box and one coin per image, within one grey level of PIL."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ddlight.core.errors import UsageError
from ddlight.views._tensors import beside

ATTEMPTS = 10
CROP_UNIFORMS = 2 * ATTEMPTS + 2
"""Uniform numbers that one call of `crop_boxes` takes per image."""

SMALL_SIDE = 40
"""Up to this many pixels a side, a batch on the CPU is resized as a whole instead of image by image.

Measured on two cores of an AMD Zen 4, per RGB image: 8 microseconds against 20 at 32 px, 70 against 40 at 64 px.
"""


def crop_boxes(
    u: np.ndarray,
    size: int | Sequence[int] | np.ndarray,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> np.ndarray:
    """Compute the boxes of random resized crops from uniform numbers.

    The rule is that of torchvision's `RandomResizedCrop.get_params`: area uniform, aspect ratio log-uniform, the
    first of ten attempts that fits in the image, the central crop of the nearest allowed ratio when none does.

    Args:
        u: uniform numbers in [0, 1), shape (..., `CROP_UNIFORMS`): ten areas, ten ratios, top, left.
        size: side of square images in pixels, (height, width), or one such pair per box, shape (..., 2).
        scale: lowest and highest area of the crop, as a fraction of the image's area, in (0, 1].
        ratio: lowest and highest width / height of the crop.

    Returns:
        int64 array (..., 4): top, left, height, width in pixels.

    Raises:
        UsageError: `scale` or `ratio` is not an increasing pair of positive numbers, or `scale` exceeds 1.
    """
    for name, pair, limit in (("scale", scale, " <= 1"), ("ratio", ratio, "")):
        if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= (1 if limit else np.inf):
            raise UsageError(
                f"{name} of a random resized crop is {tuple(pair)}; it must be two numbers with "
                f"0 < low <= high{limit}, for example {name}: [0.5, 1.0]."
            )
    sides = np.asarray(size)
    height, width = (sides, sides) if sides.ndim == 0 else (sides[..., 0], sides[..., 1])
    area = (height * width)[..., None] * (scale[0] + (scale[1] - scale[0]) * u[..., :ATTEMPTS])
    low, high = np.log(ratio)
    aspect = np.exp(low + (high - low) * u[..., ATTEMPTS : 2 * ATTEMPTS])
    w, h = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (w > 0) & (w <= width[..., None]) & (h > 0) & (h <= height[..., None])
    first = fits.argmax(-1)[..., None]
    h, w = (np.take_along_axis(side, first, -1)[..., 0] for side in (h, w))
    top, left = np.floor(u[..., -2] * (height - h + 1)), np.floor(u[..., -1] * (width - w + 1))
    drawn = np.stack([top, left, h, w], -1)
    h = np.where(width / height < ratio[0], np.rint(width / ratio[0]), height)
    w = np.where(width / height > ratio[1], np.rint(height * ratio[1]), width)
    central = np.stack([(height - h) // 2, (width - w) // 2, h, w], -1)
    return np.where(fits.any(-1)[..., None], drawn, central).astype(np.int64)


def tile_sides(size: int, factor: int) -> list[int]:
    """Sides of the strips of a mosaic of `size` pixels, in order: the first ones a pixel wider where some are left."""
    return [size // factor + (k < size % factor) for k in range(factor)]


def tile_crop_boxes(
    place: np.ndarray,
    u: np.ndarray,
    size: int,
    tiles: int,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> np.ndarray:
    """Boxes as of `crop_boxes` that each lie inside one tile of a mosaic, in pixels of the mosaic: int64 (n, 4).

    Args:
        place: uniform numbers in [0, 1), (n,): which of the tiles x tiles tiles.
        u: uniform numbers in [0, 1), (n, `CROP_UNIFORMS`).
        size: side of the mosaics in pixels.
        tiles: tiles per side.
        scale: area of a crop, as fractions of the tile's.
        ratio: as in `crop_boxes`.
    """
    sides = np.array(tile_sides(size, tiles))
    rows, columns = np.divmod((place * tiles**2).astype(np.int64), tiles)
    boxes = crop_boxes(u, np.stack([sides[rows], sides[columns]], -1), scale, ratio)
    starts = np.cumsum(sides) - sides
    boxes[:, 0] += starts[rows]
    boxes[:, 1] += starts[columns]
    return boxes


def resized_crop(
    images: Tensor, boxes: np.ndarray, size: int, rows: np.ndarray | None = None, mirrored: np.ndarray | None = None
) -> Tensor:
    """Crop each image to its box and resize the crop to a square, bilinear with antialiasing: (B, C, size, size).

    uint8 images give uint8, rounded, as cropping PIL images does; floating-point images keep their dtype and are
    not rounded, as cropping after `ToTensor` does. Both are within one grey level (1/255) of PIL's
    `crop(box).resize((size, size), BILINEAR)` on the same boxes, up- and down-sampling. The bits of a view depend on
    its image, its box and the device, not on the rest of the batch's content.

    Args:
        images: (B, C, H, W), uint8 or floating point, on any device; or more of them, of which `rows` are cropped.
        boxes: (B, 4) integers from `crop_boxes`.
        size: side of the result in pixels.
        rows: int64 (B,): positions of the images to crop; None crops all in order.
        mirrored: booleans (B,): which results are turned left to right; None turns none.
    """
    small = max(*images.shape[2:], size) <= SMALL_SIDE
    if images.device.type == "cpu" and not small and not images.requires_grad:
        return resized_crop_each(images, boxes, size, rows, mirrored)
    chosen = images if rows is None else images.index_select(0, beside(rows, images, torch.long))
    resized = resized_crop_batched(chosen, boxes, size)
    return resized if mirrored is None else flip(resized, mirrored)


def resized_crop_each(
    images: Tensor, boxes: np.ndarray, size: int, rows: np.ndarray | None = None, mirrored: np.ndarray | None = None
) -> Tensor:
    """Do `resized_crop` image by image in threads: the fast way on a CPU. No gradient flows."""
    places, order = boxes.tolist(), range(len(boxes)) if rows is None else rows.tolist()

    def cut(i: int) -> Tensor:
        top, left, height, width = places[i]
        return images[order[i] : order[i] + 1, :, top : top + height, left : left + width]

    return resize_each(cut, images.new_empty((len(boxes), images.shape[1], size, size)), mirrored)


def resize_each(cut: Callable[[int], Tensor], out: Tensor, mirrored: np.ndarray | None = None) -> Tensor:
    """Resize crops of any size, one by one in `torch.get_num_threads()` threads, bilinear with antialiasing.

    Args:
        cut: gives crop number i, (1, C, h, w).
        out: (n, C, size, size) on the CPU, of the crops' dtype; it is filled and returned.
        mirrored: booleans (n,): which results are turned left to right.
    """
    turned = [False] * len(out) if mirrored is None else mirrored.tolist()
    count, size = max(1, min(torch.get_num_threads(), len(out))), out.shape[2:]
    inference = torch.is_inference_mode_enabled()
    target = out.numpy()  # numpy copies in one thread, where torch would start a team in each of ours

    def work(worker: int) -> None:
        with torch.inference_mode(inference), torch.no_grad():
            for i in range(worker, len(out), count):
                resized = functional.interpolate(cut(i), size, mode="bilinear", antialias=True)[0].numpy()
                target[i] = resized[..., ::-1] if turned[i] else resized

    if count == 1:
        work(0)
        return out
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))
    return out


def resized_crop_batched(images: Tensor, boxes: np.ndarray, size: int) -> Tensor:
    """Do `resized_crop` with a few operations on the whole batch: the fast way on a GPU and for small images.

    Images no larger than `size` are never down-sampled, and four taps suffice: a bilinear grid that is clamped to
    the crop. Larger ones take two matrix products with the triangle filter's weights. Gradients flow to floats.
    """
    if max(images.shape[2:]) <= size:
        resized = _sample_grid(images, boxes, size)
    else:
        exact_in_half = images.is_cuda and images.dtype in (torch.uint8, torch.float16)
        resized = _product(images, boxes, size, torch.float16 if exact_in_half else torch.float32)
    if images.dtype == torch.uint8:
        resized = resized.add(0.5).clamp(max=255)
    return resized.to(images.dtype)


def flip(images: Tensor, mask: np.ndarray) -> Tensor:
    """Mirror the images of `mask`, booleans (B,) or (1,) for all alike, left to right: a new batch."""
    batch = len(images)
    mirrored = np.flatnonzero(np.broadcast_to(mask, batch))
    order = np.arange(batch)
    order[mirrored] = batch + np.arange(len(mirrored))
    turned = images.index_select(0, beside(mirrored, images, torch.long)).flip(-1)
    return torch.cat([images, turned]).index_select(0, beside(order, images, torch.long))


def _sample_grid(images: Tensor, boxes: np.ndarray, size: int) -> Tensor:
    """Sample every box on a bilinear grid that stays inside it, in float32; exact when nothing is down-sampled."""

    def coordinates(start: Tensor, length: Tensor, source: int) -> Tensor:
        steps = torch.arange(size, device=images.device) + 0.5
        place = start[:, None] + (steps * (length / size)[:, None] - 0.5).clamp(min=0).minimum(length[:, None] - 1)
        return (2 * place + 1) / source - 1

    top, left, height, width = beside(boxes.T, images, torch.float32)
    rows = coordinates(top, height, images.shape[2])[:, :, None].expand(-1, -1, size)
    columns = coordinates(left, width, images.shape[3])[:, None, :].expand(-1, size, -1)
    grid = torch.stack([columns, rows], -1)
    return functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def _product(images: Tensor, boxes: np.ndarray, size: int, dtype: torch.dtype) -> Tensor:
    """Resize every box by one matrix product per axis, in `dtype`; float16 holds 0..255 exactly, bfloat16 not."""
    top, left, height, width = beside(boxes.T, images, torch.float32)
    rows = triangle_weights(top, height, images.shape[2], size).to(dtype)
    columns = triangle_weights(left, width, images.shape[3], size).to(dtype)
    with torch.autocast(images.device.type, enabled=False):
        return rows[:, None] @ (images.to(dtype) @ columns.transpose(1, 2)[:, None])


def triangle_weights(start: Tensor, length: Tensor, source: int, size: int) -> Tensor:
    """PIL's antialiased bilinear weights (B, size, source) of the spans [start, start + length) of a row, in pixels."""
    start, length = start[:, None, None], length[:, None, None]
    step = length / size
    centre = start + (torch.arange(size, device=start.device)[:, None] + 0.5) * step
    pixel = torch.arange(source, device=start.device) + 0.5
    weight = (1 - (pixel - centre).abs() / step.clamp(min=1)).clamp(min=0)
    weight = weight * ((pixel > start) & (pixel < start + length))
    return weight / weight.sum(-1, keepdim=True)

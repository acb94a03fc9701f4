"""Bring images from pixel values to the space that networks see, and back."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ddlight.transforms._tensors import beside

CACHED = 2**18
"""Numbers that are worked on at once where they are to stay in a CPU's cache: 1 MB of float32."""


def normalise(
    images: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Compute (x - mean) / std per channel, where uint8 images count as x = value / 255.

    Agrees with `ToTensor` followed by `Normalize` to 2e-6 in float32. The memory format is changed first, while
    pixels are bytes, and channels-last images are worked on as long rows: faster on a CPU than broadcasting three
    numbers over them.

    Args:
        images: (B, C, H, W), uint8 or floating point in [0, 1], in either memory format.
        mean: one number per channel, of images in [0, 1].
        std: likewise, > 0.
        dtype: dtype of the result; None gives float32 for uint8 images and the images' own dtype otherwise.
        memory_format: `torch.contiguous_format` or `torch.channels_last`, of the result.

    Returns:
        A new (B, C, H, W) batch, dense in `memory_format`; gradients flow to floating-point images.
    """
    unit = 255.0 if images.dtype == torch.uint8 else 1.0
    scale = [1 / (unit * s) for s in std]
    shift = [-m / s for m, s in zip(mean, std, strict=True)]
    result = dtype or (torch.float32 if images.dtype == torch.uint8 else images.dtype)
    return _affine(images.contiguous(memory_format=memory_format), scale, shift).to(result)


def denormalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Undo `normalise`: x std + mean, in [0, 1] for real images, not clamped.

    Args:
        images: (B, C, H, W) normalised floating-point images.
        mean: as given to `normalise`.
        std: as given to `normalise`.

    Returns:
        A new (B, C, H, W) batch of the same dtype, in the memory format of `images`.
    """
    return _affine(images, std, mean).to(images.dtype)


def _affine(images: Tensor, scale: Sequence[float], shift: Sequence[float]) -> Tensor:
    """Compute x scale + shift per channel in float32 or wider, in a new tensor of the same memory format."""
    channels, width = images.shape[1], images.shape[3]
    wide = torch.promote_types(images.dtype, torch.float32)
    factor, offset = beside(scale, images, wide), beside(shift, images, wide)
    if images.is_contiguous() or not images.is_contiguous(memory_format=torch.channels_last):
        return _multiply_add(images, factor.view(-1, 1, 1), offset.view(-1, 1, 1))
    rows = _multiply_add(images.permute(0, 2, 3, 1).flatten(2), factor.repeat(width), offset.repeat(width))
    return rows.unflatten(2, (width, channels)).permute(0, 3, 1, 2)


def _multiply_add(pixels: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """Compute pixels * factor + offset in the dtype of `factor`, with one new tensor.

    One thread works on some images at a time, which then stay in the cache over the three operations; several threads
    would meet at each of these many small ones, and wait long for one another where the processor is shared.
    """
    if pixels.dtype == torch.uint8 and pixels.device.type == "cpu" and torch.get_num_threads() == 1:
        out, some = torch.empty(pixels.shape, dtype=factor.dtype), max(1, CACHED // max(1, pixels[:1].numel()))
        for part, source in zip(out.split(some), pixels.split(some), strict=True):
            part.copy_(source).mul_(factor).add_(offset)
        return out
    converted = pixels.to(factor.dtype)
    scaled = converted * factor if converted is pixels else converted.mul_(factor)
    return scaled.add_(offset)

"""Bring images from pixel values to the space that networks see, and back."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ddlight.views._tensors import beside

CACHED = 2**18
"""Numbers that are worked on at once where they are to stay in a CPU's cache: 1 MB of float32."""


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Compute (x - mean) / std per channel of images in [0, 1], where uint8 images count as x = value / 255.

    Agrees with `ToTensor` followed by `Normalize` to 2e-6 in float32. The memory format is changed first, while
    pixels are bytes: the result is contiguous, float32 for bytes and of the images' own dtype otherwise.
    """
    unit = 255.0 if images.dtype == torch.uint8 else 1.0
    scale = [1 / (unit * s) for s in std]
    shift = [-m / s for m, s in zip(mean, std, strict=True)]
    return _affine(images.contiguous(), scale, shift).to(torch.float32 if unit > 1 else images.dtype)


def denormalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Undo `normalise`: x std + mean, in [0, 1] for real images, not clamped, in the images' memory format."""
    return _affine(images, std, mean).to(images.dtype)


def _affine(images: Tensor, scale: Sequence[float], shift: Sequence[float]) -> Tensor:
    """Compute x scale + shift per channel in float32 or wider, in a new tensor.

    One thread works on some images at a time, which then stay in the cache over the three operations; several threads
    would meet at each of these many small ones, and wait long for one another where the processor is shared.
    """
    wide = torch.promote_types(images.dtype, torch.float32)
    factor, offset = (beside(numbers, images, wide).view(-1, 1, 1) for numbers in (scale, shift))
    if images.dtype == torch.uint8 and images.device.type == "cpu" and torch.get_num_threads() == 1:
        out, count = torch.empty(images.shape, dtype=wide), max(1, CACHED // max(1, images[:1].numel()))
        for part, source in zip(out.split(count), images.split(count), strict=True):
            part.copy_(source).mul_(factor).add_(offset)
        return out
    converted = images.to(wide)
    scaled = converted * factor if converted is images else converted.mul_(factor)
    return scaled.add_(offset)

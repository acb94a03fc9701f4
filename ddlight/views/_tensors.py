"""What the steps of a view share: parameters drawn in numpy become tensors beside the images."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def beside(values: np.ndarray | Sequence[float], images: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Copy `values` to the device of `images`, without waiting for it, in `dtype` or that of `images`."""
    return torch.tensor(values, dtype=dtype or images.dtype).to(images.device, non_blocking=True)


def per_image(values: np.ndarray, images: Tensor) -> Tensor:
    """Copy one number per image to where the images are, shape (B, 1, 1, 1) or (1, 1, 1, 1) for a shared one."""
    return beside(np.reshape(values, (-1, 1, 1, 1)), images)


def inside_boxes(boxes: np.ndarray, images: Tensor) -> Tensor:
    """Which pixels lie in their image's box: booleans (B, 1, H, W), or (1, 1, H, W) for a shared box.

    Boxes are whole numbers (B, 4) or (1, 4): first row, end row, first column, end column, ends left out.
    """
    top, bottom, left, right = beside(boxes.T, images, torch.long).view(4, -1, 1, 1, 1)
    row = torch.arange(images.shape[2], device=images.device)[:, None]
    column = torch.arange(images.shape[3], device=images.device)
    return (row >= top) & (row < bottom) & (column >= left) & (column < right)


def needs_float(images: Tensor, what: str) -> None:
    """Raise TypeError where images are not floating point."""
    if not images.is_floating_point():
        raise TypeError(f"{what} works on floating-point images, not on {images.dtype}: divide by 255 first.")

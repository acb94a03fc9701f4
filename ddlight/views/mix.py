"""CutMix and mixup of a batch with its partners; the box or weight is drawn beforehand, for the batch or per image."""

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

from ddlight.core.errors import UsageError
from ddlight.views._tensors import inside_boxes, needs_float, per_image

CUTMIX_UNIFORMS = 3
"""Uniform numbers that one call of `cutmix_draw` takes per box."""


def beta_draw(u: np.ndarray, alpha: float) -> np.ndarray:
    """Turn uniform numbers into draws of Beta(alpha, alpha), by the inverse of its distribution function.

    Raises UsageError where `alpha` is not positive.
    """
    if not alpha > 0:
        raise UsageError(f"alpha of CutMix or mixup is {alpha}; it must be > 0, for example alpha: 1.0.")
    return np.asarray(betaincinv(alpha, alpha, u))


def cutmix_box(u: np.ndarray, lam: np.ndarray | float, size: int) -> np.ndarray:
    """Compute CutMix boxes: area about 1 - lam of the image, centre uniform, clipped at the border.

    Source: CutMix (arXiv 1905.04899, algorithm A1) as every decoupled method codes it: the cut side is
    int(size sqrt(1 - lam)), and the box reaches half of it, rounded down, to both sides of the centre.

    Args:
        u: uniform numbers in [0, 1), shape (..., 2): centre row, centre column.
        lam: nominal share of the image that stays, in [0, 1], shape (...).
        size: side of the images in pixels.

    Returns:
        int64 array (..., 4): first row, end row, first column, end column; an end is not part of the box.
    """
    half = (size * np.sqrt(1 - np.asarray(lam))).astype(np.int64) // 2
    row, column = np.moveaxis(np.floor(np.asarray(u) * size).astype(np.int64), -1, 0)
    return np.clip(np.stack([row - half, row + half, column - half, column + half], -1), 0, size)


def cutmix_draw(u: np.ndarray, size: int, alpha: float = 1.0) -> np.ndarray:
    """Draw CutMix boxes as `cutmix_box` returns them, lam ~ Beta(alpha, alpha). Labels are weighted by `kept_fraction`.

    Args:
        u: uniform numbers in [0, 1), shape (..., `CUTMIX_UNIFORMS`): lam, centre row, centre column. One row per
            step gives one box per batch, one row per image one box per image.
        size: side of the images in pixels.
        alpha: both parameters of the beta distribution, > 0.
    """
    return cutmix_box(u[..., 1:], beta_draw(u[..., 0], alpha), size)


def kept_fraction(box: np.ndarray, size: int) -> np.ndarray:
    """Share of pixels that an image keeps of itself, from the clipped box: shape (...) of (..., 4)."""
    rows, columns = box[..., 1] - box[..., 0], box[..., 3] - box[..., 2]
    return 1 - rows * columns / size**2


def cutmix(images: Tensor, partners: Tensor, box: np.ndarray) -> Tensor:
    """Replace a box, (4,) for the batch or (B, 4) for each image, by the same box of the partner: a new batch."""
    if box.ndim == 1:
        top, bottom, left, right = box.tolist()
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = partners[:, :, top:bottom, left:right]
        return mixed
    return torch.where(inside_boxes(box, images), partners, images)


def mixup(images: Tensor, partners: Tensor, lam: np.ndarray | float) -> Tensor:
    """Blend each image with its partner: lam image + (1 - lam) partner, `lam` one number for the batch or (B,).

    Source: mixup (arXiv 1710.09412, equation 1). Raises TypeError where the images are not floating point.
    """
    needs_float(images, "Mixup")
    return torch.lerp(partners, images, per_image(np.asarray(lam), images))

"""RDED's patch shuffling: permute the vertical strips of an image, then its horizontal strips."""

import numpy as np
import torch
from torch import Tensor

from ddlight.core.errors import UsageError
from ddlight.views._tensors import beside


def patch_orders(u: np.ndarray, factor: int) -> np.ndarray:
    """Orders of strips for `shuffle_patches`, every permutation equally likely: int64 (..., 2, factor).

    Uniform numbers (..., 2 * factor) are for the vertical strips, then for the horizontal ones.
    """
    return np.argsort(u.reshape(*u.shape[:-1], 2, factor), axis=-1, kind="stable")


def shuffle_patches(images: Tensor, factor: int, orders: np.ndarray) -> Tensor:
    """Permute `factor` vertical strips of each image (B, C, H, W), then `factor` horizontal strips.

    `orders` (B, 2, factor) says which vertical and which horizontal strip comes to each place.

    Source: RDED (arXiv 2312.03526), `ShufflePatches` of its repository (LINs-lab/RDED). Rows and columns are permuted
    as wholes: factor 2 has 4 arrangements, not 24. A strip is side // factor pixels wide and the last one takes what
    remains, so that a side which `factor` does not divide works as it does there. Raises UsageError where `factor` is
    below 1 or above the side of the images.
    """
    side = min(images.shape[2:])
    if not 1 <= factor <= side:
        raise UsageError(
            f"factor of the patch shuffling is {factor}; images of {side} px can be cut into 1 to {side} strips. "
            "RDED uses factor: 2 for mosaics of 2 x 2 patches and factor: 1 for whole images."
        )
    if factor == 1:
        return images
    return _shuffle_strips(_shuffle_strips(images, orders[:, 0], -1), orders[:, 1], -2)


def _shuffle_strips(images: Tensor, orders: np.ndarray, dim: int) -> Tensor:
    """Put the strips along `dim` into the order (B, factor) of each image, one order of the batch after another."""
    factor, side = orders.shape[1], images.shape[dim]
    widths = [side // factor] * (factor - 1) + [side - side // factor * (factor - 1)]
    kinds, kind = np.unique(orders, axis=0, return_inverse=True)
    members = [np.flatnonzero(kind.reshape(-1) == k) for k in range(len(kinds))]
    shuffled = []
    for order, rows in zip(kinds.tolist(), members, strict=True):
        strips = images.index_select(0, beside(rows, images, torch.long)).split(widths, dim)
        shuffled.append(torch.cat([strips[i] for i in order], dim))
    back = np.argsort(np.concatenate(members))
    return torch.cat(shuffled).index_select(0, beside(back, images, torch.long))

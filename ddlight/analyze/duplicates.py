"""Which images of a set are in the real test split, or nearly so: a set that holds test images tests memory."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ddlight.analyze.coverage import Nearest


@dataclass(frozen=True)
class Pair:
    """An image of a set and a real one that is like it."""

    image: int  # position in the set
    real: int  # position in the split
    cosine: float | None  # of their features; None where no network looked
    exact: bool  # whether every pixel is the same


def digests(images: Tensor) -> list[bytes]:
    """Hash of each image's pixels at 256 levels.

    Args:
        images: uint8, or float in [0, 1] (rounded, and cut where they leave it); (n, C, H, W).
    """
    levels = images if images.dtype == torch.uint8 else images.mul(255).round().clamp(0, 255).to(torch.uint8)
    return [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in levels.cpu().numpy()]


def places(hashes: Iterable[bytes]) -> dict[bytes, list[int]]:
    """Positions of each hash."""
    positions: dict[bytes, list[int]] = defaultdict(list)
    for position, content in enumerate(hashes):
        positions[content].append(position)
    return dict(positions)


def exact_pairs(hashes: Sequence[bytes], real: Mapping[bytes, Sequence[int]]) -> list[tuple[int, int]]:
    """Every image of a set (by its hash) and real image (by its place among the hashes) that have the same pixels."""
    return [(image, position) for image, content in enumerate(hashes) for position in real.get(content, ())]


def near_pairs(near: Nearest, threshold: float) -> dict[tuple[int, int], float]:
    """Each image with the real one nearest to it, where the cosine of their features is at least `threshold`."""
    images = torch.nonzero(near.cosines >= threshold).flatten()
    pairs = zip(images.tolist(), near.where[images].tolist(), strict=True)
    return dict(zip(pairs, near.cosines[images].tolist(), strict=True))


def merge(exact: Iterable[tuple[int, int]], near: Mapping[tuple[int, int], float]) -> list[Pair]:
    """Pairs that are either, in the set's order; an exact one that is not the nearest has no cosine."""
    same = set(exact)
    return [Pair(*pair, near.get(pair), pair in same) for pair in sorted(same | set(near))]

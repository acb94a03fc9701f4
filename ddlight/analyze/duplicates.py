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
    """An image of a set and a real one that is like it.

    Attributes:
        image: position in the set.
        real: position in the split.
        cosine: of their features; None where no network looked.
        exact: whether every pixel is the same.
    """

    image: int
    real: int
    cosine: float | None
    exact: bool


def digests(images: Tensor) -> list[bytes]:
    """Hash of each image's pixels at 256 levels.

    Args:
        images: uint8, or float in [0, 1] (rounded, and cut where they leave it); (n, C, H, W).
    """
    levels = images if images.dtype == torch.uint8 else images.mul(255).round().clamp(0, 255).to(torch.uint8)
    return [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in levels.cpu().numpy()]


def places(hashes: Iterable[bytes]) -> dict[bytes, list[int]]:
    """Positions of each hash."""
    found: dict[bytes, list[int]] = defaultdict(list)
    for position, content in enumerate(hashes):
        found[content].append(position)
    return dict(found)


def exact_pairs(own: Sequence[bytes], real: Mapping[bytes, Sequence[int]]) -> list[tuple[int, int]]:
    """Every image of a set and real image that have the same pixels.

    Args:
        own: hashes of the set's images.
        real: positions of the real ones' hashes.
    """
    return [(image, position) for image, content in enumerate(own) for position in real.get(content, ())]


def near_pairs(found: Nearest, threshold: float) -> dict[tuple[int, int], float]:
    """Each image with the real one nearest to it, where the cosine of their features is at least `threshold`."""
    images = torch.nonzero(found.cosines >= threshold).flatten()
    pairs = zip(images.tolist(), found.where[images].tolist(), strict=True)
    return dict(zip(pairs, found.cosines[images].tolist(), strict=True))


def merge(exact: Iterable[tuple[int, int]], near: Mapping[tuple[int, int], float]) -> list[Pair]:
    """Pairs that are either, in the set's order; an exact one that is not the nearest has no cosine."""
    same = set(exact)
    return [Pair(*pair, near.get(pair), pair in same) for pair in sorted(same | set(near))]

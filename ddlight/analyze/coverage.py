"""Representativeness and diversity of a set in features of length 1: both readings of the definition, in chunks.

Source: arXiv 2606.18209, whose formulas are not printed; it names its metrics after ManifoldGD
(`representativeness_diversity.py`). With S the set, V the real images and f features of length 1:

* minimax, as that code: Rep = min_s max_v cos(f(s), f(v)); Div = 1 - max_{s != s'} cos(f(s), f(s')). This Rep is low
  where one image of S is unlike all real ones, and says nothing of real images that no s is near.
* mean coverage, as the paper's words: Rep = mean_v max_s cos(f(s), f(v)); Div = 1 - mean_{s != s'} cos(f(s), f(s')).

The paper takes both class by class and averages over classes; the code pools all classes.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

PAIRS = 2**24
"""Cosines that are held at once: 64 MB."""


@dataclass(frozen=True)
class Nearest:
    """How near images of a set and real ones are to each other."""

    cosines: Tensor  # float (n,): of each image of the set to the real image nearest to it
    where: Tensor  # int64 (n,): which that is
    covered: Tensor  # float (m,): cosine of each real image to the image of the set nearest to it


@dataclass(frozen=True)
class Spread:
    """Representativeness and diversity: of minimax form, and of mean coverage. Cosines in [-1, 1], and 1 minus them.

    Diversity of fewer than two images is nan.
    """

    rep_minimax: float
    div_minimax: float
    rep_cov: float
    div_mean: float


def unit_length(features: Tensor) -> Tensor:
    """Feature vectors (n, D) divided by their Euclidean length, in float32; a zero vector stays zero."""
    return F.normalize(features.float(), dim=1)


def nearest(images: Tensor, real: Tensor, pairs: int = PAIRS) -> Nearest:
    """Find the nearest real image of each image and the other way round, holding `pairs` cosines or one row of them.

    Args:
        images: of the set, of length 1, (n, D), n at least 1.
        real: of length 1, (m, D), m at least 1, on the same device.
        pairs: cosines in memory.
    """
    covered = images.new_full((len(real),), -math.inf)
    cosines, where = [], []
    for part in images.split(max(1, pairs // len(real))):
        block = part @ real.T  # (rows, m)
        best = block.max(1)
        cosines.append(best.values)
        where.append(best.indices)
        covered = torch.maximum(covered, block.amax(0))
    return Nearest(torch.cat(cosines), torch.cat(where), covered)


def closest_two(images: Tensor, pairs: int = PAIRS) -> float:
    """Largest cosine of two different images of length 1, (n, D); nan where there are fewer than two."""
    if len(images) < 2:
        return math.nan
    best, rows = -math.inf, max(1, pairs // len(images))
    for start in range(0, len(images), rows):
        block = images[start : start + rows] @ images.T
        block.diagonal(start).fill_(-math.inf)
        best = max(best, float(block.max()))
    return min(best, 1.0)  # equal images, but for rounding


def mean_cosine(images: Tensor) -> float:
    """Mean cosine of two different images of length 1, (n, D); nan where there are fewer than two.

    (|sum_s f(s)|^2 - sum_s |f(s)|^2) / (n (n - 1)): no matrix of cosines is formed.
    """
    count = len(images)
    if count < 2:
        return math.nan
    total, diagonal = images.sum(0, dtype=torch.float64), images.square().sum(dtype=torch.float64)
    return float((total.square().sum() - diagonal) / (count * (count - 1)))


def spread(images: Tensor, near: Nearest, pairs: int = PAIRS) -> Spread:
    """Representativeness and diversity of images of length 1, (n, D), of which the nearest real ones are `near`."""
    return Spread(
        rep_minimax=float(near.cosines.min()),
        div_minimax=1 - closest_two(images, pairs),
        rep_cov=float(near.covered.mean(dtype=torch.float64)),
        div_mean=1 - mean_cosine(images),
    )


def per_class(
    images: Tensor, labels: np.ndarray, real: Tensor, real_labels: np.ndarray, pairs: int = PAIRS
) -> list[Spread]:
    """Representativeness and diversity within each class that has images on both sides, in class order.

    Args:
        images: of the set, of length 1, (n, D).
        labels: their classes, int64 (n,).
        real: of length 1, (m, D).
        real_labels: their classes, int64 (m,).
        pairs: cosines in memory.
    """
    spreads = []
    for label in np.intersect1d(labels, real_labels).tolist():
        mine, others = (torch.from_numpy(np.flatnonzero(of == label)) for of in (labels, real_labels))
        spreads.append(spread(images[mine], nearest(images[mine], real[others], pairs), pairs))
    return spreads


def average(spreads: Sequence[Spread]) -> Spread:
    """Mean over classes, each number over those classes where it is defined; nan where it is so in none."""
    columns = zip(*map(astuple, spreads), strict=True)
    defined = [[value for value in column if not math.isnan(value)] for column in columns]
    means = [math.fsum(column) / len(column) if column else math.nan for column in defined]
    return Spread(*means) if means else Spread(*[math.nan] * 4)

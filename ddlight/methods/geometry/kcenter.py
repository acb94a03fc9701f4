"""KCenter: each image as far as can be from those chosen before it."""

from typing import Any, Literal

import numpy as np
from scipy.spatial.distance import cdist

from ddlight.methods.geometry.selector import GeometrySelector
from ddlight.methods.scoring.features import Features
from ddlight.methods.scoring.vectors import Cloud, unit_length

BLOCK = 256
"""Points that are compared exactly at a time."""


def medoid(points: np.ndarray) -> int:
    """The point with the least sum of squared distances to all, which is the one nearest to their mean."""
    return Cloud(points).nearest(points.mean(0, dtype=np.float64), np.ones(len(points), bool))


def kcenter(points: np.ndarray, count: int, first: int) -> np.ndarray:
    """Greedy farthest-first order, within twice the least radius that `count` centres can have.

    Only the distance to the nearest centre is kept, O(n), and each pick costs one matrix-vector product.

    Returns positions among the points (n, D), int64 (count,), `first` first, of which a smaller count gives a prefix.
    """
    cloud, order = Cloud(points), [first]
    nearest, error = np.full(len(points), np.inf), np.zeros(len(points))
    while len(order) < count:
        distances, wrong = cloud.about(points[order[-1]].astype(np.float64))
        nearest, error = np.minimum(nearest, distances), np.maximum(error, wrong)
        nearest[order[-1]] = -np.inf
        rows = np.flatnonzero(nearest + error >= (nearest - error).max())
        order.append(int(rows[0]) if len(rows) == 1 else _farthest(points, rows, order))
    return np.array(order, np.int64)


def _farthest(points: np.ndarray, rows: np.ndarray, centres: list[int]) -> int:
    """The first of `rows` whose nearest centre is farthest, in float64."""
    blocks = np.split(rows, range(BLOCK, len(rows), BLOCK))
    nearest = [cdist(points[block], points[centres], "sqeuclidean").min(1) for block in blocks]
    return int(rows[np.concatenate(nearest).argmax()])


class KCenter(GeometrySelector):
    """Images of each class, each farthest from those before it, so that none of the class is far from all of them.

    Paper: arXiv 1708.00489, Algorithm 1 (k-Center-Greedy), within each class as DeepCore (arXiv 2204.08499) has it.
    At few images per class it picks outliers; KMeans is what arXiv 2604.18811 seems to mean by K-centers.

    Args:
        start: the first image: "medoid", the one nearest to the class mean, or "random", as DeepCore has it.
        metric: "euclidean", or "cosine": Euclidean between features at length 1, which orders as the angle does.
    """

    def __init__(
        self,
        *args: Any,
        start: Literal["medoid", "random"] = "medoid",
        metric: Literal["euclidean", "cosine"] = "euclidean",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.start, self.metric = start, metric

    def order(self, images: Features, count: int, rng: np.random.Generator) -> np.ndarray:
        """Farthest-first order; images come in a drawn order, so the first of them is a random start."""
        points = unit_length(images.features) if self.metric == "cosine" else images.features
        return kcenter(points, count, medoid(points) if self.start == "medoid" else 0)

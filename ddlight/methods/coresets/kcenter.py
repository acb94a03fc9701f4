"""KCenter: each image as far as can be from those chosen before it."""

import numpy as np
from scipy.spatial.distance import cdist

from ddlight.methods.geometry import Cloud

BLOCK = 256
"""Points that are compared exactly at a time."""


def medoid(points: np.ndarray) -> int:
    """The point with the least sum of squared distances to all, which is the one nearest to their mean."""
    return Cloud(points).nearest(points.mean(0, dtype=np.float64), np.ones(len(points), bool))


def kcenter(points: np.ndarray, count: int, first: int) -> np.ndarray:
    """Greedy farthest-first order, within twice the least radius that `count` centres can have.

    Only the distance to the nearest centre is kept, O(n), and each pick costs one matrix-vector product.

    Args:
        points: float32 or float64 (n, D).
        count: at most n.
        first: position of the first centre.

    Returns:
        int64 (count,): positions; a smaller count gives a prefix.
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

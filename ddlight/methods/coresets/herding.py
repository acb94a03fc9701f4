"""Herding: images whose running mean follows the class mean."""

import numpy as np

from ddlight.methods.geometry import Cloud


def herding(points: np.ndarray, count: int) -> np.ndarray:
    """Greedy order in which the mean of the chosen stays near the mean of all.

    Pick i is the x that is nearest to (i + 1) mu - sum of those chosen before, which makes the next mean nearest to mu.

    Args:
        points: float32 or float64 (n, D).
        count: at most n.

    Returns:
        int64 (count,): positions; a smaller count gives a prefix.
    """
    cloud, mean = Cloud(points), points.mean(0, dtype=np.float64)
    free, place, order = np.ones(len(points), bool), np.zeros_like(mean), []
    for _ in range(count):
        place += mean
        order.append(cloud.nearest(place, free))
        place -= points[order[-1]]
        free[order[-1]] = False
    return np.array(order, np.int64)

"""Herding: images whose running mean follows the class mean."""

from typing import Any

import numpy as np

from ddlight.methods.geometry.selector import GeometrySelector
from ddlight.methods.scoring.features import Features
from ddlight.methods.scoring.vectors import Cloud, unit_length


def herding(points: np.ndarray, count: int) -> np.ndarray:
    """Greedy order in which the mean of the chosen stays near the mean of all.

    Pick i is the x that is nearest to (i + 1) mu - sum of those chosen before, which makes the next mean nearest to mu.

    Returns positions among the points (n, D), int64 (count,), of which a smaller count gives a prefix.
    """
    cloud, mean = Cloud(points), points.mean(0, dtype=np.float64)
    free, place, order = np.ones(len(points), bool), np.zeros_like(mean), []
    for _ in range(count):
        place += mean
        order.append(cloud.nearest(place, free))
        place -= points[order[-1]]
        free[order[-1]] = False
    return np.array(order, np.int64)


class Herding(GeometrySelector):
    """Images of each class whose running mean of features follows the class mean.

    Paper: Welling, Herding dynamical weights to learn, ICML 2009; for exemplars in iCaRL, arXiv 1611.07725, Alg. 4.
    Deviation: DeepCore (arXiv 2204.08499) takes the farthest image where herding takes the nearest; its "Herding" is
    worse than random for that reason and is not offered.

    Args:
        normalise: features at length 1, as iCaRL has them; false takes them as they are, as DeepCore does.
    """

    def __init__(self, *args: Any, normalise: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.normalise = normalise

    def order(self, images: Features, count: int, rng: np.random.Generator) -> np.ndarray:
        """Herding order."""
        return herding(unit_length(images.features) if self.normalise else images.features, count)

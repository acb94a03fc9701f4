"""KMeans: the image nearest to each of ipc cluster centres of its class."""

import warnings
from typing import Any

import numpy as np
from sklearn.cluster import KMeans as Clustering
from sklearn.exceptions import ConvergenceWarning

from ddlight.core.errors import UsageError
from ddlight.methods.geometry.selector import GeometrySelector
from ddlight.methods.scoring.features import Features
from ddlight.methods.scoring.vectors import Cloud, unit_length


def kmeans_medoids(points: np.ndarray, count: int, n_init: int, seed: int) -> np.ndarray:
    """For each of `count` k-means centres, the largest cluster's first, the nearest point that is not taken yet.

    Returns positions among the points (n, D), int64 (count,); another count gives other clusters, not a prefix.

    Args:
        points: float32 or float64.
        count: clusters, at most n; where there are fewer distinct points, several centres are equal.
        n_init: k-means++ starts, of which the one with the least inertia is kept.
        seed: of the starts.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters
        clusters = Clustering(count, n_init=n_init, random_state=seed).fit(points.astype(np.float64))
    sizes = np.bincount(clusters.labels_, minlength=count)
    cloud, free, order = Cloud(points), np.ones(len(points), bool), []
    for centre in clusters.cluster_centers_[np.argsort(-sizes, kind="stable")]:
        order.append(cloud.nearest(centre, free))
        free[order[-1]] = False
    return np.array(order, np.int64)


class KMeans(GeometrySelector):
    """The image of each class nearest to each of ipc k-means centres, the largest cluster's first.

    Paper: what arXiv 2604.18811 (appendix A.3, "K-centers") seems to mean by cluster centres; k-means++ starts.

    Args:
        n_init: k-means++ starts, of which the best is kept; more cost more and change little.
        spherical: features at length 1, as arXiv 2206.14486 clusters them. Deviation: centres are means of those and
            are not brought to length 1 between iterations.
    """

    def __init__(self, *args: Any, n_init: int = 1, spherical: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if n_init < 1:
            raise UsageError(f"n_init is {n_init}; allowed: 1 or more.")
        self.n_init, self.spherical = n_init, spherical

    def order(self, images: Features, count: int, rng: np.random.Generator) -> np.ndarray:
        """Medoids, by size of their clusters."""
        points = unit_length(images.features) if self.spherical else images.features
        return kmeans_medoids(points, count, self.n_init, int(rng.integers(2**31)))

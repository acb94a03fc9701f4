"""KMeans: the image nearest to each of ipc cluster centres of its class."""

import warnings

import numpy as np
from sklearn.cluster import KMeans as Clustering
from sklearn.exceptions import ConvergenceWarning

from ddlight.methods.geometry import Cloud


def kmeans_medoids(points: np.ndarray, count: int, n_init: int, seed: int) -> np.ndarray:
    """For each of `count` k-means centres, the largest cluster's first, the nearest point that is not taken yet.

    Args:
        points: float32 or float64 (n, D).
        count: clusters, at most n; where there are fewer distinct points, several centres are equal.
        n_init: k-means++ starts, of which the one with the least inertia is kept.
        seed: of the starts.

    Returns:
        int64 (count,): positions. Another count gives other clusters, not a prefix.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters
        found = Clustering(count, n_init=n_init, random_state=seed).fit(points.astype(np.float64))
    sizes = np.bincount(found.labels_, minlength=count)
    cloud, free, order = Cloud(points), np.ones(len(points), bool), []
    for centre in found.cluster_centers_[np.argsort(-sizes, kind="stable")]:
        order.append(cloud.nearest(centre, free))
        free[order[-1]] = False
    return np.array(order, np.int64)

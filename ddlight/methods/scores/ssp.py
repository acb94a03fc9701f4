"""SSP: images near to (or far from) the prototypes of the data."""

from functools import cached_property
from typing import Any, Literal

import numpy as np
from sklearn.cluster import KMeans as Clustering

from ddlight.core.artefact import Unit
from ddlight.core.errors import UsageError
from ddlight.methods.scores.selector import Keep, ScoreSelector
from ddlight.methods.scoring.features import Features
from ddlight.methods.scoring.vectors import unit_length
from ddlight.networks.teachers import Teacher
from ddlight.sets.store import Selection


def cluster_centres(points: np.ndarray, count: int, n_init: int, seed: int) -> np.ndarray:
    """Centres of k-means over all points until none changes its cluster: float64 (count, D).

    Args:
        points: float64 (n, D), every one of which is used.
        count: clusters.
        n_init: k-means++ starts, of which the one with the least inertia is kept.
        seed: of the starts.
    """
    return np.asarray(Clustering(count, n_init=n_init, tol=0, random_state=seed).fit(points).cluster_centers_)


class SSP(ScoreSelector):
    """The images of each class that are nearest to (or farthest from) a prototype by the angle of their features.

    Paper: arXiv 2206.14486: 1 - cos to the nearest centre of k-means over all images, features at length 1. It keeps
    hard images where much is kept, and easy ones where little is, which is the default here.
    Deviation: the paper's features are those of a self-supervised network (SwAV); here they are the scoring run's
    unless `network` is given.

    Args:
        keep: "easy": nearest to a prototype, or "hard".
        network: another network to take features from instead; then nothing is trained.
        prototypes: "clusters", or "classes": the mean of the own class, the paper's supervised prototypes.
        clusters: k of k-means; null takes the number of classes.
        n_init: k-means++ starts, of which the best is kept.
    """

    one_unit = True  # clusters are of all images

    def __init__(
        self,
        *args: Any,
        keep: Keep = "easy",
        network: Teacher | None = None,
        prototypes: Literal["clusters", "classes"] = "clusters",
        clusters: int | None = None,
        n_init: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, keep=keep, **kwargs)
        for name, value in (("clusters", clusters), ("n_init", n_init)):
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; allowed: 1 or more.")
        self.network, self.prototypes, self.clusters, self.n_init = network, prototypes, clusters, n_init

    def make(self, unit: Unit) -> Selection:
        """Select from all classes together, or from each in turn."""
        if self.balance != "ipc":
            return super().make(unit)
        labels = self.dataset.index("train").labels
        parts = [self.select(Unit(c, (c,)), np.flatnonzero(labels == c)) for c in unit.classes]
        return Selection(np.concatenate(parts))

    @cached_property
    def centres(self) -> np.ndarray:
        """Centres of the clusters of all images, at length 1: float64 (k, D)."""
        labels, count = self.dataset.index("train").labels, self.clusters or self.dataset.num_classes
        if count > len(labels):
            raise UsageError(f"clusters is {count:,}, and there are {len(labels):,} images.")
        classes = (self.features.of_class(np.flatnonzero(labels == c), c) for c in range(self.dataset.num_classes))
        points = np.concatenate([unit_length(images.features) for images in classes])
        return unit_length(cluster_centres(points, count, self.n_init, self.seed))

    def scores_of(self, rows: np.ndarray) -> np.ndarray:
        """1 minus the cosine to the nearest prototype: (n,)."""
        return self.features.scores(rows, self._angles)

    def _angles(self, images: Features) -> np.ndarray:
        points = unit_length(images.features)
        centres = self.centres if self.prototypes == "clusters" else unit_length(points.mean(0, keepdims=True))
        return 1 - (points @ centres.T).max(1)

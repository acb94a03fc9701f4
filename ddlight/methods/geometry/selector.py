"""GeometrySelector: what coresets that are an order of one class's images share."""

from abc import abstractmethod

import numpy as np

from ddlight.core.artefact import Unit
from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.methods.scoring.features import Features, FeatureSelector
from ddlight.views.pixels import memory_limit


class GeometrySelector(FeatureSelector):
    """Chooses by an order of one class's images; they come to it in a drawn order, so that files' order breaks no tie.

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of the scoring run, where that has none of its own, and of every draw.
        cache: folder of condensed sets.
        scoring: how the network is trained whose features are taken.
        network: another network to take features from instead; then nothing is trained.
    """

    @abstractmethod
    def order(self, found: Features, count: int, rng: np.random.Generator) -> np.ndarray:
        """Positions of `count` images in `found`, best first: int64 (count,). The first of equal ones goes before."""

    def pick(self, found: Features, count: int, unit: Unit) -> np.ndarray:
        """Choose from the images in a drawn order."""
        rng = generator(self.seed, type(self).__name__, unit.number)
        drawn = rng.permutation(len(found.labels))
        shuffled = Features(found.features[drawn], found.logits[drawn], found.labels[drawn])
        return drawn[self.order(shuffled, count, rng)]

    def require_table(self, found: Features) -> None:
        """Raise UsageError where two float64 for each two images of the class do not fit in memory."""
        n, limit = len(found.labels), memory_limit()
        if 16 * n * n > limit:
            raise UsageError(
                f"{type(self).__name__} compares each two images of a class: {16 * n * n / 1e9:,.0f} GB for the {n:,} "
                f"of class '{self.dataset.info.classes[found.labels[0]]}', allowed: {limit / 1e9:,.0f} GB. GraphCut "
                "needs no such table: --data=GraphCut."
            )

"""GeometrySelector: what coresets that are an order of one class's images share."""

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from ddlight.core.artefact import Unit
from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.methods.base import Selector
from ddlight.methods.scoring.cost import TINY_SCORING
from ddlight.methods.scoring.features import Features
from ddlight.methods.scoring.run import Scoring
from ddlight.networks.teachers import Teacher
from ddlight.views.pixels import memory_limit


class GeometrySelector(Selector):
    """Chooses by an order of one class's images; they come to it in a drawn order, so that files' order breaks no tie.

    Args:
        scoring: how the network is trained whose features or gradients are taken.
        network: another network to take them from instead; then nothing is trained.
    """

    tiny: ClassVar[dict[str, Any]] = {"scoring": TINY_SCORING}

    def __init__(self, *args: Any, scoring: Scoring = Scoring(), network: Teacher | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scoring, self.network = scoring, network

    @abstractmethod
    def order(self, images: Features, count: int, rng: np.random.Generator) -> np.ndarray:
        """Positions of `count` of one class's images, best first: int64 (count,). The first of equal ones goes before.

        Args:
            images: what the network says of them.
            count: how many are chosen, at most all.
            rng: for what a method draws.
        """

    def pick(self, images: Features, count: int, unit: Unit) -> np.ndarray:
        """Choose `count` of the unit's images, which are put in a drawn order first: positions, int64 (count,)."""
        rng = generator(self.seed, type(self).__name__, unit.number)
        drawn = rng.permutation(len(images.labels))
        shuffled = Features(images.features[drawn], images.logits[drawn], images.labels[drawn])
        return drawn[self.order(shuffled, count, rng)]

    def select(self, unit: Unit, candidates: np.ndarray) -> np.ndarray:
        """Choose ipc of one class's images by their features."""
        return candidates[self.pick(self.features.of_class(candidates, unit.classes[0]), self.ipc, unit)]

    def require_table(self, images: Features) -> None:
        """Raise UsageError where two float64 for each two images of the class do not fit in memory."""
        n, limit = len(images.labels), memory_limit()
        if 16 * n * n > limit:
            raise UsageError(
                f"{type(self).__name__} compares each two images of a class: {16 * n * n / 1e9:,.0f} GB for the {n:,} "
                f"of class '{self.dataset.info.classes[images.labels[0]]}', allowed: {limit / 1e9:,.0f} GB. GraphCut "
                "needs no such table: --data=GraphCut."
            )

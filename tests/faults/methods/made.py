"""Methods that make sets of every kind on disk within milliseconds, for the fault harness."""

import time

import numpy as np

from ddlight.core.artefact import Unit
from ddlight.methods.base import Synthesiser
from ddlight.sets.store import Synthesis

PAUSE = 0.01
"""Seconds that a unit takes beyond its arithmetic, so that stops and races meet unfinished sets."""


class Averages(Synthesiser):
    """Means of pairs of images with soft labels: a set of tensors.

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: images of each class that are left out at its beginning.
        cache: folder of condensed sets.
    """

    label_kind = "probabilities"

    def estimate_seconds(self) -> float:
        """Nothing to speak of."""
        return 0.0

    def _pairs(self, unit: Unit) -> np.ndarray:
        time.sleep(PAUSE)
        found = np.flatnonzero(self.dataset.index("train").labels == unit.classes[0])
        found = found[self.seed :][: 2 * self.ipc]
        images = self.dataset.take("train", found).astype(np.float32) / 255
        return images.reshape(self.ipc, 2, *images.shape[1:]).mean(axis=1)

    def make(self, unit: Unit) -> Synthesis:
        """Average pairs of the unit's class."""
        labels = np.full((self.ipc, self.dataset.num_classes), 0.01, np.float32)
        labels[:, unit.classes[0]] = 0.91
        return Synthesis(self._pairs(unit), labels, 2 * self.ipc)


class Pictures(Averages):
    """The same means as 8-bit pictures of one class each: a set of PNG files."""

    label_kind = "hard"

    def make(self, unit: Unit) -> Synthesis:
        """Average pairs of the unit's class and round."""
        images = np.rint(self._pairs(unit) * 255).astype(np.uint8)
        return Synthesis(images, np.full(self.ipc, unit.classes[0]), 2 * self.ipc)

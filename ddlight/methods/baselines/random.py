"""Random: the same number of images of each class, drawn uniformly without replacement."""

import numpy as np

from ddlight.core.artefact import Unit
from ddlight.core.randomness import generator
from ddlight.methods.base import Selector


class Random(Selector):
    """A uniform draw of ipc images per class, another one for each seed.

    Paper: arXiv 2006.05929 (baseline of Table 1).
    """

    def select(self, unit: Unit, candidates: np.ndarray) -> np.ndarray:
        """Draw ipc of the candidates."""
        return generator(self.seed, "random", unit.number).permutation(candidates)[: self.ipc]

"""Random: the same number of images of each class, drawn uniformly without replacement.

Paper: the baseline of every coreset and distillation paper; a fresh draw per seed (arXiv 2006.05929, Table 1).
"""

import numpy as np

from ddlight.core.artefact import Unit
from ddlight.core.randomness import generator
from ddlight.methods.base import Selector


class Random(Selector):
    """A uniform draw of ipc images per class.

    Paper: arXiv 2006.05929 (baseline of Table 1).

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of the draw; another seed is another set.
        cache: folder of condensed sets.
    """

    def select(self, unit: Unit, candidates: np.ndarray) -> np.ndarray:
        """Draw ipc of the candidates."""
        return generator(self.seed, "random", unit.number).permutation(candidates)[: self.ipc]

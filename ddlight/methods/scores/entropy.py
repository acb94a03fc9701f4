"""Entropy: images that the trained network is undecided about."""

import numpy as np

from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring.table import ScoreTable


class Entropy(ScoreSelector):
    """The images of each class with the largest entropy of the trained network's answer.

    Paper: uncertainty selection of arXiv 1906.11829, as in DeepCore (arXiv 2204.08499).
    """

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """Entropy in nats, at the end of the run: (N,)."""
        return table["clean.entropy"]

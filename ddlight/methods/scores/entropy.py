"""Entropy: images that the trained network is undecided about."""

import numpy as np

from ddlight.methods.scores.selector import ScoredSelector
from ddlight.methods.scoring import scores
from ddlight.methods.scoring.table import ScoreTable


class Entropy(ScoredSelector):
    """The images of each class with the largest entropy of the trained network's answer.

    Its arguments are those of every score: `ScoredSelector`.

    Paper: uncertainty selection of arXiv 1906.11829, as in DeepCore (arXiv 2204.08499).
    """

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """Entropy in nats: (N,)."""
        return scores.entropy(table)

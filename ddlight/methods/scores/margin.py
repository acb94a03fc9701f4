"""Margin: images between two classes."""

import numpy as np

from ddlight.methods.scores.selector import ScoredSelector
from ddlight.methods.scoring import scores
from ddlight.methods.scoring.table import ScoreTable


class Margin(ScoredSelector):
    """The images of each class with the smallest gap between the trained network's two largest probabilities.

    Its arguments are those of every score: `ScoredSelector`.

    Paper: uncertainty selection of arXiv 1906.11829, as in DeepCore (arXiv 2204.08499).
    """

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """Less the gap: (N,)."""
        return scores.margin(table)

"""Margin: images between two classes."""

import numpy as np

from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring.table import ScoreTable


class Margin(ScoreSelector):
    """The images of each class with the smallest gap between the trained network's two largest probabilities.

    Paper: uncertainty selection of arXiv 1906.11829, as in DeepCore (arXiv 2204.08499).
    """

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """Minus the gap, at the end of the run: (N,)."""
        return -table["clean.top_margin"]

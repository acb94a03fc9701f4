"""LeastConfidence: images whose largest probability is small."""

import numpy as np

from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring.table import ScoreTable


class LeastConfidence(ScoreSelector):
    """The images of each class with the smallest largest probability of the trained network.

    Paper: uncertainty selection of arXiv 1906.11829, as in DeepCore (arXiv 2204.08499).
    Deviation: DeepCore's code ranks by the largest logit, whose size differs from image to image apart from confidence.
    """

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """1 minus the largest probability, at the end of the run: (N,)."""
        return table["clean.least_confidence"]

"""AUM: images whose class wins by little, or loses, on average over training."""

from typing import Any, Literal

import numpy as np

from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring.table import ScoreTable

MarginSpace = Literal["prob", "logit"]


def aum(table: ScoreTable, space: MarginSpace = "prob") -> np.ndarray:
    """Minus the margin between the image's class and the best other one, mean over all passes: (N,)."""
    return -table[f"train.aum_{space}"]


class AUM(ScoreSelector):
    """The images of each class with the smallest area under the margin.

    Paper: arXiv 2001.10528; as a coreset score, with margins of probabilities, arXiv 2210.15809.

    Args:
        margin_space: margins of probabilities ("prob", as CCS) or of logits ("logit", as AUM itself).
    """

    def __init__(self, *args: Any, margin_space: MarginSpace = "prob", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.margin_space = margin_space

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """Minus the mean margin: (N,)."""
        return aum(table, self.margin_space)

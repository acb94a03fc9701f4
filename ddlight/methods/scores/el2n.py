"""EL2N: images whose answer is far from the class early in training."""

from typing import Any

import numpy as np

from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring import scores
from ddlight.methods.scoring.scores import Signal
from ddlight.methods.scoring.table import ScoreTable


class EL2N(ScoreSelector):
    """The hardest (or easiest) images of each class by the norm of softmax minus one-hot.

    Paper: arXiv 2107.07075. EL2N-easy and EL2N-hard of arXiv 2604.18811 are `keep`.
    Deviation: the paper averages ten networks; one scoring run is one network, and another seed is another one.

    Args:
        signal: "clean": one pass over the images as they are, as published; "train": mean over the first
            `scoring.early` passes' augmented views, as CCS has it.
        at: "clean" only: the first clean pass at or after this fraction of the run (epoch 20 of 200 is 0.1).
    """

    def __init__(self, *args: Any, signal: Signal = "clean", at: float = 0.1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.signal, self.at = signal, at

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """EL2N: (N,)."""
        return scores.el2n(table, self.signal, self.at)

"""EL2N: images whose answer is far from the class early in training."""

from typing import Any, Literal

import numpy as np

from ddlight.core.errors import UsageError
from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring.table import ScoreTable

Signal = Literal["train", "clean"]


def el2n(table: ScoreTable, signal: Signal = "clean", at: float = 0.1) -> np.ndarray:
    """|softmax - one-hot|: (N,).

    Args:
        table: of a scoring run.
        signal: "clean", as published: one pass over the images as they are, early in the run; "train": mean over the
            first `early` passes' views, as CCS has it.
        at: which clean pass: the first at or after this fraction of the run.
    """
    if signal == "train":
        return table["train.el2n"]
    history = table["clean.el2n"]
    return np.asarray(history[reading(len(history), at)])


def reading(readings: int, at: float) -> int:
    """Number of the first clean pass at or after a fraction `at` of the run, of `readings` equally spaced ones."""
    if not 0 < at <= 1:
        raise UsageError(f"at is a fraction of the scoring run, above 0 and at most 1; given: {at}.")
    return min(readings - 1, int(np.ceil(round(at * readings, 9))) - 1)


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
        return el2n(table, self.signal, self.at)

"""DynUnc: images whose probability moves most during training."""

from typing import Any

import numpy as np

from ddlight.core.errors import UsageError
from ddlight.methods.scores.el2n import Signal
from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring.table import ScoreTable


def window_std(history: np.ndarray, window: int) -> np.ndarray:
    """Sample standard deviation (ddof 1) over each window of rows in a row: (K - window + 1, N).

    Args:
        history: (K, N).
        window: 2 to K.

    Raises:
        UsageError: there are too few readings.
    """
    if not 2 <= window <= len(history):
        raise UsageError(
            f"A window of {window} does not fit into {len(history)} clean passes; allowed: 2 to {len(history)}. "
            "Give the scoring run more of them: --data.scoring.clean=..."
        )
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(history, np.float64), window, axis=0)
    return np.asarray(windows.std(axis=-1, ddof=1))


def dyn_unc(table: ScoreTable, signal: Signal = "train", window: int = 10) -> np.ndarray:
    """Mean over windows of the std of the own class's probability: (N,).

    Args:
        table: of a scoring run.
        signal: "train": windows of `ring` passes, all of them; "clean": windows over the clean passes, of which the
            last one is left out as in the authors' code.
        window: J, clean passes in a window.
    """
    if signal == "train":
        return table["train.dyn_unc"]
    history = table["clean.prob_true"]
    return window_std(history[:-1], min(window, len(history) - 1)).mean(0)


class DynUnc(ScoreSelector):
    """The images of each class with the largest dynamic uncertainty.

    Paper: arXiv 2306.05175.
    Deviation: by default the windows are those of the run's own augmented views, which cost no passes beside it and are
    what all scores of one run share; the paper reads clean images after each epoch (`signal: clean`).

    Args:
        signal: "clean": windows over the clean passes, as published (`scoring.clean` says how many there are);
            "train": windows of `scoring.ring` passes of augmented views.
        window: "clean" only: J, clean passes in a window; fewer where the run makes fewer.
    """

    def __init__(self, *args: Any, signal: Signal = "train", window: int = 10, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.signal, self.window = signal, window

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """Dyn-Unc: (N,)."""
        return dyn_unc(table, self.signal, self.window)

"""DynUnc: images whose probability moves most during training."""

from typing import Any

import numpy as np

from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring import scores
from ddlight.methods.scoring.scores import Signal
from ddlight.methods.scoring.table import ScoreTable


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
        return scores.dyn_unc(table, self.signal, self.window)

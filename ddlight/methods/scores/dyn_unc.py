"""DynUnc: images whose probability moves most during training."""

import numpy as np

from ddlight.data.base import RealDataset
from ddlight.methods.scores.selector import Keep, ScoredSelector
from ddlight.methods.scoring import scores
from ddlight.methods.scoring.run import Scoring
from ddlight.methods.scoring.samplers import Balance
from ddlight.methods.scoring.scores import Signal
from ddlight.methods.scoring.table import ScoreTable


class DynUnc(ScoredSelector):
    """The images of each class with the largest dynamic uncertainty.

    Paper: arXiv 2306.05175.
    Deviation: by default the windows are those of the run's own augmented views, which cost no passes beside it and are
    what all scores of one run share; the paper reads clean images after each epoch (`signal: clean`).

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of the scoring run, where that has none of its own, and of every draw.
        cache: folder of condensed sets.
        scoring: how the network that scores is trained.
        balance: "ipc" takes exactly ipc images of each class; "proportional", "floor" (half of an even share for each
            class, the rest over all) and "none" take ipc x classes images in all.
        keep: "hard" or "easy" end of the ranking.
        signal: "clean": windows over the clean passes, as published (`scoring.clean` says how many there are);
            "train": windows of `scoring.ring` passes of augmented views.
        window: "clean" only: J, clean passes in a window; fewer where there are not so many.
    """

    def __init__(
        self,
        dataset: RealDataset,
        ipc: int = 10,
        seed: int = 0,
        cache: str | None = None,
        scoring: Scoring = Scoring(),  # noqa: B008  frozen
        balance: Balance = "ipc",
        keep: Keep = "hard",
        signal: Signal = "train",
        window: int = 10,
    ) -> None:
        super().__init__(dataset, ipc, seed, cache, scoring, balance, keep)
        self.signal, self.window = signal, window

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """Dyn-Unc: (N,)."""
        return scores.dyn_unc(table, self.signal, self.window)

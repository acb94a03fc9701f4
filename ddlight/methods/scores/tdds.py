"""TDDS: images whose answer changes most unevenly from pass to pass."""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ddlight.core.errors import UsageError
from ddlight.data.base import RealDataset
from ddlight.methods.scores.selector import Keep, ScoredSelector
from ddlight.methods.scoring import scores
from ddlight.methods.scoring.run import Scoring
from ddlight.methods.scoring.samplers import Balance
from ddlight.methods.scoring.selector import TINY_SCORING
from ddlight.methods.scoring.table import ScoreTable


class TDDS(ScoredSelector):
    """The images of each class whose answer's change from pass to pass varies most within windows, late ones first.

    Paper: arXiv 2311.13613; the change is the sum over classes of |p (log p - log q)|, as in the authors' code.
    The whole answers of two passes must be held while the run trains, so that only a run that is asked to records them:
    give other methods' scoring `tdds` too, as many passes, and one run feeds all.

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of the scoring run, where that has none of its own, and of every draw.
        cache: folder of condensed sets.
        scoring: how the network that scores is trained; its `tdds` is raised to `passes`.
        balance: "ipc" takes exactly ipc images of each class; "proportional", "floor" (half of an even share for each
            class, the rest over all) and "none" take ipc x classes images in all.
        keep: "hard" or "easy" end of the ranking: the largest or the smallest scores.
        passes: T: passes that are looked at, the first so many. (T, J) for CIFAR-100 where 70, 50, 30, 20 and 10 % are
            kept, of 200 passes: (90, 10), (70, 10), (60, 20), (20, 10), (10, 5).
        window: J: passes in a window.
        decay: beta: weight of the last window; the one before has beta (1 - beta), and so on.
    """

    tiny: ClassVar[dict[str, Any]] = {"scoring": TINY_SCORING, "passes": 4, "window": 3}

    def __init__(
        self,
        dataset: RealDataset,
        ipc: int = 10,
        seed: int = 0,
        cache: str | None = None,
        scoring: Scoring = Scoring(),  # noqa: B008  frozen
        balance: Balance = "ipc",
        keep: Keep = "hard",
        passes: int = 10,
        window: int = 5,
        decay: float = 0.9,
    ) -> None:
        super().__init__(dataset, ipc, seed, cache, scoring, balance, keep)
        if not 3 <= window <= passes:
            raise UsageError(f"window is {window}, of {passes} passes; allowed: 3 to {passes}.")
        if not 0 < decay <= 1:
            raise UsageError(f"decay is {decay}; allowed: above 0 and at most 1.")
        self.passes, self.window, self.decay = passes, window, decay

    def _asked(self) -> Scoring:
        """The scoring run, recording changes."""
        return replace(self.scoring, tdds=max(self.scoring.tdds, self.passes))

    def prepare(self) -> None:
        """Refuse a scoring run of fewer passes before it is made. Raises UsageError."""
        if self.run.passes < self.passes:
            raise UsageError(
                f"TDDS looks at {self.passes} passes, and the scoring run makes {self.run.passes} whole ones. "
                f"Give --data.passes={self.run.passes} or less, or --data.scoring.budget.epochs={self.passes} or more."
            )
        super().prepare()

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """TDDS: (N,)."""
        return scores.tdds(table, self.passes, self.window, self.decay)

"""TDDS: images whose answer changes most unevenly from pass to pass."""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ddlight.core.errors import UsageError
from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring.cost import TINY_SCORING
from ddlight.methods.scoring.run import Scoring
from ddlight.methods.scoring.table import ScoreTable


def tdds(table: ScoreTable, passes: int = 10, window: int = 5, decay: float = 0.9) -> np.ndarray:
    """How unevenly the answer changes, in the later windows: (N,).

    c_t is the change of the answer from pass t to the next; V_k is the length of c_t - mean c over the J - 1 changes of
    the k-th window of J passes; the score is their moving average, sum of decay (1 - decay)^(T - J - k) V_k.

    Args:
        table: of a scoring run that recorded changes.
        passes: T, the number of first passes that count.
        window: J, 3 to T passes.
        decay: beta, the weight of the last window.

    Raises:
        UsageError: the run recorded no changes, or fewer.
    """
    changes = table["train.change"]
    if len(changes) < passes - 1:
        raise UsageError(
            f"{table.source} recorded the changes of {len(changes) + 1} passes, and T = {passes} are asked for. "
            f"Take fewer, --data.passes={len(changes) + 1}, or a longer scoring run."
        )
    history = np.asarray(changes[: passes - 1], np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(history, window - 1, axis=0)
    lengths = np.linalg.norm(windows - windows.mean(-1, keepdims=True), axis=-1)
    weights = decay * (1 - decay) ** np.arange(len(lengths))[::-1]
    return np.asarray(weights @ lengths)


class TDDS(ScoreSelector):
    """The images of each class whose answer's change from pass to pass varies most within windows, late ones first.

    Paper: arXiv 2311.13613; the change is the sum over classes of |p (log p - log q)|, as in the authors' code.
    The whole answers of two passes must be held while the run trains, so that only a run that is asked to records them:
    `scoring.tdds` is raised to `passes` here. Give other methods' scoring the same `tdds`, and one run feeds all.

    Args:
        passes: T: the first passes, which alone are looked at. (T, J) for CIFAR-100 where 70, 50, 30, 20 and 10 % are
            kept, of 200 passes: (90, 10), (70, 10), (60, 20), (20, 10), (10, 5).
        window: J: passes in a window.
        decay: beta: weight of the last window; the one before has beta (1 - beta), and so on.
    """

    tiny: ClassVar[dict[str, Any]] = {"scoring": TINY_SCORING, "passes": 4, "window": 3}

    def __init__(self, *args: Any, passes: int = 10, window: int = 5, decay: float = 0.9, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not 3 <= window <= passes:
            raise UsageError(f"window is {window}, of {passes} passes; allowed: 3 to {passes}.")
        if not 0 < decay <= 1:
            raise UsageError(f"decay is {decay}; allowed: above 0 and at most 1.")
        self.passes, self.window, self.decay = passes, window, decay

    @property
    def required_scoring(self) -> Scoring:
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
        return tdds(table, self.passes, self.window, self.decay)

"""ScoreSelector: what every coreset that is chosen by a score of each image shares."""

import logging
from abc import abstractmethod
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from ddlight.core.artefact import Unit
from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.methods.base import Selector
from ddlight.methods.scoring import samplers
from ddlight.methods.scoring.cost import TINY_SCORING
from ddlight.methods.scoring.run import Scoring
from ddlight.methods.scoring.samplers import Balance
from ddlight.methods.scoring.search import Search, ValueSearch
from ddlight.methods.scoring.table import ScoreTable
from ddlight.sets.store import Selection

log = logging.getLogger("ddlight")
Keep = Literal["hard", "easy"]


class ScoreSelector(Selector):
    """Chooses by a score of each image: `difficulty` gives it, `sample` chooses, `balance` says over what.

    A score that is made of features gives `scores_of` instead of `difficulty`. A method may choose one of its numbers
    on held-out data: `tried` names the argument that lists the values, and `search` says how students are trained.

    Args:
        scoring: how the network of the scoring run is trained.
        balance: "ipc" takes exactly ipc images of each class; "proportional", "floor" (half of an even share for each
            class, the rest over all) and "none" take ipc x classes images in all.
        keep: "hard" or "easy" end of the ranking.
    """

    tiny: ClassVar[dict[str, Any]] = {"scoring": TINY_SCORING}
    tried: ClassVar[str | None] = None
    scoring: Scoring
    search: Search

    def __init__(
        self,
        *args: Any,
        scoring: Scoring = Scoring(),
        balance: Balance = "ipc",
        keep: Keep = "hard",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.scoring, self.balance, self.keep = scoring, balance, keep
        self.one_unit = self.one_unit or balance != "ipc"

    # --- the score ---

    @abstractmethod
    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """Score of every training image from what the scoring run recorded, larger is harder: (N,)."""

    @cached_property
    def table(self) -> ScoreTable:
        """What the scoring run recorded."""
        return self.run.table()

    @cached_property
    def scores(self) -> np.ndarray:
        """Difficulty of every training image, all finite: (N,)."""
        return samplers.require_finite(self.difficulty(self.table), f"{type(self).__name__} from {self.table.source}")

    def scores_of(self, rows: np.ndarray) -> np.ndarray:
        """Score of some training images, given by their positions, larger is harder: (len(rows),), all finite."""
        return self.scores[rows]

    # --- the choice ---

    def sample(self, rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Choose `count` of some training images, given by their positions: best first."""
        end = samplers.hard if self.keep == "hard" else samplers.easy
        return rows[end(self.scores_of(rows), count, rng)]

    def make(self, unit: Unit) -> Selection:
        """Select from the unit's class, or from all under the rule of balance."""
        if self.balance == "ipc":
            return super().make(unit)
        labels, rng = self.dataset.index("train").labels, self._generator(unit)
        return Selection(samplers.balanced(self.sample, labels, self.ipc, self.balance, rng))

    def select(self, unit: Unit, candidates: np.ndarray) -> np.ndarray:
        """Choose ipc of one class's images."""
        return self.sample(candidates, self.ipc, self._generator(unit))

    def _generator(self, unit: Unit) -> np.random.Generator:
        return generator(self.seed, type(self).__name__, unit.number)

    # --- a number that is chosen on held-out data ---

    @cached_property
    def searched(self) -> ValueSearch | None:
        """The search for the best of the values to try; None where there is nothing to choose."""
        several = self.tried is not None and len(getattr(self, self.tried)) > 1
        return ValueSearch(self.search, self, str(self.tried)) if several else None

    @property
    def chosen(self) -> float:
        """The value that is used of those to try."""
        return float(self.searched.value if self.searched else getattr(self, str(self.tried))[0])

    @property
    def selected_on(self) -> str:  # type: ignore[override]
        """Held-out data, where there is something to choose."""
        return "held_out" if self.searched else "none"

    # --- before the units ---

    def require_images(self) -> None:
        """As any selector's; where classes are not balanced exactly, all together must be large enough."""
        if self.balance == "ipc":
            super().require_images()
            return
        images = len(self.dataset.index("train"))
        if self.expected_images > images:
            raise UsageError(
                f"ipc={self.ipc} asks for {self.expected_images:,} images; there are {images:,}. Take less."
            )

    def prepare(self) -> None:
        """Make the scoring run, then the search."""
        super().prepare()
        if self.searched:
            log.info("chosen on held-out data: %s", self.searched.value)

    def estimate_seconds(self) -> float:
        """Time of the scoring run where it is missing, and of the search's students."""
        return super().estimate_seconds() + (self.searched.estimate_seconds() if self.searched else 0)

    def facts(self) -> dict[str, Any]:
        """Cost of scoring, in which that of a search is counted; what was tried."""
        return self.searched.charged(super().facts()) if self.searched else super().facts()

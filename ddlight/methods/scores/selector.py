"""RankedSelector: what every coreset that is chosen by scores shares. ScoredSelector: by training dynamics."""

from abc import abstractmethod
from functools import cached_property
from typing import Literal

import numpy as np

from ddlight.core.artefact import Unit
from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.data.base import RealDataset
from ddlight.methods.scoring import samplers
from ddlight.methods.scoring.run import Scoring, ScoringRun
from ddlight.methods.scoring.samplers import Balance
from ddlight.methods.scoring.selector import ScoringSelector
from ddlight.methods.scoring.table import ScoreTable
from ddlight.sets.store import Selection

Keep = Literal["hard", "easy"]


class RankedSelector(ScoringSelector):
    """Chooses by a score of each image: `scores_of` gives it, `sample` chooses, `balance` says over what.

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of the scoring run, where that has none of its own, and of every draw.
        cache: folder of condensed sets.
        scoring: how the scoring network is trained.
        balance: "ipc" takes exactly ipc images of each class; "proportional", "floor" (half of an even share for each
            class, the rest over all) and "none" take ipc x classes images in all.
        keep: "hard" or "easy" end of the ranking.
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
    ) -> None:
        super().__init__(dataset, ipc, seed, cache)
        self.scoring, self.balance, self.keep = scoring, balance, keep

    @abstractmethod
    def scores_of(self, rows: np.ndarray) -> np.ndarray:
        """Score of some training images, given by their positions, larger is harder: (len(rows),), all finite."""

    def sample(self, rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Choose `count` of some training images, given by their positions: best first."""
        end = samplers.hard if self.keep == "hard" else samplers.easy
        return rows[end(self.scores_of(rows), count, rng)]

    def prepare(self) -> None:
        """As any selector's; where classes are not balanced exactly, all together must be large enough."""
        if self.balance == "ipc":
            super().prepare()
            return
        there = len(self.dataset.index("train"))
        if self.expected_images > there:
            raise UsageError(
                f"ipc={self.ipc} asks for {self.expected_images:,} images; there are {there:,}. Take less."
            )
        for run in self.scoring_runs:
            run.make(progress=self.progress)

    def units(self) -> list[Unit]:
        """One unit per class; one for all where classes are not balanced exactly."""
        if self.balance == "ipc":
            return super().units()
        return [Unit(0, tuple(range(self.dataset.num_classes)))]

    def make(self, unit: Unit) -> Selection:
        """Select from the unit's class, or from all under the rule of balance."""
        if self.balance == "ipc":
            return super().make(unit)
        labels = self.dataset.index("train").labels
        rng = self._generator(unit)
        return Selection(samplers.balanced(self.sample, labels, self.ipc, self.balance, rng))

    def select(self, unit: Unit, candidates: np.ndarray) -> np.ndarray:
        """Choose ipc of one class's images."""
        return self.sample(candidates, self.ipc, self._generator(unit))

    def _generator(self, unit: Unit) -> np.random.Generator:
        return generator(self.seed, type(self).__name__, unit.number)


class ScoredSelector(RankedSelector):
    """Chooses by a difficulty score of the scoring run's table: `difficulty` gives it.

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of the scoring run, where that has none of its own, and of every draw.
        cache: folder of condensed sets.
        scoring: how the scoring network is trained.
        balance: "ipc" takes exactly ipc images of each class; "proportional", "floor" (half of an even share for each
            class, the rest over all) and "none" take ipc x classes images in all.
        keep: "hard" or "easy" end of the ranking.
    """

    @abstractmethod
    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """Score of every training image, larger is harder: (N,)."""

    @property
    def scoring_runs(self) -> list[ScoringRun]:
        """The scoring run."""
        return [self.run]

    @cached_property
    def table(self) -> ScoreTable:
        """What the scoring run recorded."""
        return self.run.table()

    @cached_property
    def scores(self) -> np.ndarray:
        """Difficulty of every training image, all finite: (N,)."""
        return samplers.require_finite(self.difficulty(self.table), f"{type(self).__name__} from {self.table.source}")

    def scores_of(self, rows: np.ndarray) -> np.ndarray:
        """Difficulty of some training images."""
        return self.scores[rows]

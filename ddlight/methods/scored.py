"""RankedSelector: what every coreset that is chosen by scores shares. ScoredSelector: by training dynamics."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from ddlight.condensed.store import Selection, Unit, read_manifest
from ddlight.datasets.base import RealDataset
from ddlight.errors import UsageError
from ddlight.methods.base import Selector, cache_folder
from ddlight.randomness import generator
from ddlight.scoring import samplers
from ddlight.scoring.run import Scoring, ScoringRun
from ddlight.scoring.samplers import Balance
from ddlight.scoring.table import ScoreTable

Keep = Literal["hard", "easy"]
TINY_SCORING: dict[str, Any] = {
    "student": {"class_path": "ddlight.models.students.ConvNet", "init_args": {"depth": 3, "width": 8}},
    "budget": {"steps": 40},
    "ring": 3,
    "clean": 4,
}
"""A scoring run of seconds, for `--tiny`."""


def operations_per_second() -> float:
    """A cautious guess of how fast this machine trains: small ConvNets on one CPU core, or any network on a GPU."""
    import torch

    return 3e12 if torch.cuda.is_available() else 3e10


def scoring_facts(runs: Sequence[ScoringRun]) -> dict[str, Any]:
    """What the manifest of a set says of the scoring runs behind it."""
    found = [read_manifest(run.folder) for run in runs]
    return {
        "scoring": [fact["fingerprint"] for fact in found],
        "scoring_seconds": sum(fact["seconds"] for fact in found),
        "scoring_images": sum(fact["images_seen"] + fact["images_read"] for fact in found),
        "flops_scoring": sum(fact["flops"] for fact in found),
    }


def scoring_seconds(runs: Sequence[ScoringRun]) -> float:
    """Rough time of those scoring runs that are missing."""
    from ddlight.models.flops import TRAINING, build_checked, forward_flops

    seconds = 0.0
    for run in (run for run in runs if not run.exists):
        info = run.dataset.info
        network = build_checked(run.student, info.num_classes, info.channels, info.size)
        images = TRAINING * run.images + run.scoring.clean * info.train
        seconds += forward_flops(network, info.channels, info.size) * images / operations_per_second()
    return seconds


class ScoringSelector(Selector):
    """A selector that needs a scoring run, which is made first, once, and shared with every other that asks for it."""

    tiny: ClassVar[dict[str, Any]] = {"scoring": TINY_SCORING}
    scoring: Scoring

    @cached_property
    def run(self) -> ScoringRun:
        """The scoring run."""
        return ScoringRun(self._asked(), self.dataset, self.ipc, self.seed, cache_folder(self.cache))

    def _asked(self) -> Scoring:
        """The scoring run that is wanted, by default the one that was configured."""
        return self.scoring

    @property
    @abstractmethod
    def scoring_runs(self) -> list[ScoringRun]:
        """Everything that `ddlight score` trains for this method."""

    def prepare(self) -> None:
        """Make the scoring runs that are missing, once the classes are known to be large enough."""
        super().prepare()
        for run in self.scoring_runs:
            run.make(progress=self.progress)

    def facts(self) -> dict[str, Any]:
        """Cost of the scoring runs: the set's own seconds leave them out."""
        return scoring_facts(self.scoring_runs)

    def estimate_seconds(self) -> float:
        """Time of the scoring runs that are missing, from the operations that they take."""
        return scoring_seconds(self.scoring_runs)


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

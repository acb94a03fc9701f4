"""ScoringSelector: a selector that needs a scoring run, and what scoring runs cost."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch

from ddlight.core.files import cache_folder
from ddlight.methods.base import Selector
from ddlight.methods.scoring.run import Scoring, ScoringRun
from ddlight.networks.flops import TRAINING, build_checked, forward_flops

TINY_SCORING: dict[str, Any] = {
    "student": {"class_path": "ddlight.networks.students.ConvNet", "init_args": {"depth": 3, "width": 8}},
    "budget": {"steps": 40},
    "ring": 3,
    "clean": 4,
}
"""A scoring run of seconds, for `--tiny`."""


def operations_per_second() -> float:
    """A cautious guess of how fast this machine trains: small ConvNets on one CPU core, or any network on a GPU."""
    return 3e12 if torch.cuda.is_available() else 3e10


def scoring_facts(runs: Sequence[ScoringRun]) -> dict[str, Any]:
    """What the manifest of a set says of the scoring runs behind it."""
    found = [run.manifest() for run in runs]
    return {
        "scoring": [fact["fingerprint"] for fact in found],
        "scoring_seconds": sum(fact["seconds"] for fact in found),
        "scoring_images": sum(fact["images_seen"] + fact["images_read"] for fact in found),
        "flops_scoring": sum(fact["flops"] for fact in found),
    }


def scoring_seconds(runs: Sequence[ScoringRun]) -> float:
    """Rough time of those scoring runs that are missing."""
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

"""SearchedSelector: a score-based coreset one of whose numbers is chosen on held-out data."""

import logging
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from ddlight.core.files import cache_folder
from ddlight.methods.scores.selector import ScoredSelector
from ddlight.methods.scoring.search import Choice, Search, describe, search
from ddlight.methods.scoring.selector import TINY_SCORING, operations_per_second
from ddlight.networks.flops import TRAINING, build_checked, forward_flops
from ddlight.networks.students import ConvNet, Student
from ddlight.recipes.budget import images_seen
from ddlight.regimes.hard_label import HardLabel

log = logging.getLogger("ddlight")
TINY_SEARCH: dict[str, Any] = {
    "student": {"class_path": "ddlight.networks.students.ConvNet", "init_args": {"depth": 3, "width": 8}},
    "budget": {"steps": 5},
}
"""A search of seconds, for `--tiny`."""


class SearchedSelector(ScoredSelector):
    """Tries several values of one of its numbers: each is a set, trains students, and is scored on held-out data.

    A subclass has the arguments `search`, the values to try and the value itself (None where it is to be chosen).
    """

    tiny: ClassVar[dict[str, Any]] = {"scoring": TINY_SCORING, "search": TINY_SEARCH}
    search: Search

    @property
    def selected_on(self) -> str:  # type: ignore[override]
        """Held-out data, where there is something to choose."""
        return "held_out" if len(self.options) > 1 else "none"

    @property
    @abstractmethod
    def options(self) -> Sequence[float]:
        """Values to try; one of them alone is not tried but taken."""

    @abstractmethod
    def variant(self, value: float) -> ScoredSelector:
        """The method with this value given."""

    @cached_property
    def choice(self) -> Choice | None:
        """What the search found, made where it is missing; None where there is nothing to choose."""
        if len(self.options) < 2:
            return None
        candidates = [self.variant(value) for value in self.options]
        folder = cache_folder(self.cache) / self.dataset.info.name / "search"
        return search(self.search, candidates, self.seed, folder)

    @property
    def chosen(self) -> float:
        """The value that is used."""
        return self.options[self.choice.best if self.choice else 0]

    def prepare(self) -> None:
        """Make the scoring run, then the search."""
        super().prepare()
        log.info("chosen on held-out data: %s", self.chosen)

    def estimate_seconds(self) -> float:
        """Time of the scoring run and of the students that are missing."""
        count = len(self.options) * self.search.trials
        if count < 2:
            return super().estimate_seconds()
        model = HardLabel(self.student, self.search.protocol, self.search.recipe, self.search.budget)
        run = model.resolve_run(self, self.expected_images, self.dataset.info.train)
        seen = images_seen(run.steps, run.images, run.batch)
        return super().estimate_seconds() + self._operations(count * seen) / operations_per_second()

    @property
    def student(self) -> Student:
        """The network that the search trains."""
        return self.search.student or ConvNet()

    def _operations(self, images: int) -> float:
        """Operations of training the search's students on so many images in all."""
        info = self.dataset.info
        network = build_checked(self.student, info.num_classes, info.channels, info.size)
        return TRAINING * forward_flops(network, info.channels, info.size) * images

    def facts(self) -> dict[str, Any]:
        """What was tried and what it cost, which is part of the cost of scoring."""
        found = super().facts()
        if self.choice is None:
            return found
        charged = {
            "scoring_seconds": found["scoring_seconds"] + self.choice.seconds,
            "scoring_images": found["scoring_images"] + self.choice.images,
            "flops_scoring": found["flops_scoring"] + self._operations(self.choice.images),
        }
        return {**found, **charged, "search": describe(self.choice, self.options)}

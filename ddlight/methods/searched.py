"""SearchedSelector: a score-based coreset one of whose numbers is chosen on held-out data."""

import logging
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from ddlight.budget import images_seen
from ddlight.methods.base import cache_folder
from ddlight.methods.scored import TINY_SCORING, ScoredSelector, operations_per_second
from ddlight.models.flops import build_checked, forward_flops
from ddlight.models.students import ConvNet
from ddlight.regimes.hard_label import HardLabel
from ddlight.scoring.search import Choice, Search, describe, search

log = logging.getLogger("ddlight")
TINY_SEARCH: dict[str, Any] = {
    "student": {"class_path": "ddlight.models.students.ConvNet", "init_args": {"depth": 3, "width": 8}},
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
        info, count = self.dataset.info, len(self.options) * self.search.trials
        if count < 2:
            return super().estimate_seconds()
        model = HardLabel(
            self.search.student or ConvNet(), self.search.protocol, self.search.recipe, self.search.budget
        )
        run = model.resolve_run(self, self.expected_images, info.train)
        network = build_checked(model.student, info.num_classes, info.channels, info.size)
        forward = forward_flops(network, info.channels, info.size)
        seen = images_seen(run.steps, run.images, run.batch)
        return super().estimate_seconds() + count * 3 * forward * seen / operations_per_second()

    def facts(self) -> dict[str, Any]:
        """What was tried and what it cost, beside the cost of scoring."""
        found = {"search": describe(self.choice, self.options)} if self.choice else {}
        return {**super().facts(), **found}

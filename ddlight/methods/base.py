"""What a method subclasses: `Selector` chooses real images, `Synthesiser` makes new ones."""

from functools import cached_property
from typing import Any

import numpy as np

from ddlight.core.artefact import Unit
from ddlight.core.errors import DataError, UsageError
from ddlight.core.files import cache_folder
from ddlight.data.base import RealDataset
from ddlight.methods.scoring.cost import scoring_facts, scoring_seconds
from ddlight.methods.scoring.features import FeatureSource
from ddlight.methods.scoring.run import Scoring, ScoringRun
from ddlight.networks.teachers import Teacher
from ddlight.sets.module import CondensedDataModule
from ddlight.sets.store import Selection, Synthesis


def smallest_class(dataset: RealDataset) -> tuple[int, int]:
    """The class with the fewest training images, and how many it has."""
    sizes = np.bincount(dataset.index("train").labels, minlength=dataset.num_classes)
    return int(sizes.argmin()), int(sizes.min())


def require_images(dataset: RealDataset, ipc: int) -> None:
    """Raise UsageError where a class has fewer than `ipc` training images."""
    (label, size), info = smallest_class(dataset), dataset.info
    if size < ipc:
        raise UsageError(
            f"ipc={ipc} is more than class '{info.classes[label]}' of {info.name} has: {size} images. "
            f"Use --data.ipc={size} or less."
        )


class Selector(CondensedDataModule):
    """Chooses real images: `select` says which of a class.

    A method that sets `scoring` has a scoring run: a network that is trained on the full data while its answers are
    recorded, once for all that ask for the same. Its numbers are `run.table()`, its features `features`.
    """

    scoring: Scoring | None = None
    """How the network of the scoring run is trained; None where the method needs none."""
    network: Teacher | None = None
    """A network whose features are taken instead of the scoring run's."""

    def select(self, unit: Unit, candidates: np.ndarray) -> np.ndarray:
        """Choose from one class.

        Args:
            unit: the class.
            candidates: int64 (n,): positions of its images in the training split.

        Returns:
            int64 (ipc,): the chosen positions, best first where there is an order.
        """
        raise NotImplementedError

    def make(self, unit: Unit) -> Selection:
        """Select from the unit's class. Raises DataError where that gives anything but ipc different images of it."""
        candidates = np.flatnonzero(self.dataset.index("train").labels == unit.classes[0])
        chosen = np.asarray(self.select(unit, candidates))
        own = len(np.intersect1d(chosen, candidates))
        if len(chosen) != self.ipc or own != self.ipc:
            raise DataError(
                f"{type(self).__name__}.select gave {len(chosen)} positions, {own} different ones of class "
                f"{unit.classes[0]} among them; it gives ipc={self.ipc} of its candidates."
            )
        return Selection(chosen)

    # --- what it looks at ---

    @property
    def required_scoring(self) -> Scoring | None:
        """The scoring run that is needed: as configured, unless a method must have more recorded."""
        return self.scoring

    @cached_property
    def run(self) -> ScoringRun:
        """The scoring run."""
        assert self.required_scoring is not None
        return ScoringRun(self.required_scoring, self.dataset, self.ipc, self.seed, cache_folder(self.cache))

    @property
    def scoring_runs(self) -> list[ScoringRun]:
        """Everything that `ddlight score` trains for this method: no run where another network is given."""
        return [self.run] if self.scoring is not None and self.network is None else []

    @property
    def all_teachers(self) -> list[Teacher]:
        """The other network, where one is given."""
        return [] if self.network is None else [self.network]

    @cached_property
    def features(self) -> FeatureSource:
        """Features of the dataset's images."""
        return FeatureSource(self.dataset, self.network or self.run.trained)

    # --- before the units ---

    def require_images(self) -> None:
        """Raise UsageError where there are too few images to choose from."""
        require_images(self.dataset, self.ipc)

    def prepare(self) -> None:
        """Make the scoring run where it is missing, once the classes are known to be large enough."""
        self.require_images()
        for run in self.scoring_runs:
            run.make(progress=self.progress)

    def estimate_seconds(self) -> float:
        """Time of the scoring run where it is missing, from the operations that it takes."""
        return scoring_seconds(self.scoring_runs)

    def facts(self) -> dict[str, Any]:
        """Cost of the scoring run, which the set's own seconds leave out."""
        return {} if self.scoring is None else scoring_facts(self.scoring_runs)

    def variant(self, **options: Any) -> "Selector":
        """The same method with other options."""
        names = [*self.arguments, "dataset", "seed", "cache"]
        return type(self)(**{name: getattr(self, name) for name in names} | options)


class Synthesiser(CondensedDataModule):
    """Makes new images: `make` returns those of one unit."""

    def make(self, unit: Unit) -> Synthesis:
        """Make the images and labels of one unit."""
        raise NotImplementedError

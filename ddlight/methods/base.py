"""What a method subclasses: `Selector` chooses real images, `Synthesiser` makes new ones."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

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
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
            raise DataError(
                f"{type(self).__name__}.select gave {chosen.dtype} of shape {chosen.shape} for class "
                f"{unit.classes[0]}; it gives positions, whole numbers (ipc,), ipc={self.ipc} of its candidates."
            )
        own = len(np.intersect1d(chosen, candidates))
        if len(chosen) != self.ipc or own != self.ipc:
            raise DataError(
                f"{type(self).__name__}.select gave {len(chosen)} positions, {own} different ones of class "
                f"{unit.classes[0]} among them; it gives ipc={self.ipc} of its candidates."
            )
        return Selection(chosen.astype(np.int64))

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
    """Makes new images: `make` returns those of one unit, as a Synthesis or as images and labels."""

    def make(self, unit: Unit) -> Synthesis:
        """Make the images and labels of one unit."""
        raise NotImplementedError

    def checked(self, unit: Unit, made: Any) -> Synthesis:
        """What `make` returned, as arrays. Raises DataError where it is not what the unit is to hold."""
        info, where = self.dataset.info, f"{type(self).__name__}.make of {self._called(unit)}"
        if isinstance(made, tuple) and len(made) == 2:
            made = Synthesis(*made)
        if not isinstance(made, Synthesis):
            raise DataError(f"{where} returned {type(made).__name__}; a Synthesis, or (images, labels), is expected.")
        images, labels = (
            np.asarray(x.detach().cpu().numpy() if isinstance(x, Tensor) else x) for x in (made.images, made.labels)
        )
        images = images.astype(np.float32) if images.dtype.kind == "f" else images
        shape = (info.channels, info.size, info.size)
        if images.ndim != 4 or images.shape[1:] != shape or images.dtype not in (np.uint8, np.float32):
            raise DataError(
                f"{where} gave images {images.dtype} of shape {images.shape}; uint8 or float32 of shape "
                f"(n, {', '.join(map(str, shape))}) is expected."
            )
        if images.dtype == np.float32 and images.size:
            self._check_floats(images, where)
        soft = labels.ndim == 2
        fits = labels.shape == ((len(images), info.num_classes) if soft else (len(images),))
        if not fits or labels.dtype.kind not in ("f" if soft else "iu") or not np.isfinite(labels).all():
            finite = "" if labels.dtype.kind not in "f" or np.isfinite(labels).all() else ", some not finite"
            raise DataError(
                f"{where} gave labels {labels.dtype} of shape {labels.shape}{finite} for {len(images)} images; whole "
                f"numbers (n,), or finite floats (n, {info.num_classes}), are expected."
            )
        each, classes = self.expected_images // info.num_classes, unit.classes or tuple(range(info.num_classes))
        if not soft and (other := np.setdiff1d(labels, classes)).size:
            raise DataError(f"{where} gave images of class {other[0]}; of {self._named(classes)} alone is expected.")
        counts = [len(labels)] if soft else [int((labels == c).sum()) for c in unit.classes]
        if unit.classes and not unit.images and set(counts) != {each * len(unit.classes) if soft else each}:
            raise DataError(
                f"{where} gave {' and '.join(map(str, counts))} images; ipc={each} of each of its "
                f"{len(unit.classes)} class{'es' * (len(unit.classes) > 1)} are expected."
            )
        return replace(made, images=images, labels=labels.astype(np.float32 if soft else np.int64))

    def _check_floats(self, images: np.ndarray, where: str) -> None:
        if not np.isfinite(images).all():
            raise DataError(f"{where} gave {int((~np.isfinite(images)).sum()):,} numbers that are not finite.")
        least, most = float(images.min()), float(images.max())
        beyond = {"pixel": least < -0.5 or most > 1.5, "normalised": least >= 0 and most > 10}
        if beyond.get(self.space, False):
            raise DataError(
                f"{where} gave floats from {least:.4g} to {most:.4g} in '{self.space}' space; pixels are floats in "
                "[0, 1] or uint8, and another space is said by the class: space = 'normalised'."
            )

    def check_counts(self, counts: np.ndarray | int) -> None:
        """Raise DataError where a class has more or fewer images than ipc when all units are made."""
        each = counts if isinstance(counts, np.ndarray) else np.array([counts / self.dataset.num_classes])
        expected = self.expected_images // self.dataset.num_classes
        if (wrong := each != expected).any():
            name = self._named((int(wrong.argmax()),)) if len(each) > 1 else "all classes, in the mean,"
            raise DataError(
                f"{type(self).__name__} made {each[wrong][0]:g} images of {name} and ipc={expected} is expected. "
                "Nothing was sealed."
            )

    def _named(self, classes: Sequence[int]) -> str:
        names = [f"class {c} ({self.dataset.info.classes[c]})" for c in classes[:3]]
        return ", ".join(names) + ", ..." * (len(classes) > 3)

    def _called(self, unit: Unit) -> str:
        return self._named(unit.classes) if unit.classes else f"unit {unit.number}"

"""What a method subclasses: `Selector` chooses real images, `Synthesiser` makes new ones."""

import numpy as np

from ddlight.core.artefact import Unit
from ddlight.core.errors import DataError, UsageError
from ddlight.data.base import RealDataset
from ddlight.sets.module import CondensedDataModule
from ddlight.sets.store import Selection, Synthesis


def smallest_class(dataset: RealDataset) -> tuple[int, int]:
    """The class with the fewest training images, and how many it has."""
    sizes = np.bincount(dataset.index("train").labels, minlength=dataset.num_classes)
    return int(sizes.argmin()), int(sizes.min())


def require_images(dataset: RealDataset, ipc: int) -> None:
    """Raise UsageError where a class has fewer than `ipc` training images."""
    (label, there), info = smallest_class(dataset), dataset.info
    if there < ipc:
        raise UsageError(
            f"ipc={ipc} is more than class '{info.classes[label]}' of {info.name} has: {there} images. "
            f"Use --data.ipc={there} or less."
        )


class Selector(CondensedDataModule):
    """Chooses real images: `select` says which of a class."""

    def select(self, unit: Unit, candidates: np.ndarray) -> np.ndarray:
        """Choose from one class.

        Args:
            unit: the class.
            candidates: int64 (n,): positions of its images in the training split.

        Returns:
            int64 (ipc,): the chosen positions, best first where there is an order.
        """
        raise NotImplementedError

    def prepare(self) -> None:
        """Look at the classes before anything costly begins. Raises UsageError where one has fewer than ipc images."""
        require_images(self.dataset, self.ipc)

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


class Synthesiser(CondensedDataModule):
    """Makes new images: `make` returns those of one unit."""

    def make(self, unit: Unit) -> Synthesis:
        """Make the images and labels of one unit."""
        raise NotImplementedError

"""What every real dataset shares: splits in memory, images held out from training, an identity for fingerprints."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, get_args

import numpy as np

from ddlight.core.errors import DataError, UsageError, nearest
from ddlight.core.randomness import generator
from ddlight.data.table import ROOT_VARIABLE, TABLE, DatasetInfo, data_root

Split = Literal["train", "held_out", "test"]
Part = Literal["train", "test"]


@dataclass(frozen=True)
class ImageSet:
    """One split in memory.

    Attributes:
        images: uint8 (N, C, H, W), dense: plane after plane, or a pixel's channels together where files were decoded.
        labels: int64 (N,), positions in the dataset's `info.classes`.
        ids: str (N,), stable sample ids: "train/00012" for array datasets, a path relative to the root for folders.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> "ImageSet":
        """Copy some images, given by indices (M,) or a mask (N,), in the order given."""
        return ImageSet(self.images[rows], self.labels[rows], self.ids[rows])


@dataclass(frozen=True)
class Index:
    """What is known of a split without its pixels.

    Attributes:
        labels: int64 (N,), positions in the dataset's `info.classes`.
        ids: str (N,), stable sample ids.
    """

    labels: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> "Index":
        """Labels and ids of some images, given by indices (M,) or a mask (N,)."""
        return Index(self.labels[rows], self.ids[rows])


class RealDataset(ABC):
    """A labelled dataset of real images, read once into memory.

    A subclass names its row of the table in `name`, without which it overrides `info`. One of folders with images is
    derived from `FolderDataset`, which lists and decodes them; any other implements `_read` and `_contents`.

    >>> from ddlight.data import Digits
    >>> data = Digits(held_out=10, size=8)
    >>> data.split("train").images.shape, len(data.index("test"))
    ((1338, 1, 8, 8), 359)

    Args:
        root: folder that holds the data; $DDLIGHT_DATA, else ~/.cache/ddlight/data, where it is not given.
        held_out: images per class kept back from the training split, to choose settings on.
    """

    name: ClassVar[str]
    full_size: bool = False
    """Whether chosen training images are cropped at their full size (folders alone can say so)."""

    def __init__(self, root: str | None = None, held_out: int = 0) -> None:
        if held_out < 0:
            raise UsageError(f"held_out is a number of images per class, 0 or more; {held_out} was given.")
        self.root, self.held_out = root, held_out
        self._splits: dict[Split, ImageSet] = {}

    @property
    def info(self) -> DatasetInfo:
        """The dataset's row of the table, with the counts that `held_out` leaves.

        Where the row itself holds images out, they are none of its training images.
        """
        row = TABLE[self.name]
        held_out = self.held_out * row.num_classes
        return replace(row, train=row.train - held_out * (not row.held_out), held_out=held_out)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.info.num_classes

    def split(self, name: Split) -> ImageSet:
        """Return one split; arrays are read-only and the same objects at every call.

        Args:
            name: "train", "held_out" (N = 0 where nothing is held out) or "test".

        Raises:
            DataError: the data are missing, damaged or not laid out as expected.
            UsageError: there is no such split, or more is held out than there is.
        """
        check_split(name)
        if name not in self._splits:
            self._splits.update(self._read(name))
            for split in self._splits.values():
                freeze(split.images, split.labels, split.ids)
        return self._splits[name]

    def index(self, name: Split) -> Index:
        """Return labels and ids of a split in the order of `split`; folders are listed and no image is decoded.

        Raises:
            DataError, UsageError: as `split`.
        """
        split = self.split(name)
        return Index(split.labels, split.ids)

    def take(self, name: Split, rows: np.ndarray) -> np.ndarray:
        """Return images of a split, at positions int64 (n,) in any order: uint8 (n, C, H, W). Folders decode no others.

        Raises:
            DataError, UsageError: as `split`.
        """
        return self.split(name).images[rows]

    def encoded(self, name: Split) -> Sequence[Path]:
        """Return the image files of a split in the order of `split`; none where images are not one file each."""
        return ()

    def identity(self) -> dict[str, object]:
        """Return what names this data, as JSON: it changes when a file or an option that shapes the splits does.

        Raises DataError where the data are missing.
        """
        return {"name": self.name, "held_out": self.held_out, "files": self.contents}

    @cached_property
    def contents(self) -> object:
        """Names of the files in order and hashes of what they hold, as JSON. Raises DataError where one is missing."""
        return self._contents()

    @abstractmethod
    def _read(self, name: Split) -> dict[Split, ImageSet]:
        """Read one split, and return with it any other that was read on the way."""

    @abstractmethod
    def _contents(self) -> object:
        """Name and hash the files."""

    def _places(self) -> list[Path]:
        return [self._data_root()]

    @property
    def given_root(self) -> str | None:
        """The folder that `root` names, as an absolute path; None where it is not given."""
        return None if self.root is None else str(self._data_root().absolute())

    def _data_root(self) -> Path:
        return Path(self.root).expanduser() if self.root is not None else data_root()

    def _missing(self) -> DataError:
        row, root = TABLE[self.name], str(self._data_root())
        places = "".join(f"\n  {place}" for place in self._places())
        expected, get = (text.replace("ROOT", root).replace("\n", "\n  ") for text in (row.layout, row.get))
        other = "" if self.root is not None else f", or set {ROOT_VARIABLE} to the data root"
        return DataError(
            f"{row.name} was not found. Searched:{places}\nExpected:\n  {expected}\nGet it:\n  {get}\n"
            f"Is it elsewhere? Name the folder with the dataset's `root`{other}."
        )


def check_split(name: str) -> None:
    """Raise UsageError where there is no such split."""
    if name not in get_args(Split):
        names = ", ".join(get_args(Split))
        raise UsageError(f"There is no split {name!r}: the splits are {names}.{nearest(name, get_args(Split))}")


def draw_per_class(labels: np.ndarray, counts: Sequence[int] | np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw `counts[c]` images of each class c, int (N,), without replacement: a mask (N,).

    With one generator state, a smaller draw is contained in a larger one.
    """
    chosen = np.zeros(len(labels), dtype=bool)
    for label, count in enumerate(counts):
        chosen[rng.permutation(np.flatnonzero(labels == label))[:count]] = True
    return chosen


def draw_held_out(labels: np.ndarray, held_out: int, classes: Sequence[str], leave: int = 1) -> np.ndarray:
    """Draw the images that are held out of labels int (N,): stratified, the same on every machine. Returns a mask (N,).

    Raises UsageError where a class has fewer than `held_out + leave` images.
    """
    sizes = np.bincount(labels, minlength=len(classes))
    room = int(sizes.min()) - leave
    if held_out > max(room, 0):
        smallest = classes[int(sizes.argmin())]
        raise UsageError(
            f"held_out: {held_out} images per class cannot be held back: class '{smallest}' has {sizes.min():,} to "
            f"draw from. Allowed are 0 to {max(room, 0):,}, such as held_out: {max(room, 0) // 2}"
        )
    return draw_per_class(labels, [held_out] * len(classes), generator(0, "held_out"))


def draw_few(
    labels: np.ndarray, per_class: int, held_out: int, classes: Sequence[str], name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a small dataset out of the training images of another, and images held out of the rest, both stratified.

    Args:
        labels: int (N,).
        per_class: images of each class.
        held_out: images of each class that are held out of the others.
        classes: names of the classes.
        name: of the small dataset, by which it is drawn.

    Returns:
        Positions of the chosen and of the held-out images, int64, ascending.

    Raises:
        UsageError: a class has fewer images, or more is held out than it has left.
    """
    sizes = np.bincount(labels, minlength=len(classes))
    if per_class > sizes.min():
        raise UsageError(
            f"per_class: {per_class} images of each class cannot be drawn: class '{classes[int(sizes.argmin())]}' has "
            f"{sizes.min():,} training images."
        )
    chosen = draw_per_class(labels, [per_class] * len(classes), generator(0, name))
    others = np.flatnonzero(~chosen)
    kept = draw_held_out(labels[others], held_out, classes, leave=0)
    return np.flatnonzero(chosen), others[kept]


def array_ids(part: Part, rows: np.ndarray) -> np.ndarray:
    """Sample ids of rows of an array dataset, such as "train/00012": str (N,)."""
    return np.array([f"{part}/{row:05d}" for row in rows.tolist()], dtype=np.str_)


def freeze(*arrays: np.ndarray) -> None:
    """Make arrays that several callers share read-only."""
    for array in arrays:
        array.setflags(write=False)

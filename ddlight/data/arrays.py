"""Array datasets: MNIST and Fashion-MNIST from idx files, CIFAR and SVHN through torchvision, CIFAR as pictures too."""

import gzip
import math
import os
import struct
import zlib
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from filelock import FileLock

from ddlight.core.errors import DataError
from ddlight.core.files import make_folder
from ddlight.core.randomness import generator
from ddlight.data.base import ImageSet, Part, RealDataset, Split, array_ids, draw_few, draw_held_out, draw_per_class
from ddlight.data.contents import content_hashes
from ddlight.data.decoded import read_full
from ddlight.data.folder import FolderDataset, Tree
from ddlight.data.table import TABLE, DatasetInfo

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")
LIST_5K = "fashion_mnist_5k.txt"
PER_CLASS = 500
"""Training images per class of the small datasets."""


class ArrayDataset(RealDataset):
    """A dataset that is published as arrays: a training and a test part, each read at once.

    Args:
        download: fetch the files with torchvision where they are missing.
    """

    source: ClassVar[str]  # row of the table that tells what the files hold; torchvision's name for them
    files: ClassVar[tuple[str, ...]]  # relative to one of the places

    def __init__(self, *args: Any, download: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.download = download

    @abstractmethod
    def _arrays(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """Read one part: images as uint8 (N, C, H, W) and labels as int (N,)."""

    def _read(self, name: Split) -> dict[Split, ImageSet]:
        if name == "test":
            return {"test": self._part("test")}
        return self._divide(self._part("train"))

    def _part(self, part: Part) -> ImageSet:
        images, labels = self._arrays(part)
        row = TABLE[self.source]
        shape = (row.train if part == "train" else row.test, row.channels, row.size, row.size)
        values = np.unique(labels).tolist()
        if images.shape != shape or len(labels) != shape[0] or values != list(range(row.num_classes)):
            raise DataError(
                f"The {part} files of {self.source} in {self._ready()} are not those published: they hold images of "
                f"shape {images.shape} and {len(labels):,} labels of {len(values)} values, where {shape} and labels "
                f"from 0 to {row.num_classes - 1} are expected. Remove them and get them again:\n  {self._get_line()}"
            )
        return ImageSet(np.ascontiguousarray(images), labels.astype(np.int64), array_ids(part, np.arange(len(labels))))

    def _divide(self, whole: ImageSet) -> dict[Split, ImageSet]:
        kept = draw_held_out(whole.labels, self.held_out, self.info.classes)
        return {"train": whole.take(~kept) if self.held_out else whole, "held_out": whole.take(kept)}

    def _contents(self) -> object:
        hashes = content_hashes(self._ready(), self.files, whole=True)
        return [[name, *content] for name, content in zip(self.files, hashes, strict=True)]

    def _ready(self) -> Path:
        """Return the first place that holds every file, after a download where that is wanted."""
        folder = self._complete()
        lock = self._data_root() / f".{self.source}.lock"  # there while the data are downloaded
        if self.download and (folder is None or lock.exists()):
            with self._explained():
                make_folder(lock.parent)
                with FileLock(lock):  # of several processes the first downloads, and the others wait for it
                    if self._complete() is None:
                        self._download()
                    lock.unlink(missing_ok=True)
            folder = self._complete()
        if folder is None:
            raise self._missing()
        return folder

    def _complete(self) -> Path | None:
        return next((p for p in self._places() if all(_variant(p / name) for name in self.files)), None)

    def _download(self) -> None:
        from torchvision import datasets

        getattr(datasets, self.source)(str(self._data_root()), download=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn complaints of torchvision's into a DataError."""
        try:
            yield
        except (RuntimeError, OSError) as error:
            raise DataError(
                f"{self.source} in {self._data_root()} could not be fetched or is damaged: {error}\n"
                f"Remove what is there of {', '.join(self.files)} and get it again:\n  {self._get_line()}"
            ) from error

    def _get_line(self) -> str:
        return TABLE[self.name].get.replace("ROOT", str(self._data_root())).replace("\n", "\n  ")


class IdxDataset(ArrayDataset):
    """A dataset in four idx files, packed with gzip or not: `<root>/<name>/raw/` as torchvision has it, or `<root>/`.

    Without `root`, the folder of a Linux distribution's package is searched too where there is one.
    """

    files = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
    package: ClassVar[Path | None] = None  # where a distribution's package puts the files

    def _places(self) -> list[Path]:
        root = self._data_root()
        folder = root / self.source / "raw"
        if self.root is not None:
            return [folder, root]
        return [folder, self.package] if self.package else [folder]

    def _arrays(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        folder = self._ready()
        images, labels = self.files[:2] if part == "train" else self.files[2:]
        return read_idx(folder / images, 3)[:, None], read_idx(folder / labels, 1)

    def _contents(self) -> object:
        folder = self._ready()
        return [[name, *_size_and_crc(folder / name)] for name in self.files]


class MNIST(IdxDataset):
    """Handwritten digits, 28x28, 60,000 to train on and 10,000 to test.

    Args:
        root: folder that holds `MNIST/raw/` or the four idx files; $DDLIGHT_DATA, else ~/.cache/ddlight/data.
    """

    name = source = "MNIST"


class FashionMNIST(IdxDataset):
    """Clothes, 28x28, 60,000 to train on and 10,000 to test. Source: Fashion-MNIST, arXiv 1708.07747.

    Args:
        root: folder that holds `FashionMNIST/raw/` or the four idx files; where it is not given, $DDLIGHT_DATA, else
            ~/.cache/ddlight/data, and then /usr/share/datasets/fashion-mnist are searched.
    """

    name = source = "FashionMNIST"
    package = DEBIAN_FASHION


class FashionMNIST5k(FashionMNIST):
    """500 images per class of Fashion-MNIST's training split, which is as many as CIFAR-100 has.

    The list ships with the package (`draw_5k` makes it). Held-out images come from the other 55,000. The test split
    is Fashion-MNIST's, and sample ids are those that `FashionMNIST` gives.

    Args:
        held_out: images per class, at most 5,500, from Fashion-MNIST's other training images.
    """

    name = "FashionMNIST5k"

    def __init__(self, *args: Any, held_out: int = 500, **kwargs: Any) -> None:
        super().__init__(*args, held_out=held_out, **kwargs)

    def _divide(self, whole: ImageSet) -> dict[Split, ImageSet]:
        chosen = listed_5k()
        others = np.setdiff1d(np.arange(len(whole)), chosen)
        kept = draw_held_out(whole.labels[others], self.held_out, self.info.classes, leave=0)
        return {"train": whole.take(chosen), "held_out": whole.take(others[kept])}


class CIFAR10(ArrayDataset):
    """Small photographs, 32x32, 50,000 to train on and 10,000 to test.

    Where the batches are not there, class folders of pictures are read: `train/<class>/` and `test/<class>/`. JPEG
    copies are not the originals, so that results and sets of them name the dataset `CIFAR10-jpeg`.

    Args:
        root: folder that holds `cifar-10-batches-py/`, `train/` and `test/`, or `cifar10/` with these two;
            $DDLIGHT_DATA, else ~/.cache/ddlight/data.
    """

    name = source = "CIFAR10"
    files = (
        *(f"cifar-10-batches-py/data_batch_{i}" for i in range(1, 6)),
        "cifar-10-batches-py/test_batch",
        "cifar-10-batches-py/batches.meta",
    )

    @cached_property
    def _pictures(self) -> "_Pictures | None":
        """The class folders, where there are some and no batches."""
        root = self._data_root()
        places = [place for place in (root, root / self.source.lower()) if _Pictures.is_tree(place)]
        return _Pictures(self.source, str(places[0])) if places and self._complete() is None else None

    @property
    def info(self) -> DatasetInfo:
        """The row of the table; of pictures their kind of file is part of the name."""
        row = super().info
        return replace(row, name=f"{row.name}-{self._pictures.kind}") if self._pictures else row

    def _arrays(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        from torchvision import datasets

        root = str(self._ready())
        with self._explained():
            data = getattr(datasets, self.source)(root, train=part == "train")
        return data.data.transpose(0, 3, 1, 2), np.array(data.targets)

    def _part(self, part: Part) -> ImageSet:
        return self._pictures.split(part) if self._pictures else super()._part(part)

    def _contents(self) -> object:
        return self._pictures.contents if self._pictures else super()._contents()


class _Pictures(FolderDataset):
    """Pictures of an array dataset in class folders. Raises DataError where they are not as many as were published."""

    test_names = ("test",)

    def __init__(self, source: str, root: str) -> None:
        self.name = source  # type: ignore[misc]
        super().__init__(root, size=TABLE[source].size)

    @staticmethod
    def is_tree(place: Path) -> bool:
        """Whether a folder holds train/ and test/."""
        return (place / "train").is_dir() and (place / "test").is_dir()

    @property
    def kind(self) -> str:
        """Kind of the files, such as "jpeg"."""
        return Path(str(self.tree.train.ids[0])).suffix[1:].lower().replace("jpg", "jpeg")

    def read(self, path: Path) -> np.ndarray:
        """Decode one file, which is not resized: uint8 (3, 32, 32)."""
        return read_full(path)

    def _scan(self, root: Path) -> Tree:
        tree, row = super()._scan(root), TABLE[self.name]
        if (len(tree.train), len(tree.test)) != (row.train, row.test):
            raise DataError(
                f"{root} holds {len(tree.train):,} training and {len(tree.test):,} test pictures of {self.name}, where "
                f"{row.train:,} and {row.test:,} are expected. Complete it, or read it as ImageFolder."
            )
        return tree


class CIFAR10_5k(CIFAR10):
    """500 images per class of CIFAR-10's training split, stratified; held-out images come from the other 45,000.

    The test split is CIFAR-10's, and sample ids are those that `CIFAR10` gives.

    Args:
        held_out: images per class, at most 4,500, from CIFAR-10's other training images.
    """

    name = "CIFAR10_5k"

    def __init__(self, *args: Any, held_out: int = 500, **kwargs: Any) -> None:
        super().__init__(*args, held_out=held_out, **kwargs)

    def _divide(self, whole: ImageSet) -> dict[Split, ImageSet]:
        chosen, kept = draw_few(whole.labels, PER_CLASS, self.held_out, self.info.classes, self.name)
        return {"train": whole.take(chosen), "held_out": whole.take(kept)}


class CIFAR100(CIFAR10):
    """Small photographs of 100 (fine) classes, 32x32, 50,000 to train on and 10,000 to test.

    Class folders of pictures are read where the files are not there, as by `CIFAR10`.

    Args:
        root: folder that holds `cifar-100-python/`, `train/` and `test/`, or `cifar100/` with these two;
            $DDLIGHT_DATA, else ~/.cache/ddlight/data.
    """

    name = source = "CIFAR100"
    files = ("cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta")


class SVHN(ArrayDataset):
    """House numbers, 32x32, 73,257 to train on (the `extra` images left out) and 26,032 to test.

    Args:
        root: folder that holds `train_32x32.mat` and `test_32x32.mat`; $DDLIGHT_DATA, else ~/.cache/ddlight/data.
    """

    name = source = "SVHN"
    files = ("train_32x32.mat", "test_32x32.mat")

    def _arrays(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        from torchvision import datasets

        root = str(self._ready())
        with self._explained():
            data = datasets.SVHN(root, split=part)
        return data.data, data.labels

    def _download(self) -> None:
        from torchvision import datasets

        for part in ("train", "test"):
            datasets.SVHN(str(self._data_root()), split=part, download=True)


def listed_5k() -> np.ndarray:
    """Positions of FashionMNIST5k's images in Fashion-MNIST's training split: int64 (5000,), ascending."""
    text = (resources.files("ddlight.data") / LIST_5K).read_text()
    return np.array([int(line) for line in text.splitlines() if not line.startswith("#")])


def draw_5k(labels: np.ndarray) -> np.ndarray:
    """Draw them from the split's labels, as the shipped list was drawn: 500 per class, from `generator(0, LIST_5K)`."""
    return np.flatnonzero(draw_per_class(labels, [PER_CLASS] * 10, generator(0, LIST_5K)))


def read_idx(path: Path, dims: int) -> np.ndarray:
    """Read an idx file of bytes in `dims` dimensions (format: the MNIST page), `path` or `path`.gz: uint8, read-only.

    Raises DataError where the file is truncated, damaged or something else.
    """
    file = _variant(path) or path
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} is truncated or damaged: {error}. Remove it and get it again.") from error
    start = 4 + 4 * dims
    if len(data) < start or data[:4] != bytes([0, 0, 8, dims]):
        raise DataError(f"{file} is not an idx file of bytes in {dims} dimensions. Remove it and get it again.")
    shape = [int(n) for n in np.frombuffer(data, ">u4", dims, 4)]
    if len(data) != start + math.prod(shape):
        raise DataError(
            f"{file} is truncated or damaged: it holds {len(data):,} bytes where its header, {shape}, asks for "
            f"{start + math.prod(shape):,}. Remove it and get it again."
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _variant(path: Path) -> Path | None:
    """Return the file as it is there, plain rather than packed; None where there is neither."""
    packed = path.with_name(f"{path.name}.gz")
    return path if path.is_file() else packed if packed.is_file() else None


def _size_and_crc(path: Path) -> tuple[int, int]:
    """Size and CRC-32 of a file's content, the same packed (from gzip's trailer, RFC 1952) or not."""
    if path.is_file():
        data = path.read_bytes()
        return len(data), zlib.crc32(data)
    with path.with_name(f"{path.name}.gz").open("rb") as file:
        file.seek(-min(8, file.seek(0, os.SEEK_END)), os.SEEK_END)
        crc, size = struct.unpack("<II", file.read().rjust(8, b"\0"))
    return size, crc

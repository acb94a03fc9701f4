"""Folders of images with one folder per class: what they share, and ImageFolder, any folder of a user's."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from ddlight.core import naming
from ddlight.core.errors import DataError, UsageError
from ddlight.core.files import cache_folder
from ddlight.core.randomness import generator
from ddlight.core.system import total_memory
from ddlight.data.base import ImageSet, Index, RealDataset, Split, check_split, draw_held_out, draw_per_class, freeze
from ddlight.data.contents import content_hashes
from ddlight.data.decoded import DecodedFile, decode_files, open_rgb
from ddlight.data.table import TABLE, DatasetInfo
from ddlight.data.walk import EXTENSIONS, Walk, folders_in, is_image

KEPT_BYTES = 2 * 2**30
"""Decoded test images stay in memory up to this size, and training images in a file of pixels."""

log = logging.getLogger("ddlight")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trainset", "train_set", "training_set"), "train"),
    **dict.fromkeys(("test", "tests", "testing", "testset", "test_set"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "eval", "evaluation", "dev", "val_set"), "val"),
}
"""How folders of a split are called."""


@dataclass(frozen=True)
class Tree:
    """What a scan of the folders found; ids are paths relative to `root`, class by class and by name."""

    root: Path
    classes: tuple[str, ...]
    train: Index
    test: Index


@dataclass(frozen=True, eq=False)
class ImagePaths(Sequence[Path]):
    """Paths of images, each made when it is taken: a million at once would take seconds for every class.

    Attributes:
        root: folder of all.
        ids: str (N,), paths relative to it.
    """

    root: Path
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: Any) -> Any:
        return ImagePaths(self.root, self.ids[row]) if isinstance(row, slice) else self.root / str(self.ids[row])


class FolderDataset(RealDataset):
    """Images in `train/<class>/` and in a folder of the same classes for the test split, as dense arrays or one by one.

    Classes are those that the table lists, in its order, or all folders, sorted by name; images may lie in further
    folders below their class. An image becomes RGB, its short side is resized to `resize` pixels (bilinear,
    antialiased) and the central square of `size` pixels is kept, as torchvision's Resize and CenterCrop do. A sample
    id is the path relative to the root.

    Args:
        size: side of the images in pixels.
        resize: length of the short side before the crop, in pixels; `size` where it is not given.
        full_size: random crops are cut from the whole of a chosen training image instead of its square. Another crop
            domain is another result, so it is part of the data's identity.
    """

    test_names: ClassVar[tuple[str, ...]]  # folders that hold the test split, the first wins

    def __init__(
        self, *args: Any, size: int = 64, resize: int | None = None, full_size: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if size < 1:
            raise UsageError(f"size is the images' side in pixels, 1 or more; {size} was given.")
        if resize is not None and resize < size:
            raise UsageError(f"resize must be at least size, {size}; {resize} was given. Try resize: {size}")
        self.size, self.resize, self.full_size = size, resize, full_size
        self._taken = 0  # training images that were decoded and not kept

    @property
    def info(self) -> DatasetInfo:
        """The row of the table, with the classes, counts and size of this folder. Raises as `tree`."""
        tree, held_out = self.tree, self.held_out * len(self.tree.classes)
        row = replace(TABLE[self.name], classes=tree.classes, size=self.size, held_out=held_out)
        return replace(row, train=len(tree.train) - held_out, test=len(tree.test))

    def identity(self) -> dict[str, object]:
        """Return what names this data, as JSON: options, and number, bytes and a digest of the files."""
        options = {"size": self.size, "resize": self.resize, **({"full_size": True} if self.full_size else {})}
        return {**super().identity(), **options}

    @cached_property
    def tree(self) -> Tree:
        """Classes and files, listed once. Raises DataError where the folder is missing or not laid out as expected."""
        return self._scan(self._find_root())

    def index(self, name: Split) -> Index:
        """Return labels and ids of a split in the order of `split`, without decoding an image; built once."""
        check_split(name)
        return self._indices[name]

    @cached_property
    def _indices(self) -> dict[Split, Index]:
        train, (chosen, kept) = self.tree.train, self._divide(self.tree.train.labels)
        indices: dict[Split, Index] = {
            "train": train.take(chosen),
            "held_out": train.take(kept),
            "test": self.tree.test,
        }
        for index in indices.values():
            freeze(index.labels, index.ids)
        return indices

    def _divide(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which training images (labels (N,)) are trained on and which are held out, as masks or positions."""
        kept = draw_held_out(labels, self.held_out, self.tree.classes)
        return ~kept, kept

    @property
    def short_side(self) -> int:
        """Length of the short side before the crop."""
        return self.resize or self.size

    def take(self, name: Split, rows: np.ndarray) -> np.ndarray:
        """Return some images of a split: uint8 (len(rows), 3, size, size).

        Splits are kept as one file of pixels in the cache, so that the next run decodes nothing: the training split
        up to `KEPT_BYTES`, once half of its images were asked for; the others always, and up to `KEPT_BYTES` in memory.
        """
        if name not in self._splits and name != "train" and self._bytes(name) <= KEPT_BYTES:
            self.split(name)
        if name in self._splits:
            return self._splits[name].images[rows]
        if name != "train":
            return self._pixels(name).take(rows)
        self._taken += len(rows)
        if self._bytes(name) <= KEPT_BYTES and (2 * self._taken > len(self.index(name)) or self._pixels(name).written):
            return self._pixels(name).take(rows)
        files = self.encoded(name)
        return self.decode([files[row] for row in rows.tolist()])

    def _bytes(self, name: Split) -> int:
        return len(self.index(name)) * 3 * self.size**2

    def _pixels(self, name: Split) -> DecodedFile:
        path = cache_folder() / "decoded" / f"{naming.digest([self.identity(), name])}.u8"
        return DecodedFile(path, self.encoded(name), (3, self.size, self.size), self.decode)

    def encoded(self, name: Split) -> Sequence[Path]:
        """Return the image files of a split in the order of `split`."""
        return ImagePaths(self.tree.root, self.index(name).ids)

    def read(self, path: Path) -> np.ndarray:
        """Decode one file: uint8 (3, size, size)."""
        return read_rgb(path, self.size, self.short_side)

    def decode(self, files: Sequence[Path]) -> np.ndarray:
        """Decode image files in threads: uint8 (n, 3, size, size). Raises DataError where some cannot be read."""
        return decode_files(files, self.read, (3, self.size, self.size))

    def _read(self, name: Split) -> dict[Split, ImageSet]:
        index, need, memory = self.index(name), self._bytes(name), total_memory()
        if need > memory:
            raise UsageError(
                f"{len(index):,} images of {self.size}x{self.size} pixels take {need / 1e9:.0f} GB and this machine "
                f"has {memory / 1e9:.0f} GB of memory. Take a smaller `size` or fewer classes."
            )
        kept = 0 < need <= KEPT_BYTES
        images = self._pixels(name).take(np.arange(len(index))) if kept else self.decode(self.encoded(name))
        return {name: ImageSet(images, index.labels, index.ids)}

    def _contents(self) -> object:
        tree, digest = self.tree, hashlib.sha256()
        ids = np.concatenate([tree.train.ids, tree.test.ids])
        labels = np.concatenate([tree.train.labels, tree.test.labels])
        hashes = content_hashes(tree.root, ids.tolist())
        for path, label, (size, content) in zip(ids.tolist(), labels.tolist(), hashes, strict=True):
            digest.update(f"{path}\0{label}\0{size}\0{content}\n".encode())
        if twice := _found_twice(ids, labels, len(tree.train), hashes):
            log.warning("%s", twice)
        return {"count": len(ids), "bytes": sum(size for size, _ in hashes), "sha256": digest.hexdigest()}

    def _find_root(self) -> Path:
        for place in self._places():
            if (place / "train").is_dir() and any((place / name).is_dir() for name in self.test_names):
                return place
        raise self._missing()

    def _scan(self, root: Path) -> Tree:
        train = root / "train"
        test = next((root / name for name in self.test_names if (root / name).is_dir()), None)
        if test is None:
            raise DataError(
                f"{root} has train/ but no {' or '.join(f'{name}/' for name in self.test_names)}. Add one with the "
                f"same class folders, or let a share of train/ be the test split: root: {train}"
            )
        return self._scan_split(root, train, test)

    def _scan_split(self, root: Path, train: Path, test: Path) -> Tree:
        classes = self._classes(train, test)
        return Tree(root, classes, list_images(root, train, classes), self._list_test(root, test, classes))

    def _classes(self, train: Path, test: Path) -> tuple[str, ...]:
        """Return the classes: those that the table lists, or else the folders of both parts, which must be the same."""
        classes, others, listed = class_folders(train), class_folders(test), TABLE[self.name].classes
        for part, names in ((train, classes), (test, others)):
            if missing := set(listed) - set(names):
                raise DataError(
                    f"{part} has {len(listed) - len(missing):,} of the {len(listed):,} class folders of {self.name}: "
                    f"{some(missing)} missing. Complete it."
                )
        if listed:
            return listed
        if classes != others:
            raise DataError(
                f"{train} and {test} have different class folders: {some(set(classes) - set(others))} only in "
                f"{train.name}/, {some(set(others) - set(classes))} only in {test.name}/."
            )
        return classes

    def _list_test(self, root: Path, test: Path, classes: tuple[str, ...]) -> Index:
        return list_images(root, test, classes)


class ImageFolder(FolderDataset):
    """Any folder of images with one folder per class, decoded once into a dense array.

    Two layouts are read: `<root>/train/<class>/` with `<root>/test/<class>/` or, where there is no test/,
    `<root>/val/<class>/`; and `<root>/<class>/`, of which a share of each class, drawn with a fixed seed, becomes the
    test split.

    Args:
        root: your folder.
        test_fraction: share of each class that becomes the test split where the folder has no split of its own.
        flip: whether mirroring an image keeps its class.
    """

    name = "ImageFolder"
    test_names = ("test", "val")

    def __init__(self, *args: Any, test_fraction: float = 0.2, flip: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not 0 < test_fraction < 1:
            raise UsageError(f"test_fraction lies between 0 and 1; {test_fraction} was given. Try test_fraction: 0.2")
        self.test_fraction, self.flip = test_fraction, flip

    @property
    def info(self) -> DatasetInfo:
        """The row of the table, with what this folder holds; its name is part of the dataset's."""
        return replace(super().info, name=f"{self.name}-{self.tree.root.name}", flip=self.flip)

    def identity(self) -> dict[str, object]:
        """Return what names this data, as JSON: options, and number, bytes and a digest of the files."""
        test_fraction = None if self._split_of(self.tree.root) else self.test_fraction
        return {**super().identity(), "test_fraction": test_fraction, "flip": self.flip}

    def _find_root(self) -> Path:
        if self.root is None:
            raise UsageError(
                f"{self.name} needs a folder: set the dataset's `root`.\nExpected: {TABLE[self.name].layout}"
            )
        if not self._data_root().is_dir():
            raise self._missing()
        return self._data_root()

    def _split_of(self, root: Path) -> tuple[Path, Path | None] | None:
        """Folders of the training and test split, however they are spelt; None for `<root>/<class>/`.

        A class may be called train. Raises DataError where it cannot be told.
        """
        names = folders_in(root)
        found: dict[str, list[str]] = {}
        for name in names:
            kind = SPLIT_WORDS.get(name.casefold().replace("-", "_").replace(" ", "_"))
            if kind is not None and folders_in(root / name):
                found.setdefault(kind, []).append(name)
        trains, tests = found.get("train", []), found.get("test", []) or found.get("val", [])
        plain = "train" in names and any(name in names for name in self.test_names)  # without classes they are refused
        if not trains and not plain:
            if tests:
                raise DataError(f"{root} has a folder {tests[0]}/ and no train/ beside it. Name it train/, or add one.")
            return None
        others = [name for name in names if not any(name in alike for alike in found.values())]
        if "train" not in names and (len(trains) > 1 or len(tests) > 1 or others):
            raise DataError(
                f"{root} has {', '.join([*trains, *tests])}, which look like splits, and {some(others)} beside: are "
                f"they classes? Move what is no split away, or name the folders train/ and test/."
            )
        train = "train" if "train" in names else trains[0]
        test = next((name for name in self.test_names if name in names), tests[0] if tests else None)
        return root / train, None if test is None else root / test

    def _scan(self, root: Path) -> Tree:
        split = self._split_of(root)
        if split is not None and split[1] is not None:
            train, test = split[0], split[1]
            log.info("%s is the training split, %s the test split", train, test)
            return self._scan_split(root, train, test)
        if split is not None:
            return super()._scan(root)  # which says what is missing
        classes = class_folders(root)
        walk = Walk(root)
        whole = list_images(root, root, classes, walk)
        sizes = np.bincount(whole.labels)
        if sizes.min() < 2:
            raise DataError(
                f"{root / classes[int(sizes.argmin())]} holds one image: a class needs two or more, to be split into "
                "training and test images."
            )
        _say(root, walk, whole)
        counts = np.clip(np.rint(sizes * self.test_fraction).astype(int), 1, sizes - 1)
        is_test = draw_per_class(whole.labels, counts, generator(0, "test"))
        return Tree(root, classes, whole.take(~is_test), whole.take(is_test))

    def _scan_split(self, root: Path, train: Path, test: Path) -> Tree:
        classes, walk = self._classes(train, test), Walk(train, test)
        indices = [list_images(root, part, classes, walk) for part in (train, test)]
        _say(root, walk, *indices)
        return Tree(root, classes, *indices)


def _say(root: Path, walk: Walk, *indices: Index) -> None:
    """Log what was found below a user's folder."""
    sizes = np.bincount(np.concatenate([index.labels for index in indices]))
    log.info("%s: %s", root, walk.line(len(sizes), int(sizes.sum()), int(sizes.min()), int(sizes.max())))


def _found_twice(ids: np.ndarray, labels: np.ndarray, trained: int, hashes: Sequence[tuple[int, str]]) -> str:
    """Say which pictures lie in both splits or in two classes, by their content; "" where none does.

    Args:
        ids: of the training images and then the test images: str (N,).
        labels: int64 (N,).
        trained: how many of them are training images.
        hashes: bytes and checksum of each.
    """
    first: dict[tuple[int, str], int] = {}
    pairs = [(first.setdefault(content, row), row) for row, content in enumerate(hashes)]
    between = [(a, b) for a, b in pairs if a < trained <= b]
    mixed = [(a, b) for a, b in pairs if labels[a] != labels[b]]
    parts = [
        f"{len(found):,} pictures are in {where}, such as {ids[found[0][0]]} and {ids[found[0][1]]}"
        for found, where in ((between, "the training and the test split"), (mixed, "two classes"))
        if found
    ]
    return "; ".join(parts)


def read_rgb(path: Path, size: int, resize: int) -> np.ndarray:
    """Decode an image, resize its short side (bilinear, antialiased) and cut out its centre: uint8 (3, size, size).

    Deviation: as in torchvision, EXIF orientation is ignored.

    Raises:
        ValueError: pixels have more than 8 bits.
        Exception: whatever Pillow raises where the file is damaged.
    """
    rgb = open_rgb(path)
    if rgb.size == (size, size) and size == resize:
        return np.asarray(rgb).transpose(2, 0, 1)
    short = min(rgb.size)
    width, height = (resize * side // short for side in rgb.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    square = rgb.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    return np.asarray(square).transpose(2, 0, 1)


def class_folders(folder: Path) -> tuple[str, ...]:
    """Return the class names that a folder of class folders holds, sorted.

    Raises DataError where it holds images itself, or fewer than two folders.
    """
    if loose := loose_images(folder):
        raise DataError(
            f"{folder} holds {len(loose):,} images that are in no class folder, such as {loose[0]}. Put each image "
            f"into a folder named after its class: {folder / '<class>' / loose[0]}"
        )
    names = folders_in(folder)
    if len(names) == 1:
        raise DataError(
            f"{folder} has only one class folder, {names[0]}/; two or more are needed. If the classes are below it: "
            f"root: {folder / names[0]}"
        )
    if not names:
        raise DataError(f"{folder} has no class folders. Put the images of each class into {folder / '<class>'}/")
    return tuple(names)


def loose_images(folder: Path) -> list[str]:
    """Names of the images that lie in a folder itself, sorted."""
    return sorted(entry.name for entry in folder.iterdir() if is_image(entry.name))


def list_images(root: Path, folder: Path, classes: Sequence[str], walk: Walk | None = None) -> Index:
    """List the images below `folder`/<class>/ for each class, with paths relative to `root`.

    `walk` is one look that lists of several folders share. Raises DataError where a class has none.
    """
    walk, prefix = walk or Walk(folder), folder.relative_to(root).as_posix() + "/"
    prefix = "" if prefix == "./" else prefix
    per_class = [[f"{prefix}{name}/{path}" for path in walk.pictures(folder / name)] for name in classes]
    empty = [name for name, files in zip(classes, per_class, strict=True) if not files]
    if empty:
        left = ", ".join(f"{count:,} {what}" for what, count in walk.left_out.items())
        raise DataError(
            f"{folder} has no images in {len(empty)} of its {len(classes)} class folders: {some(empty)}. Images "
            f"end in {', '.join(EXTENSIONS)}. Add some, or remove the folder.{f' Left out: {left}.' if left else ''}"
        )
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in per_class])
    return Index(labels, np.array([path for files in per_class for path in files], dtype=np.str_))


def some(names: Sequence[str] | set[str]) -> str:
    """Write the first few of many names; 'none' where there are none."""
    first = sorted(names)[:5]
    return (", ".join(first) + f" and {len(names) - 5:,} more" * (len(names) > 5)) or "none"

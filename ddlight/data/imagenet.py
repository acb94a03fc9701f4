"""ImageNet-1K in the layouts that people have, its subsets, and Tiny-ImageNet. Labels follow from wnids."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ddlight.core.errors import DataError, UsageError, nearest
from ddlight.data.base import Index, draw_few
from ddlight.data.decoded import image_size
from ddlight.data.folder import FolderDataset, Tree, class_folders, list_images, loose_images, some
from ddlight.data.table import TABLE, DatasetInfo

SOLUTION = "LOC_val_solution.csv"
"""Kaggle's list of the validation images' classes."""
ANNOTATIONS = "val_annotations.txt"
"""Tiny-ImageNet's list of them."""
LOOKED_AT = 32
"""Pictures whose sizes tell whether all are squares of one size."""


class _WnidFolders(FolderDataset):
    """Classes that are wnids (WordNet ids), sorted, so that a label follows from the name of the image's folder.

    Fewer training images or another size of image are another dataset in results: ImageNette-5k-64 has 500 a class.

    Args:
        root: folder that holds train/ and val/, or one of this dataset's usual folders with them; $DDLIGHT_DATA, else
            ~/.cache/ddlight/data.
        per_class: train on so many images of each class, drawn; `held_out` are then drawn from the others. All of
            those that are not held out where it is not given.
    """

    layouts: ClassVar[tuple[str, ...]]  # below the data root
    test_names = ("val",)

    def __init__(self, *args: Any, per_class: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if per_class is not None and per_class < 1:
            raise UsageError(f"per_class is a number of training images, 1 or more; {per_class} was given.")
        self.per_class = per_class

    @property
    def info(self) -> DatasetInfo:
        """The row of the table; with the counts of the files where they are there."""
        try:
            row = super().info
        except DataError:
            row = replace(TABLE[self.name], size=self.size)
        name = row.name
        if self.per_class is not None:
            count = self.per_class * row.num_classes
            row = replace(row, train=count, held_out=self.held_out * row.num_classes)
            name += f"-{count // 1000}k" if count % 1000 == 0 else f"-{count}"
        return replace(row, name=name if self.size == TABLE[self.name].size else f"{name}-{self.size}")

    def identity(self) -> dict[str, object]:
        """Return what names this data, as JSON, as `FolderDataset.identity`."""
        return super().identity() | ({} if self.per_class is None else {"per_class": self.per_class})

    def _divide(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.per_class is None:
            return super()._divide(labels)
        return draw_few(labels, self.per_class, self.held_out, self.tree.classes, self.name)

    def _places(self) -> list[Path]:
        root = self._data_root()
        below = [root / layout for layout in self.layouts]
        return below if self.root is None else [root, *below]


class _ImageNet(_WnidFolders):
    """Some or all classes of ILSVRC 2012, from `train/<wnid>/` and val/; the test split is val/.

    val/ has the same folders or, as it was published, 50,000 loose images: their labels are then read from Kaggle's
    `LOC_val_solution.csv`, in the root or up to three folders above.

    Args:
        size: side of the images in pixels.
        resize: length of the short side before the crop, in pixels. Where it is not given, size * 256 / 224; of
            pictures that are squares of one size already nothing is cut off.
    """

    wnids: Sequence[str] | str | None
    """The classes to read, or a file of them: those of the table, where it lists some; None reads all."""

    def __init__(self, *args: Any, size: int = 224, resize: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, size=size, resize=resize, **kwargs)
        self.wnids = TABLE[self.name].classes or None

    @cached_property
    def short_side(self) -> int:
        """Length of the short side before the crop; where `resize` is not given, the first pictures tell."""
        if self.resize is not None:
            return self.resize
        sizes = {image_size(path) for path in self.encoded("test")[:LOOKED_AT]}
        cut = len(sizes) == 1 and len(set(sizes.pop())) == 1
        return self.size if cut else round(self.size * 256 / 224)

    def identity(self) -> dict[str, object]:
        """Return what names this data, as JSON, as `FolderDataset.identity`."""
        return {**super().identity(), "resize": self.short_side}

    @property
    def info(self) -> DatasetInfo:
        """The row of the table, with the classes to read; with the counts of the files where they are there."""
        info = super().info
        return info if info.classes or self.wnids is None else replace(info, classes=self._wanted())

    def class_names(self) -> tuple[str, ...]:
        """Return what the classes are called in English, in class order, such as 'tench, Tinca tinca'."""
        from timm.data import ImageNetInfo

        names = ImageNetInfo("imagenet-1k")
        return tuple(names.label_name_to_description(wnid) for wnid in self.tree.classes)

    def _classes(self, train: Path, test: Path) -> tuple[str, ...]:
        """Return the wnids to read, sorted, all of which must be in both parts."""
        wanted = self._wanted()
        for part in (train,) if loose_images(test) else (train, test):
            names = set(class_folders(part))
            missing = set(wanted) - names
            strange = names - set(wanted) if self.wnids is None else set()
            if missing or strange:
                raise DataError(
                    f"{part} has {len(names):,} class folders, {len(set(wanted) - missing):,} of the {len(wanted):,} "
                    f"wanted: {some(missing)} missing, {some(strange)} not of ILSVRC 2012. Complete it, or name the "
                    f"classes to read, such as wnids: [{', '.join(sorted(names & set(wanted))[:2])}]"
                )
        return wanted

    def _list_test(self, root: Path, test: Path, classes: tuple[str, ...]) -> Index:
        if not (loose := loose_images(test)):
            return list_images(root, test, classes)
        solution = _solution(root)
        unknown = [name for name in loose if Path(name).stem not in solution]
        if unknown:
            raise DataError(f"{SOLUTION} has no label for {some(unknown)} of {test}. Get the file again.")
        wnids = {name: solution[Path(name).stem] for name in loose}
        rows = sorted((classes.index(wnid), name) for name, wnid in wnids.items() if wnid in classes)
        missing = set(classes) - set(wnids.values())
        if missing:
            raise DataError(f"{test} has no image of {some(missing)}. Complete it, or leave these out of wnids.")
        return _listed_rows(test.relative_to(root).as_posix(), rows)

    def _wanted(self) -> tuple[str, ...]:
        from timm.data import ImageNetInfo

        every = ImageNetInfo("imagenet-1k").label_names()
        if self.wnids is None:
            return tuple(sorted(every))
        wnids = list(self.wnids)
        if isinstance(self.wnids, str):
            file = Path(self.wnids).expanduser()
            if not file.is_file():
                raise UsageError(
                    f"wnids: there is no file {self.wnids}. It takes wnids, such as [n01440764, n02102040], or a file."
                )
            wnids = file.read_text().split()
        if unknown := sorted(set(wnids) - set(every)):
            raise UsageError(f"wnids: {some(unknown)} not among ILSVRC 2012's 1,000.{nearest(unknown[0], every)}")
        if len(set(wnids)) != len(wnids) or len(wnids) < 2:
            raise UsageError(f"wnids needs two or more, each once; {len(wnids)} were given: {wnids}")
        return tuple(sorted(wnids))


class ImageNet1K(_ImageNet):
    """ILSVRC 2012, or some of its classes, from `imagenet/` or `ILSVRC/Data/CLS-LOC/`.

    Args:
        wnids: the classes to read, as a list or a text file with one per line; all 1,000, which must be there, where it
            is not given.
    """

    name = "ImageNet1K"
    layouts = ("imagenet", "ILSVRC/Data/CLS-LOC")

    def __init__(self, *args: Any, wnids: list[str] | str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.wnids = wnids


class ImageNette(_ImageNet):
    """Ten easy classes of ImageNet, from `imagenette2/`, `imagenette2-320/` and the like, or a full ILSVRC tree.

    Source: https://github.com/fastai/imagenette, whose validation images are the test split.
    """

    name = "ImageNette"
    layouts = ("imagenette2", "imagenette2-320", "imagenette2-160", "imagenette", *ImageNet1K.layouts)


class ImageWoof(_ImageNet):
    """Ten breeds of dogs of ImageNet, from `imagewoof2/`, `imagewoof2-320/`, `imagewoof2-160/` or a full ILSVRC tree.

    Source: https://github.com/fastai/imagenette, whose validation images are the test split.
    """

    name = "ImageWoof"
    layouts = ("imagewoof2", "imagewoof2-320", "imagewoof2-160", *ImageNet1K.layouts)


class ImageNet100(_ImageNet):
    """100 classes of ImageNet: the list of CMC (arXiv 1906.05849), from `imagenet100/` or a full ILSVRC tree."""

    name = "ImageNet100"
    layouts = ("imagenet100", *ImageNet1K.layouts)


class TinyImageNet(_WnidFolders):
    """200 classes of ImageNet at 64 pixels, 500 images each, from `tiny-imagenet-200/`; the test split is val/.

    val/ is read as published (`val/images/` with `val/val_annotations.txt`) or sorted into folders of wnids. Pictures
    of 32 pixels, in `tiny-imagenet-32/` or `tiny32/`, are read with `size: 32`; results then say TinyImageNet-32.
    """

    name = "TinyImageNet"
    layouts = ("tiny-imagenet-200", "tiny-imagenet-32", "tiny32")

    def _scan(self, root: Path) -> Tree:
        tree = super()._scan(root)
        side = min(image_size(root / str(tree.train.ids[0])))
        if side < self.size:
            raise DataError(
                f"The pictures of {root} have {side} pixels, and {self.size} are asked for: set the dataset's size to "
                f"{side}, or less."
            )
        return tree

    def _classes(self, train: Path, test: Path) -> tuple[str, ...]:
        return class_folders(train) if (test / ANNOTATIONS).exists() else super()._classes(train, test)

    def _list_test(self, root: Path, test: Path, classes: tuple[str, ...]) -> Index:
        file = test / ANNOTATIONS
        if not file.exists():
            return list_images(root, test, classes)
        pairs = [line.split("\t")[:2] for line in file.read_text().splitlines() if line]
        unknown = {pair[-1] for pair in pairs} - set(classes)
        absent = [pair[0] for pair in pairs if not (test / "images" / pair[0]).exists()]
        if unknown or absent or not pairs:
            raise DataError(
                f"{file} does not fit the folders: {some(unknown)} without training images, {some(absent)} not in "
                f"{test / 'images'}. Unpack the archive again."
            )
        rows = sorted((classes.index(wnid), name) for name, wnid in pairs)
        return _listed_rows((test / "images").relative_to(root).as_posix(), rows)


def _listed_rows(folder: str, rows: list[tuple[int, str]]) -> Index:
    ids = np.array([f"{folder}/{name}" for _, name in rows], dtype=np.str_)
    return Index(np.array([label for label, _ in rows], np.int64), ids)


def _solution(root: Path) -> dict[str, str]:
    """Wnid of each validation image by its name without ending, from Kaggle's file. Raises DataError."""
    places = [folder / SOLUTION for folder in (root, *root.resolve().parents[:3])]
    file = next((place for place in places if place.exists()), None)
    if file is None:
        raise DataError(
            f"{root / 'val'} holds loose images and no class folders, and {SOLUTION}, which tells their classes, is "
            f"not in {root} or above. Put it there (it comes with Kaggle's ILSVRC), or sort val/ into folders of wnids."
        )
    lines = (line.split(",", 1) for line in file.read_text().splitlines()[1:] if "," in line)
    return {name: prediction.split()[0] for name, prediction in lines if prediction.strip()}

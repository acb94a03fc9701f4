"""Pictures in class folders: SRe2L, CDA, G-VBSM, RDED, EDC, FADRM, Minimax."""

import re
from pathlib import Path

import numpy as np

from ddlight.core.class_names import match_classes
from ddlight.core.errors import DataError
from ddlight.data.base import RealDataset
from ddlight.data.decoded import channels_first, decode_files, image_size, open_picture
from ddlight.data.walk import Walk, folders_in
from ddlight.sets.readers.released_set import ReleasedSet


def read_class_folders(path: Path, dataset: RealDataset) -> ReleasedSet:
    """Read the pictures of each class, which its folder's name says; in the order of their numbers, then names.

    Raises DataError where there are none of the dataset's classes, or some are damaged or of another size.
    """
    info, folders, walk = dataset.info, subfolders(path), Walk(path)
    matched = match_classes((folder.name for folder in folders), info.classes, info.name)
    files = [
        (label, folder / file)
        for folder in folders
        if (label := matched.labels[folder.name]) is not None
        for file in walk.pictures(folder)
    ]
    files.sort(key=lambda entry: (entry[0], number(entry[1]), entry[1].name))
    if not files:
        raise DataError(f"{path} has no pictures of the classes of {info.name} in its {len(folders)} class folders.")
    width, height = image_size(files[0][1])
    size = width if width == height else info.size

    def decode(file: Path) -> np.ndarray:
        picture = open_picture(file, info.channels)
        if picture.size != (size, size):
            raise ValueError(f"it has {picture.width} x {picture.height} pixels where others have {size} x {size}")
        return channels_first(np.asarray(picture))

    images = np.ascontiguousarray(decode_files([file for _, file in files], decode, (info.channels, size, size)))
    left_out = sum(label is None for label in matched.labels.values())
    notes = (f"{left_out} class folders are not of {info.name} and are left out",) if left_out else ()
    skipped = tuple(f"left out: {count:,} {what}" for what, count in sorted(walk.left_out.items()))
    notes = (f"class folders were told {matched.how}", *notes, *skipped)
    labels = np.array([label for label, _ in files], np.int64)
    return ReleasedSet("folder of class folders", images, labels, notes=notes)


def subfolders(path: Path) -> list[Path]:
    """Folders in a folder, but hidden ones and a system's."""
    return [path / name for name in folders_in(path)]


def number(path: Path) -> int:
    """Number of a file among its like: of `_id007`, else the last number in its name; 0 where there is none."""
    match = re.search(r"_id(\d+)", path.stem) or re.search(r"(\d+)\D*$", path.stem)
    return int(match[1]) if match else 0

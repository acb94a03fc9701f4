"""Pictures in class folders: SRe2L, CDA, G-VBSM, RDED, EDC, FADRM, Minimax."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from ddlight.core.class_names import match_classes
from ddlight.core.errors import DataError
from ddlight.data.base import RealDataset
from ddlight.data.decoded import channels_first, decode_files
from ddlight.sets.readers.released_set import ReleasedSet

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def read_class_folders(path: Path, dataset: RealDataset) -> ReleasedSet:
    """Read the pictures of each class, which its folder's name says; in the order of their numbers, then names.

    Raises DataError where there are none of the dataset's classes, or some are damaged or of another size.
    """
    info, folders = dataset.info, subfolders(path)
    matched = match_classes((folder.name for folder in folders), info.classes, info.name)
    files = [
        (label, file)
        for folder in folders
        if (label := matched.labels[folder.name]) is not None
        for file in folder.rglob("*")
        if file.suffix.lower() in PICTURES and not file.name.startswith(".")
    ]
    files.sort(key=lambda entry: (entry[0], number(entry[1]), entry[1].name))
    if not files:
        raise DataError(f"{path} has no pictures of the classes of {info.name} in its {len(folders)} class folders.")
    with Image.open(files[0][1]) as image:
        size = image.width if image.width == image.height else info.size

    def decode(file: Path) -> np.ndarray:
        with Image.open(file) as image:
            picture = image.convert("L" if info.channels == 1 else "RGB")
        if picture.size != (size, size):
            raise ValueError(f"it has {picture.width} x {picture.height} pixels where others have {size} x {size}")
        return channels_first(np.asarray(picture))

    images = np.ascontiguousarray(decode_files([file for _, file in files], decode, (info.channels, size, size)))
    left_out = sum(label is None for label in matched.labels.values())
    notes = (f"{left_out} class folders are not of {info.name} and are left out",) if left_out else ()
    notes = (f"class folders were told {matched.how}", *notes)
    labels = np.array([label for label, _ in files], np.int64)
    return ReleasedSet("folder of class folders", images, labels, notes=notes)


def subfolders(path: Path) -> list[Path]:
    """Folders in a folder, but hidden ones."""
    return [inner for inner in path.iterdir() if inner.is_dir() and not inner.name.startswith(".")]


def number(path: Path) -> int:
    """Number of a file among its like: of `_id007`, else the last number in its name; 0 where there is none."""
    match = re.search(r"_id(\d+)", path.stem) or re.search(r"(\d+)\D*$", path.stem)
    return int(match[1]) if match else 0

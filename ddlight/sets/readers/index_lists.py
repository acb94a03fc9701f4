"""Coresets as lists of positions in the training split, or of sample ids: `.txt`, `.csv`, `.json`, `.npy`."""

import json
from pathlib import Path

import numpy as np

from ddlight.core.errors import DataError
from ddlight.data.base import RealDataset
from ddlight.sets.readers.kip_and_frepo import load_npy
from ddlight.sets.readers.released_set import ReleasedSet


def read_index_list(path: Path, dataset: RealDataset) -> ReleasedSet:
    """Read which training images were chosen. Where all entries are numbers they are positions.

    Raises DataError where the file cannot be read, or lists images twice or ones that the dataset does not have.
    """
    index, entries = dataset.index("train"), _entries(path)
    places = {sample: row for row, sample in enumerate(index.ids.tolist())}
    numbers = all(entry.isdigit() for entry in entries)
    unknown = [e for e in entries if not (numbers and int(e) < len(index)) and e not in places]
    if unknown or len(set(entries)) != len(entries):
        what = f"{len(unknown)} that are not there, such as {unknown[0]}" if unknown else "the same one twice"
        raise DataError(f"{path} lists images of {dataset.info.name} ({len(index):,} for training), but {what}.")
    rows = np.array([int(e) if numbers else places[e] for e in entries], np.int64)
    return ReleasedSet(
        "list of indices" if numbers else "list of sample ids", np.empty(0, np.uint8), index.labels[rows], rows=rows
    )


def _positions(path: Path) -> np.ndarray:
    """Whole numbers (N,), or (1, N), of a .npy file."""
    array = load_npy(path)
    if array.dtype.kind not in "iu" or array.size != max(array.shape, default=0):
        raise DataError(
            f"{path} holds {array.dtype} of shape {array.shape}, which is no list of positions: whole numbers (N,) "
            "are expected. Images are read with their labels: images.npy beside labels.npy."
        )
    return array.ravel()


def _entries(path: Path) -> list[str]:
    try:
        if path.suffix == ".npy":
            return [str(n) for n in _positions(path).tolist()]
        if path.suffix == ".json":
            return [str(n) for n in json.loads(path.read_text())]
        lines = [line.split(",")[0].strip() for line in path.read_text().splitlines()]
    except (ValueError, OSError, TypeError) as error:
        raise DataError(f"{path} cannot be read as a list of indices or sample ids: {error}") from error
    return [line for n, line in enumerate(lines) if line and (n or line not in ("index", "id", "indices"))]

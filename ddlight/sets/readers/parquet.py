"""Tables of images as the Hugging Face Hub keeps them: parquet files with a column of pictures and one of classes."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from ddlight.core.class_names import match_classes
from ddlight.core.errors import DataError, UsageError
from ddlight.data.base import RealDataset
from ddlight.data.decoded import channels_first, open_picture
from ddlight.data.walk import is_litter
from ddlight.sets.readers.released_set import ReleasedSet

PICTURES = ("image", "img")
CLASSES = ("class_id", "label", "labels", "fine_label")


def parquet_files(path: Path) -> list[Path]:
    """The parquet files of a training split: the file itself, or those of a folder (`train-*` before any others)."""
    if path.is_file():
        return [path]
    found = sorted(path.rglob("*.parquet"))
    files = [file for file in found if not any(map(is_litter, file.relative_to(path).parts))]
    return [file for file in files if file.name.startswith("train")] or files


def read_parquet(path: Path, dataset: RealDataset) -> ReleasedSet:
    """Read the pictures of the dataset's classes, in the order of the rows, from a file or the Hub's folder of them.

    DataError where the files are damaged, have no such columns, or hold pictures of several sizes.
    """
    try:
        import pyarrow.parquet as table
    except ImportError:
        raise UsageError(f"{path}: reading parquet needs an extra: pip install 'ddlight[hub]'") from None
    pictures: list[bytes] = []
    names: list[str] = []
    for file in parquet_files(path):
        try:
            content = table.read_table(file)
            columns, said = content.to_pydict(), (content.schema.metadata or {}).get(b"huggingface", b"{}")
        except Exception as error:  # whatever a damaged file makes of it
            raise DataError(f"{file} is damaged or no parquet file: {error}") from error
        for entry in _column(columns, PICTURES, file):  # bytes, or the Hub's {"bytes": ..., "path": ...}
            content = entry.get("bytes") if isinstance(entry, dict) else entry
            if not isinstance(content, bytes):
                raise DataError(f"{file} keeps pictures outside itself. Download the data set with its images.")
            pictures.append(content)
        called = _class_names(said)
        names += [called.get(number, _named(number)) for number in _column(columns, CLASSES, file)]
    info, matched = dataset.info, match_classes(names, dataset.info.classes, dataset.info.name)
    rows = [row for row, name in enumerate(names) if matched.labels[name] is not None]
    images = [_decode(pictures[row], info.channels) for row in rows]
    sizes = {image.shape for image in images}
    if len(sizes) != 1:
        raise DataError(f"{path} holds pictures of {len(sizes)} sizes; one size is needed.")
    left_out = len(names) - len(rows)
    notes = (f"{left_out:,} rows are not of {info.name} and are left out",) if left_out else ()
    notes = (f"classes were told {matched.how}", *notes)
    labels = np.array([matched.labels[names[row]] for row in rows], np.int64)
    return ReleasedSet("parquet of the Hub", np.stack(images), labels, notes=notes)


def _class_names(said: bytes) -> dict[int, str]:
    """Names of the numbers of a column of classes, as the Hub keeps them beside the table; none where it has none."""
    try:
        features = json.loads(said)["info"]["features"]
        return next(dict(enumerate(features[name]["names"])) for name in CLASSES if name in features)
    except (ValueError, KeyError, TypeError, StopIteration):
        return {}


def _named(number: Any) -> str:
    return str(int(number)) if isinstance(number, float) and number.is_integer() else str(number)


def _column(columns: dict[str, Any], names: tuple[str, ...], file: Path) -> list[Any]:
    name = next((name for name in names if name in columns), None)
    if name is None or any(entry is None for entry in columns[name]):
        raise DataError(f"{file} has the columns {', '.join(columns)}; {' or '.join(names)} is needed, without gaps.")
    return list(columns[name])


def _decode(content: bytes, channels: int) -> np.ndarray:
    try:
        return channels_first(np.asarray(open_picture(io.BytesIO(content), channels)))
    except Exception as error:  # a damaged picture makes Pillow raise almost anything
        raise DataError(f"A picture of {len(content):,} bytes cannot be decoded: {error}") from error

"""Tables of images as the Hugging Face Hub keeps them: parquet files with a column of pictures and one of classes."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ddlight.core.errors import DataError, UsageError
from ddlight.data.decoded import channels_first

PICTURES = ("image", "img")
CLASSES = ("class_id", "label", "labels", "fine_label")


def parquet_files(path: Path) -> list[Path]:
    """The parquet files of a training split: the file itself, or those of a folder (`train-*` before any others)."""
    if path.is_file():
        return [path]
    found = sorted(path.rglob("*.parquet"))
    return [file for file in found if file.name.startswith("train")] or found


def read_parquet(path: Path) -> tuple[list[bytes], list[int]]:
    """Encoded pictures and class numbers, in the order of the rows.

    Args:
        path: a parquet file, or a folder of them as the Hub's download has it.

    Raises:
        UsageError: the extra that reads parquet is not installed.
        DataError: the files are damaged or have no such columns.
    """
    try:
        import pyarrow.parquet as table
    except ImportError:
        raise UsageError(f"{path}: reading parquet needs an extra: pip install 'ddlight[hub]'") from None
    pictures: list[bytes] = []
    classes: list[int] = []
    for file in parquet_files(path):
        try:
            columns = table.read_table(file).to_pydict()
        except Exception as error:  # whatever a damaged file makes of it
            raise DataError(f"{file} is damaged or no parquet file: {error}") from error
        pictures += [_bytes(entry, file) for entry in _column(columns, PICTURES, file)]
        classes += [int(number) for number in _column(columns, CLASSES, file)]
    return pictures, classes


def _column(columns: dict[str, Any], names: Sequence[str], file: Path) -> list[Any]:
    name = next((name for name in names if name in columns), None)
    if name is None or any(entry is None for entry in columns[name]):
        raise DataError(f"{file} has the columns {', '.join(columns)}; {' or '.join(names)} is needed, without gaps.")
    return list(columns[name])


def _bytes(entry: Any, file: Path) -> bytes:
    """The picture of one cell: bytes, or the Hub's {"bytes": ..., "path": ...}."""
    content = entry.get("bytes") if isinstance(entry, dict) else entry
    if not isinstance(content, bytes):
        raise DataError(f"{file} keeps pictures outside itself. Download the data set with its images.")
    return content


def decode_picture(content: bytes, channels: int) -> np.ndarray:
    """Decode one picture: uint8 (C, H, W). Raises DataError where it is damaged."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return channels_first(np.asarray(image.convert("L" if channels == 1 else "RGB")))
    except Exception as error:  # a damaged picture makes Pillow raise almost anything
        raise DataError(f"A picture of {len(content):,} bytes cannot be decoded: {error}") from error

"""Arrays of a flax checkpoint, read without flax: a msgpack tree whose arrays are extensions of type 1."""

from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ddlight.core.errors import DataError, UsageError

ARRAY = 1
"""Msgpack extension type of an array: (shape, name of the dtype, bytes), itself as msgpack (flax/serialization.py)."""
FLOATS = ("float16", "float32", "float64")


def is_flax(path: Path) -> bool:
    """Whether a file begins as a flax checkpoint: a msgpack map of 1 to 15 entries whose first key is a short string.

    No pickle begins so (0x80, then its protocol), nor a PNG (0x89, then P).
    """
    with path.open("rb") as file:
        begin = file.read(2)
    return len(begin) == 2 and 0x81 <= begin[0] <= 0x8F and 0xA0 <= begin[1] <= 0xBF


def read_flax(path: Path, names: tuple[str, ...]) -> list[np.ndarray]:
    """Read some parameters of a checkpoint; nothing in it is executed, and no other array is unpacked.

    Args:
        path: a file that `flax.training.checkpoints.save_checkpoint` wrote.
        names: of arrays below `params`.

    Returns:
        The arrays, float32, in the order of their names.

    Raises:
        UsageError: the extra that reads msgpack is not installed.
        DataError: the file is damaged, has no such parameter, or its bytes are not what its header says.
    """
    try:
        import msgpack
    except ImportError:
        raise UsageError(f"{path}: reading flax checkpoints needs an extra: pip install 'ddlight[flax]'") from None
    try:
        tree = msgpack.unpackb(path.read_bytes(), raw=False)
    except Exception as error:  # whatever a damaged file makes of it
        raise DataError(f"{path} is damaged or no flax checkpoint: {error}") from error
    params = tree.get("params") if isinstance(tree, dict) else None
    if not isinstance(params, dict) or any(name not in params for name in names):
        has = ", ".join(map(str, params)) if isinstance(params, dict) else "none"
        raise DataError(f"{path} is a msgpack file with the parameters {has}; {' and '.join(names)} are needed.")
    return [_array(params[name], f"{path}: {name}") for name in names]


def _array(entry: Any, place: str) -> np.ndarray:
    import msgpack

    try:
        code, packed = entry
        shape, dtype, content = msgpack.unpackb(packed, raw=True)
        shape, dtype = tuple(int(side) for side in shape), bytes(dtype).decode()
    except Exception as error:  # whatever a damaged entry makes of it
        raise DataError(f"{place} is not an array as flax writes one: {error}") from error
    if code != ARRAY or dtype not in FLOATS:
        raise DataError(f"{place} is of type {code}, {dtype}; an array of {', '.join(FLOATS)} is expected.")
    fits = isinstance(content, bytes) and prod(shape) * np.dtype(dtype).itemsize == len(content)
    if not fits or min(shape, default=0) < 1:
        raise DataError(f"{place} says that it is {dtype} of shape {shape}, which is not the size of its content.")
    return np.frombuffer(content, dtype).reshape(shape).astype(np.float32)

"""Sets of kernel regression: `.npz` and `.npy` of KIP, `.npz` of RFAD and FRePo, and FRePo's flax checkpoints.

A flax checkpoint, read without flax, is a msgpack tree whose arrays are extensions of type 1.
"""

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ddlight.core.errors import DataError, UsageError
from ddlight.data.base import RealDataset
from ddlight.data.table import DatasetInfo
from ddlight.sets.readers.released_set import ReleasedSet, from_arrays, whitened_if_named
from ddlight.sets.readers.tensors import ALONE, file_beside

UNWHITENED = ("MNIST", "FashionMNIST")
"""Datasets, by the beginning of their names, that FRePo does not whiten."""
ARRAY = 1
"""Msgpack extension type of an array: (shape, name of the dtype, bytes), itself as msgpack (flax/serialization.py)."""
FLOATS = ("float16", "float32", "float64")


def read_npz(path: Path, dataset: RealDataset) -> ReleasedSet:
    """Read a set from an archive of numpy, of which nothing is executed; DataError where it is damaged or no set."""
    try:
        with np.load(path, allow_pickle=False) as content:
            frepo = "image" in content
            images, labels = (content[name] for name in (("image", "label") if frepo else ("images", "labels")))
    except KeyError as error:
        raise DataError(f"{path} has no array {error}; images and labels are expected.") from error
    except Exception as error:  # a damaged archive makes numpy raise almost anything
        raise DataError(f"{path} is damaged, or holds objects that could run code: {error}") from error
    if images.dtype.kind not in "fiu" or labels.dtype.kind not in "fiu":
        raise DataError(f"{path} holds arrays of {images.dtype} and {labels.dtype}; numbers are expected.")
    if frepo:
        return _from_prototypes(images, labels, path, ".npz of FRePo", dataset)
    return whitened_if_named(_from_kernel(images, labels, path, ".npz", dataset.info), path, "zca_kip")


def read_npy(path: Path, dataset: RealDataset) -> ReleasedSet:
    """Read `images.npy` with `labels.npy` beside it. DataError where one is damaged or missing."""
    labels = file_beside(path, "labels")
    if labels is None:
        raise DataError(ALONE.format(path))
    content = _from_kernel(load_npy(path), load_npy(labels), path, "images.npy", dataset.info)
    return whitened_if_named(content, path, "zca_kip")


def load_npy(path: Path) -> np.ndarray:
    """An array of numbers, of which nothing is executed; DataError where it is damaged or holds anything else."""
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except Exception as error:  # whatever a damaged file makes of it
        raise DataError(f"{path} is damaged, or holds objects that could run code: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise DataError(f"{path} holds {getattr(array, 'dtype', 'an archive')}; numbers are expected.")
    return array


def read_checkpoint(path: Path, dataset: RealDataset) -> ReleasedSet:
    """Read the prototypes of a flax checkpoint. Raises as `read_flax`; DataError for other shapes."""
    images, labels = read_flax(path, ("x_proto", "y_proto"))
    return _from_prototypes(images, labels, path, "flax checkpoint", dataset)


def _from_kernel(images: np.ndarray, labels: np.ndarray, path: Path, layout: str, info: DatasetInfo) -> ReleasedSet:
    """A set of images (N, H, W), (N, H, W, C) or (N, C, H, W) whose labels may be centred."""
    images = images[..., None] if images.ndim == 3 else images
    last = images.ndim == 4 and images.shape[-1] == info.channels
    return from_arrays(images.transpose(0, 3, 1, 2) if last else images, labels, path, layout, centred=True)


def is_flax(path: Path) -> bool:
    """Whether a file begins as a flax checkpoint: a msgpack map of 1 to 15 entries whose first key is a short string.

    No pickle begins so (0x80, then its protocol), nor a PNG (0x89, then P).
    """
    with path.open("rb") as file:
        begin = file.read(2)
    return len(begin) == 2 and 0x81 <= begin[0] <= 0x8F and 0xA0 <= begin[1] <= 0xBF


def read_flax(path: Path, names: tuple[str, ...]) -> list[np.ndarray]:
    """Read arrays of these names below `params` as float32; nothing is executed, and no other array is unpacked.

    `flax.training.checkpoints.save_checkpoint` wrote the file. DataError where it is damaged, has no such parameter, or
    its bytes are not what its header says.
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


def _from_prototypes(
    images: np.ndarray, labels: np.ndarray, path: Path, layout: str, dataset: RealDataset
) -> ReleasedSet:
    """FRePo's prototypes as a set. Its Tiny-ImageNet counts classes as wnids.txt of the dataset lists them."""
    info = dataset.info
    if images.ndim != 4 or labels.ndim != 2:
        raise DataError(
            f"{path} holds prototypes of shape {images.shape} and labels of shape {labels.shape}; (N, H, W, C) and "
            "(N, K) are expected."
        )
    if info.name.startswith("TinyImageNet") and labels.shape[1] == info.num_classes:
        listed = dataset.encoded("train")[0].parents[3] / "wnids.txt"
        try:
            wnids = listed.read_text().split()
            labels = labels[:, [wnids.index(wnid) for wnid in info.classes]]
        except (OSError, ValueError) as error:
            raise DataError(
                f"FRePo counts the classes of Tiny-ImageNet as its wnids.txt does, and {listed} is missing or lacks "
                f"one ({error}). It is in tiny-imagenet-200.zip."
            ) from error
    content = _from_kernel(images, labels, path, layout, info)
    if info.name.startswith(UNWHITENED):
        return replace(content, space="normalised", why=f"FRePo does not whiten {info.name}", contradiction="")
    why = "FRePo whitens every set but MNIST and Fashion-MNIST"
    return replace(content, space="zca_frepo", why=why, contradiction="")

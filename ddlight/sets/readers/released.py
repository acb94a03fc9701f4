"""Sets that others published, in the layouts that they published them in: images, labels and what they mean.

| layout | source | what is in it |
|---|---|---|
| folder of class folders | SRe2L, CDA, G-VBSM, RDED, EDC, FADRM, Minimax | pictures; their folder names the class |
| `res_*.pt` | DC, DSA, DM | `data`: a list of (images, labels) per experiment, normalised |
| `images*.pt` + `labels*.pt` | MTT, TESLA, SelMatch, DC-bench | tensors, normalised, or `zca` where a name says so |
| the same + `lr*.pt` | DATM | whitened (`zca`), labels are logits |
| `images_zca_*.pt` | MTT, TESLA | the whitened images brought back to pixels: the name misleads |
| `data.pt` | IDC | [images, labels] in [0, 1], mosaics of 2 x 2 |
| `.npz` | KIP, RFAD | `images` (N, H, W, C), `labels` (N,) or (N, K) centred; `zca_kip` where the name says zca |
| `images.npy` + `labels.npy` | KIP at DC-bench | the same |
| flax checkpoint | FRePo | `x_proto` (N, H, W, C), `zca_frepo`, and `y_proto` (N, K), centred |
| `.npz` | FRePo | the same as `image` and `label` |
| `.parquet`, or a folder of them | data sets on the Hugging Face Hub | `image` and `class_id` (or `label`) |
| `.txt`, `.csv`, `.json`, `.npy` | coresets | positions in the training split, or sample ids |
| `.zip`, `.tar`, `.tar.gz` | any of the folders | unpacked into a temporary folder |

Pickles are read without running code, and archives that would write outside their folder are refused. A class follows
from a folder's name, never from its place in a listing.

Whitened sets (`views.whiten`): students train on them as they are, and test images are whitened by what the dataset's
training images give, as their makers do (GeorgeCazenavette/mtt-distillation, issue 11). FRePo does not whiten MNIST and
Fashion-MNIST. Labels are centred where kernel regression was trained on them: one-hot minus 1 / K, learned or not, so
neither probabilities nor logits.
"""

import hashlib
import logging
import os
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from ddlight.core.errors import DataError
from ddlight.core.files import sha256
from ddlight.core.naming import parameters
from ddlight.data.base import RealDataset
from ddlight.data.table import TABLE
from ddlight.sets.readers.class_folders import number, read_class_folders, subfolders
from ddlight.sets.readers.index_lists import read_index_list
from ddlight.sets.readers.kip_and_frepo import is_flax, read_checkpoint, read_npy, read_npz
from ddlight.sets.readers.parquet import parquet_files, read_parquet
from ddlight.sets.readers.released_set import ReleasedSet, Space, brought_to
from ddlight.sets.readers.tensors import file_beside, read_tensor_folder, read_tensors, tensor_files

log = logging.getLogger("ddlight")
UNPACK_VARIABLE = "DDLIGHT_UNPACK_GB"
UNPACKED_TIMES, UNPACKED_BYTES = 50, 10**9
"""An archive may unpack to so many times its size, or to so many bytes where that is more."""
OF_CIFAR10 = ("images*.pt", "data.pt")
"""Layouts whose makers normalise CIFAR-100 with CIFAR-10's mean and std."""


def read_released(path: Path, dataset: RealDataset, space: Space | Literal["scaled"] | None = None) -> ReleasedSet:
    """Read a released set, a file or folder in any layout of the table, that condenses a dataset.

    `space` is that of float images, where it cannot be told from the layout or values ("scaled": pixels brought to
    [-1, 1]). DataError where the set is
    damaged, of no known layout, would run code, or does not belong to this dataset.
    """
    if not path.is_file() and not path.is_dir():
        raise DataError(f"{path} is neither a file nor a folder: a pipe or device is not read.")
    try:
        content = _reader(path)(path, dataset)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {error.strerror or error}.") from error
    if space is not None and content.images.dtype != np.uint8:
        content = brought_to(content, space, path)
    elif content.contradiction:
        raise DataError(content.contradiction)
    if content.doubt:
        log.warning("%s", content.doubt)
    _check(content, path, dataset)
    content, info = content.take(np.argsort(content.classes, kind="stable")), dataset.info
    if content.space != "normalised" or dataset.name != "CIFAR100" or content.layout not in OF_CIFAR10:
        return content
    theirs, shape = TABLE["CIFAR10"], (1, -1, 1, 1)
    pixels = content.images * np.reshape(theirs.std, shape) + np.reshape(theirs.mean, shape)
    images = (pixels - np.reshape(info.mean, shape)) / np.reshape(info.std, shape)
    note = "its makers normalise CIFAR-100 with CIFAR-10's mean and std; converted"
    return replace(content, images=images.astype(np.float32), notes=(*content.notes, note))


def source_digest(path: Path) -> str:
    """Hash of what a released set was read from: a file's content, or names and contents of a folder's files."""
    digest = hashlib.sha256()
    if path.is_file():
        for part in (path, file_beside(path, "labels"), file_beside(path, "lr")):
            if part is not None:
                with part.open("rb") as file:
                    while chunk := file.read(1 << 20):
                        digest.update(chunk)
        return digest.hexdigest()
    for inner in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{inner.relative_to(path)}\0{sha256(inner)}\n".encode())
    return digest.hexdigest()


def _reader(path: Path) -> Callable[[Path, RealDataset], ReleasedSet]:
    if path.is_dir():
        return read_parquet if parquet_files(path) else _read_folder
    if path.suffix == ".npy" and "images" in path.name:
        return read_npy
    readers = {".pt": read_tensors, ".pth": read_tensors, ".npz": read_npz, ".parquet": read_parquet}
    if path.suffix in readers:
        return readers[path.suffix]
    if path.suffix in (".txt", ".csv", ".json", ".npy"):
        return read_index_list
    if path.suffix == ".zip" or ".tar" in path.suffixes or path.suffix == ".tgz":
        return _read_archive
    if is_flax(path):
        return read_checkpoint
    raise DataError(
        f"{path} is in no layout that is known: a folder of class folders, .pt, .npz, .parquet, a flax checkpoint, a "
        "list of indices (.txt, .csv, .json, .npy), or a .zip or .tar of a folder."
    )


def _read_folder(path: Path, dataset: RealDataset) -> ReleasedSet:
    """Class folders, also one folder further in; or tensors, or the last of some checkpoints."""
    folders = subfolders(path)
    if len(folders) == 1 and subfolders(folders[0]):
        return _read_folder(folders[0], dataset)
    if folders:
        return read_class_folders(path, dataset)
    if tensor_files(path):
        return read_tensor_folder(path, dataset)
    if finished := sorted(path.glob("res_*.pt")):
        if len(finished) > 1:
            raise DataError(f"{path} holds {len(finished)} finished sets; give one of them, such as {finished[-1]}.")
        return read_tensors(finished[0], dataset)
    if arrays := sorted(path.glob("*images*.npy")):
        return read_npy(arrays[-1], dataset)
    checkpoints = [p for p in path.iterdir() if p.is_file() and is_flax(p)]
    if checkpoints:
        return read_checkpoint(max(checkpoints, key=number), dataset)
    raise DataError(f"{path} holds neither class folders, images*.pt (or .npy) with labels*.pt, nor a flax checkpoint.")


def _read_archive(path: Path, dataset: RealDataset) -> ReleasedSet:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            if path.suffix == ".zip":
                with zipfile.ZipFile(path) as archive:
                    for member in archive.infolist():  # zipfile itself would rename those that lie outside
                        inside = (folder / member.filename).resolve().is_relative_to(folder.resolve())
                        if stat.S_ISLNK(member.external_attr >> 16) or not inside:
                            raise zipfile.BadZipFile(f"member {member.filename}")
                    _check_unpacked(path, (member.file_size for member in archive.infolist()))
                    archive.extractall(folder)
            else:
                with tarfile.open(path) as tar:
                    _check_unpacked(path, (member.size for member in tar))
                    tar.extractall(folder, filter="data")
        except DataError:
            raise
        except RuntimeError as error:  # so zipfile says that it is encrypted, or packed in a way that it does not know
            raise DataError(f"{path} was not unpacked: {str(error).replace(name, str(path))}.") from error
        except Exception as error:  # whatever a cut or damaged archive makes of it
            reason = next(iter(str(error).splitlines()), type(error).__name__).replace(name, str(path))
            raise DataError(f"{path} was not unpacked: it is damaged or would write outside ({reason}).") from error
        try:
            return _read_folder(folder, dataset)
        except DataError as error:  # which names the archive, not the folder that is gone
            raise DataError(str(error).replace(name, str(path))) from error


def _check_unpacked(path: Path, sizes: Iterable[int]) -> None:
    """Raise DataError where an archive unpacks to far more than pictures do."""
    given = os.environ.get(UNPACK_VARIABLE)
    limit = float(given) * 1e9 if given else max(UNPACKED_TIMES * path.stat().st_size, UNPACKED_BYTES)
    total = 0
    for size in sizes:
        total += size
        if total > limit:
            raise DataError(
                f"{path} of {path.stat().st_size / 1e6:.1f} MB unpacks to more than {limit / 1e9:.1f} GB, which no set "
                f"of pictures does. If it is to: {UNPACK_VARIABLE}=GIGABYTES before the command."
            )


def _check(content: ReleasedSet, path: Path, dataset: RealDataset) -> None:
    """Raise DataError where a set is not one of this dataset's."""
    info, count, classes = dataset.info, len(content.labels), dataset.info.num_classes
    if content.rows is None and (len(content.images) != count or content.images.shape[1] != info.channels):
        raise DataError(
            f"{path} holds images of shape {content.images.shape} and {count} labels; {info.name} needs as many labels "
            f"as images, of {info.channels} channels."
        )
    if content.rows is None and content.images.shape[2:] != (info.size, info.size):
        height, width = content.images.shape[2:]
        way_out = (
            f"--data.dataset.size={height}, or " if height == width and "size" in parameters(type(dataset)) else ""
        )
        raise DataError(
            f"{path} holds images of {height} x {width} pixels; {info.name} is read at {info.size}. Use {way_out}"
            "a set that was made at that size."
        )
    if content.images.dtype.kind == "f" and not np.isfinite(content.images).all():
        raise DataError(f"{path} holds pixels that are not finite.")
    if count == 0 or content.classes.min() < 0 or content.classes.max() >= classes:
        span = f"{content.classes.min()} to {content.classes.max()}" if count else "none"
        raise DataError(f"{path} has labels {span}; {info.name} has classes 0 to {classes - 1}.")
    if content.labels.ndim == 2 and content.labels.shape[1] != classes:
        raise DataError(f"{path} has labels of {content.labels.shape[1]} classes; {info.name} has {classes}.")
    missing = np.setdiff1d(np.arange(classes), content.classes)
    if len(missing) and content.labels.ndim == 1:  # a learned label may be strongest in another class
        raise DataError(f"{path} has no image of {len(missing)} of {classes} classes, such as class {missing[0]}.")

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
| flax checkpoint | FRePo | `x_proto` (N, H, W, C), `zca_frepo`, and `y_proto` (N, K), centred |
| `.npz` | FRePo | the same as `image` and `label` |
| `.parquet`, or a folder of them | data sets on the Hugging Face Hub | `image` and `class_id` (or `label`) |
| `.txt`, `.csv`, `.json`, `.npy` | coresets | positions in the training split, or sample ids |
| `.zip`, `.tar`, `.tar.gz` | any of the folders | unpacked into a temporary folder |

Pickles are read without running code, and archives that would write outside their folder are refused. A class follows
from a folder's name, never from its place in a listing.

Whitened sets (`transforms.whiten`): students train on them as they are, and test images are whitened by what the
dataset's training images give, as their makers do (GeorgeCazenavette/mtt-distillation, issue 11). FRePo does not whiten
MNIST and Fashion-MNIST. Labels are centred where kernel regression was trained on them: one-hot less 1 / K, learned or
not, so neither probabilities nor logits.
"""

import hashlib
import json
import pickle
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from ddlight.core.errors import DataError, UsageError
from ddlight.core.files import sha256
from ddlight.data.base import RealDataset
from ddlight.data.decoded import channels_first, decode_files
from ddlight.data.table import TABLE, DatasetInfo
from ddlight.sets.readers.flax import is_flax, read_flax
from ddlight.sets.readers.parquet import decode_picture, parquet_files, read_parquet
from ddlight.views.whiten import RECIPES

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
WNID = re.compile(r"n\d{8}")
IDC_FACTOR = 2
"""Factor of IDC's released sets, which the files do not say."""
OF_CIFAR10 = ("images*.pt", "data.pt")
"""Layouts whose makers normalise CIFAR-100 with CIFAR-10's mean and std."""
ZCA = re.compile(r"(?<!no)(?<!no[_-])zca", re.IGNORECASE)
"""In a name: the images are whitened. `NO_ZCA` and `nozca` say the contrary."""
UNWHITENED = ("MNIST", "FashionMNIST")
"""Datasets, by the beginning of their names, that FRePo does not whiten."""

Space = Literal["pixel", "normalised", "zca", "zca_frepo", "zca_kip"]


@dataclass(frozen=True)
class Found:
    """What a released set holds.

    Args:
        layout: as in the table above.
        images: uint8, or float32 in `space`, (N, C, H, W), class by class; empty for `rows`.
        labels: int64 (N,), or float32 (N, K) of `kind`.
        space: "pixel" in [0, 1], "normalised" by the dataset's own mean and std, or a recipe of `transforms.whiten`.
        kind: "hard", "probabilities", "logits" or "centred".
        lr: learning rate that was learned with the set.
        factor: images were mosaics of factor x factor, and are decoded here.
        rows: int64 (N,), positions in the training split, where the set is a list of real images.
        why: how the space of floats was told, or that it was assumed.
        notes: what a reader should know, a sentence each.
    """

    layout: str
    images: np.ndarray
    labels: np.ndarray
    space: Space = "pixel"
    kind: str = "hard"
    lr: float | None = None
    factor: int = 1
    rows: np.ndarray | None = None
    why: str = ""
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> np.ndarray:
        """Class of each image, int64 (N,); of soft labels the strongest."""
        return self.labels if self.labels.ndim == 1 else self.labels.argmax(1)

    @property
    def ipc(self) -> int:
        """Images of the class that has most."""
        return int(np.bincount(self.classes).max())

    def first(self, ipc: int) -> "Found":
        """The first `ipc` images of each class, in class order. Raises UsageError where a class has fewer."""
        counts = np.bincount(self.classes)
        if counts.min() < ipc:
            raise UsageError(
                f"ipc={ipc} is more than the released set has: class {int(counts.argmin())} has {counts.min()} images. "
                f"Use --data.ipc={counts.min()} or less, or leave ipc out to take all."
            )
        chosen = np.concatenate([np.flatnonzero(self.classes == c)[:ipc] for c in range(len(counts))])
        images = self.images if self.rows is not None else self.images[chosen]
        rows = None if self.rows is None else self.rows[chosen]
        return replace(self, images=images, labels=self.labels[chosen], rows=rows)

    def lines(self) -> list[str]:
        """What was found, a line each."""
        counts = np.bincount(self.classes)
        span = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
        lines = [f"released set, layout {self.layout}: {len(self.labels):,} images, {span} per class"]
        if self.rows is None:
            shape = " x ".join(map(str, self.images.shape[1:]))
            why = f" ({self.why})" if self.why else ""
            span = f"{self.images.min():.3g} to {self.images.max():.3g}"
            lines.append(f"images {shape}, {self.images.dtype}, {span}, {self.space}{why}")
        learned = f", learned lr {self.lr:.3g}" if self.lr is not None else ""
        return [*lines, f"labels {self.kind}, {len(counts)} classes{learned}", *self.notes]


def read_released(path: Path, dataset: RealDataset, space: Space | None = None) -> Found:
    """Read a released set in whatever layout it is.

    Args:
        path: a file or folder; see the table above.
        dataset: the real dataset that it condenses.
        space: of float images, where it cannot be told from the layout or values.

    Raises:
        DataError: it is damaged, of no known layout, would run code, or does not belong to this dataset.
    """
    found = _reader(path)(path, dataset)
    if space is not None and found.images.dtype != np.uint8:
        found = replace(found, space=space, why="as given")
    return _renormalised(_checked(found, path, dataset.info), dataset.info)


def source_digest(path: Path) -> str:
    """Hash of what a released set was read from: a file's content, or names and contents of a folder's files."""
    digest = hashlib.sha256()
    if path.is_file():
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        for sibling in _siblings(path):
            digest.update(sibling.read_bytes())
        return digest.hexdigest()
    for inner in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{inner.relative_to(path)}\0{sha256(inner)}\n".encode())
    return digest.hexdigest()


def _reader(path: Path) -> Callable[[Path, RealDataset], Found]:
    if path.is_dir():
        return _table if parquet_files(path) else _folder
    kinds = {".pt": _tensors, ".pth": _tensors, ".npz": _npz, ".parquet": _table}
    if path.suffix in kinds:
        return kinds[path.suffix]
    if path.suffix in (".txt", ".csv", ".json", ".npy"):
        return _indices
    if path.suffix == ".zip" or ".tar" in path.suffixes or path.suffix == ".tgz":
        return _archive
    if is_flax(path):
        return _flax
    raise DataError(
        f"{path} is in no layout that is known: a folder of class folders, .pt, .npz, .parquet, a flax checkpoint, a "
        "list of indices (.txt, .csv, .json, .npy), or a .zip or .tar of a folder."
    )


def _checked(found: Found, path: Path, info: DatasetInfo) -> Found:
    count, classes = len(found.labels), info.num_classes
    if found.rows is None and (len(found.images) != count or found.images.shape[1] != info.channels):
        raise DataError(
            f"{path} holds images of shape {found.images.shape} and {count} labels; {info.name} needs as many labels "
            f"as images, of {info.channels} channels."
        )
    if found.space in RECIPES and found.images.shape[2:] != (info.size, info.size):
        raise DataError(
            f"{path} holds whitened images of {found.images.shape[2:]} pixels; {info.name} is whitened at {info.size}."
        )
    if found.images.dtype.kind == "f" and not np.isfinite(found.images).all():
        raise DataError(f"{path} holds pixels that are not finite.")
    if count == 0 or found.classes.min() < 0 or found.classes.max() >= classes:
        span = f"{found.classes.min()} to {found.classes.max()}" if count else "none"
        raise DataError(f"{path} has labels {span}; {info.name} has classes 0 to {classes - 1}.")
    if found.labels.ndim == 2 and found.labels.shape[1] != classes:
        raise DataError(f"{path} has labels of {found.labels.shape[1]} classes; {info.name} has {classes}.")
    missing = np.setdiff1d(np.arange(classes), found.classes)
    if len(missing):
        raise DataError(f"{path} has no image of {len(missing)} of {classes} classes, such as class {missing[0]}.")
    order = np.argsort(found.classes, kind="stable")
    images = found.images if found.rows is not None else found.images[order]
    rows = None if found.rows is None else found.rows[order]
    return replace(found, images=images, labels=found.labels[order], rows=rows)


# --- pictures ---


def _folder(path: Path, dataset: RealDataset) -> Found:
    folders = [p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")]
    tensors = [p for p in (*path.glob("images*.pt"), *path.glob("*_images.pt")) if not _inverted(p)]
    if not folders and tensors:
        last = max(tensors, key=lambda p: ("best" in p.name, _number(p), p.name))
        parts = [p for p in tensors if re.search(r"_best_\d+\.pt$", p.name)] or [last]
        pieces = [_tensors(part, dataset) for part in sorted(parts, key=_number)]
        images, labels = np.concatenate([p.images for p in pieces]), np.concatenate([p.labels for p in pieces])
        return replace(pieces[0], images=images, labels=labels)
    if len(folders) == 1 and any(inner.is_dir() for inner in folders[0].iterdir()):
        return _folder(folders[0], dataset)
    checkpoints = [p for p in path.iterdir() if p.is_file() and is_flax(p)]
    if not folders and checkpoints:
        return _flax(max(checkpoints, key=_number), dataset)
    if not folders:
        raise DataError(f"{path} holds neither class folders, images*.pt with labels*.pt, nor a flax checkpoint.")
    return _class_folders(path, folders, dataset)


def _class_folders(path: Path, folders: list[Path], dataset: RealDataset) -> Found:
    info = dataset.info
    classes = _classes({folder.name for folder in folders}, info)
    files = [(label, file) for folder in folders if (label := classes[folder.name]) is not None
             for file in _pictures(folder)]  # fmt: skip
    files.sort(key=lambda entry: (entry[0], _number(entry[1]), entry[1].name))
    if not files:
        raise DataError(f"{path} has no pictures of the classes of {info.name} in its {len(folders)} class folders.")
    size = max(info.size, 1)
    with Image.open(files[0][1]) as image:
        size = image.width if image.width == image.height else info.size
    decoded = decode_files([f for _, f in files], _decoder(info.channels, size), (info.channels, size, size))
    left_out = sum(label is None for label in classes.values())
    notes = (f"{left_out} class folders are not of {info.name} and are left out",) if left_out else ()
    labels = np.array([label for label, _ in files], np.int64)
    return Found("folder of class folders", np.ascontiguousarray(decoded), labels, notes=notes)


def _pictures(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.suffix.lower() in PICTURES and not p.name.startswith(".")]


def _number(path: Path) -> int:
    """Number of an image within its class: of `_id007`, else the last number in its name; 0 where there is none."""
    found = re.search(r"_id(\d+)", path.stem) or re.search(r"(\d+)\D*$", path.stem)
    return int(found[1]) if found else 0


def _decoder(channels: int, size: int) -> Callable[[Path], np.ndarray]:
    def read(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            picture = image.convert("L" if channels == 1 else "RGB")
        if picture.size != (size, size):
            raise ValueError(f"it has {picture.width} x {picture.height} pixels where others have {size} x {size}")
        return channels_first(np.asarray(picture))

    return read


def _classes(names: set[str], info: DatasetInfo) -> dict[str, int | None]:
    """Class of each folder by its name; None for a class that the dataset has not.

    A wnid or a class name says it directly. A number is a position in the dataset's classes, or, where there are more
    numbers than classes and those are wnids, one in ImageNet-1K's sorted wnids.
    """
    own = {name: label for label, name in enumerate(info.classes)}
    if any(name in own for name in names):
        return {name: own.get(name) for name in names}
    if all(WNID.fullmatch(name) for name in names):
        raise DataError(f"None of the {len(names)} wnids, such as {min(names)}, is a class of {info.name}.")
    numbers = {name: _class_number(name) for name in names}
    if max(numbers.values()) < info.num_classes:
        return dict(numbers)
    if not all(WNID.fullmatch(name) for name in info.classes):
        raise DataError(
            f"The class folders go up to {max(numbers.values())}, and {info.name} has {info.num_classes} classes."
        )
    from timm.data import ImageNetInfo

    every = sorted(ImageNetInfo("imagenet-1k").label_names())
    return {name: own.get(every[number]) if number < len(every) else None for name, number in numbers.items()}


def _class_number(name: str) -> int:
    """Number in `new012`, `class12`, `00012`, `12` or ddlight's own `00012_tench`."""
    found = re.fullmatch(r"(?:new|class)?_?(\d+)(?:_.*)?", name)
    if found is None:
        raise DataError(f"The class folder {name} is named after no class of this dataset, no wnid and no number.")
    return int(found[1])


def _table(path: Path, dataset: RealDataset) -> Found:
    contents, numbers = read_parquet(path)
    classes = _classes({str(number) for number in set(numbers)}, dataset.info)
    rows = [row for row, number in enumerate(numbers) if classes[str(number)] is not None]
    pictures = [decode_picture(contents[row], dataset.info.channels) for row in rows]
    sizes = {picture.shape for picture in pictures}
    if len(sizes) != 1:
        raise DataError(f"{path} holds pictures of {len(sizes)} sizes; one size is needed.")
    left_out = len(numbers) - len(rows)
    notes = (f"{left_out:,} rows are not of {dataset.info.name} and are left out",) if left_out else ()
    labels = np.array([classes[str(numbers[row])] for row in rows], np.int64)
    return Found("parquet of the Hub", np.stack(pictures), labels, notes=notes)


# --- tensors ---


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path} holds more than tensors, and reading it could run code, so it was not read ({reason})."
        ) from error
    except Exception as error:  # whatever a damaged file makes of it
        raise DataError(f"{path} is damaged or not a file of torch.save: {error}") from error


def _inverted(path: Path) -> bool:
    """Whether a file holds what MTT and TESLA save beside whitened images: the same, brought back to pixels."""
    return path.name.startswith("images_zca")


def _siblings(path: Path) -> list[Path]:
    """Labels and learning rate that lie beside a file of images."""
    images = "images_zca" if _inverted(path) else "images"
    if images not in path.name:
        return []
    beside = [path.with_name(path.name.replace(images, other, 1)) for other in ("labels", "lr")]
    return [p for p in beside if p.exists()]


def _tensors(path: Path, dataset: RealDataset) -> Found:
    content = _load(path)
    if isinstance(content, dict) and "data" in content:
        experiments = content["data"]
        found = _pair(experiments[-1], path, "res_*.pt")
        note = f"the last of {len(experiments)} experiments"
        found = replace(found, space="normalised", why="as all of this layout", notes=(note,))
    elif isinstance(content, list | tuple) and len(content) == 2:
        found = _mosaics(_pair(content, path, "data.pt"))
    elif isinstance(content, Tensor):
        found = _beside(content, path)
    else:
        raise DataError(f"{path} holds {type(content).__name__}: no layout that is known.")
    return found


def _beside(images: Tensor, path: Path) -> Found:
    siblings = {p.name.split("labels")[0] != p.name: p for p in _siblings(path)}
    labels = siblings.get(True)
    if labels is None:
        raise DataError(f"{path} holds images alone; their labels are expected beside them, as labels*.pt.")
    found = _pair((images, _load(labels)), path, "images*.pt")
    lr = siblings.get(False)
    if lr is not None:
        found = replace(found, lr=float(_load(lr)))
    return _whitened(found, path)


def _whitened(found: Found, path: Path) -> Found:
    """Say in which space the float images of an `images*.pt` live, as far as names and what lies beside it tell."""
    if _inverted(path):
        return replace(found, space="pixel", why="images_zca_* are whitened images brought back to pixels")
    if found.space == "pixel":
        return found
    if found.kind == "logits" and found.lr is not None:
        return replace(found, space="zca", why="logits and lr*.pt beside them: DATM, which whitens every set")
    if any(_inverted(other) for other in path.parent.glob("images_zca_*.pt")):
        return replace(found, space="zca", why="images_zca_*.pt lie beside it")
    return _named(found, path, "zca")


def _named(found: Found, path: Path, recipe: Space) -> Found:
    """Say that float images are whitened where the name of their file or its folder says zca."""
    if found.space == "pixel":
        return found
    if ZCA.search(path.name) or ZCA.search(path.absolute().parent.name):
        return replace(found, space=recipe, why="its name says zca")
    return replace(found, why=f"assumed, as no name says zca; if it is whitened: --data.space={recipe}")


def _pair(pair: Any, path: Path, layout: str) -> Found:
    images, labels = (x if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x)) for x in pair)
    if images.ndim != 4:
        raise DataError(f"{path} holds images of shape {tuple(images.shape)}; (N, C, H, W) is expected.")
    pixels = images.numpy() if images.dtype == torch.uint8 else images.float().numpy()
    values, kind = _labels(labels.numpy())
    outside = pixels.dtype != np.uint8 and (pixels.min() < 0 or pixels.max() > 1)
    space: Space = "normalised" if outside else "pixel"
    return Found(layout, np.ascontiguousarray(pixels), values, space, kind)


def _labels(labels: np.ndarray) -> tuple[np.ndarray, str]:
    if labels.ndim == 1:
        return labels.astype(np.int64), "hard"
    soft = labels.astype(np.float32)
    sums = np.abs(soft.sum(1) - 1).max()
    return soft, "probabilities" if soft.min() >= 0 and sums < 1e-3 else "logits"


def _mosaics(found: Found) -> Found:
    """IDC's images cut into the factor x factor images that they are, each resized to full size (arXiv 2205.14959)."""
    if found.space != "pixel" or found.images.dtype == np.uint8:
        return found
    side = found.images.shape[2] // IDC_FACTOR
    tiles = torch.from_numpy(found.images).unfold(2, side, side).unfold(3, side, side)
    count, channels = found.images.shape[:2]
    small = tiles.permute(0, 2, 3, 1, 4, 5).reshape(-1, channels, side, side)
    full = functional.interpolate(small, found.images.shape[2:], mode="bilinear", align_corners=False)
    labels = np.repeat(found.labels, IDC_FACTOR**2, axis=0)
    note = f"decoded as mosaics of {IDC_FACTOR} x {IDC_FACTOR}: {count} stored images are {len(full)}"
    return replace(found, images=full.numpy(), labels=labels, factor=IDC_FACTOR, notes=(note,))


def _renormalised(found: Found, info: DatasetInfo) -> Found:
    """Move images from the mean and std of their makers to the dataset's own."""
    if found.space != "normalised" or info.name != "CIFAR100" or found.layout not in OF_CIFAR10:
        return found
    theirs, shape = TABLE["CIFAR10"], (1, -1, 1, 1)
    pixels = found.images * np.reshape(theirs.std, shape) + np.reshape(theirs.mean, shape)
    own = (pixels - np.reshape(info.mean, shape)) / np.reshape(info.std, shape)
    note = "its makers normalise CIFAR-100 with CIFAR-10's mean and std; converted"
    return replace(found, images=own.astype(np.float32), notes=(*found.notes, note))


def _npz(path: Path, dataset: RealDataset) -> Found:
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
        return _frepo(images, labels, path, ".npz of FRePo", dataset)
    return _named(_centred(_pair((_channels_first(images, dataset.info), labels), path, ".npz")), path, "zca_kip")


def _channels_first(images: np.ndarray, info: DatasetInfo) -> np.ndarray:
    """Images (N, H, W) or (N, H, W, C) as (N, C, H, W); others as they are."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim == 4 and images.shape[-1] == info.channels:
        images = images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images)


def _centred(found: Found) -> Found:
    """Labels of kernel regression, if soft and no probabilities."""
    return replace(found, kind="centred") if found.kind == "logits" else found


def _flax(path: Path, dataset: RealDataset) -> Found:
    images, labels = read_flax(path, ("x_proto", "y_proto"))
    return _frepo(images, labels, path, "flax checkpoint", dataset)


def _frepo(images: np.ndarray, labels: np.ndarray, path: Path, layout: str, dataset: RealDataset) -> Found:
    """FRePo's prototypes. Its Tiny-ImageNet counts classes as wnids.txt of the dataset lists them."""
    info = dataset.info
    if images.ndim != 4 or labels.ndim != 2:
        raise DataError(
            f"{path} holds prototypes of shape {images.shape} and labels of shape {labels.shape}; (N, H, W, C) and "
            "(N, K) are expected."
        )
    if info.name.startswith("TinyImageNet") and labels.shape[1] == info.num_classes:
        labels = labels[:, _tiny_imagenet_order(dataset)]
    found = _centred(_pair((_channels_first(images, info), labels), path, layout))
    if info.name.startswith(UNWHITENED):
        return replace(found, space="normalised", why=f"FRePo does not whiten {info.name}")
    return replace(found, space="zca_frepo", why="FRePo whitens every set but MNIST and Fashion-MNIST")


def _tiny_imagenet_order(dataset: RealDataset) -> list[int]:
    """Number in wnids.txt of each of the dataset's classes, which are sorted."""
    listed = dataset.encoded("train")[0].parents[3] / "wnids.txt"
    try:
        wnids = listed.read_text().split()
        return [wnids.index(wnid) for wnid in dataset.info.classes]
    except (OSError, ValueError) as error:
        raise DataError(
            f"FRePo counts the classes of Tiny-ImageNet as its wnids.txt does, and {listed} is missing or lacks one "
            f"({error}). It is in tiny-imagenet-200.zip."
        ) from error


# --- lists and archives ---


def _indices(path: Path, dataset: RealDataset) -> Found:
    index, entries = dataset.index("train"), _entries(path)
    places = {sample: row for row, sample in enumerate(index.ids.tolist())}
    numbers = all(entry.isdigit() for entry in entries)
    unknown = [e for e in entries if not (numbers and int(e) < len(index)) and e not in places]
    if unknown or len(set(entries)) != len(entries):
        what = f"{len(unknown)} that are not there, such as {unknown[0]}" if unknown else "the same one twice"
        raise DataError(f"{path} lists images of {dataset.info.name} ({len(index):,} for training), but {what}.")
    rows = np.array([int(e) if numbers else places[e] for e in entries], np.int64)
    return Found("list of indices" if numbers else "list of sample ids", np.empty(0, np.uint8), index.labels[rows],
                 rows=rows)  # fmt: skip


def _entries(path: Path) -> list[str]:
    try:
        if path.suffix == ".npy":
            return [str(n) for n in np.load(path, allow_pickle=False).ravel().tolist()]
        if path.suffix == ".json":
            return [str(n) for n in json.loads(path.read_text())]
        lines = [line.split(",")[0].strip() for line in path.read_text().splitlines()]
    except (ValueError, OSError, TypeError) as error:
        raise DataError(f"{path} cannot be read as a list of indices or sample ids: {error}") from error
    return [line for n, line in enumerate(lines) if line and (n or line not in ("index", "id", "indices"))]


def _archive(path: Path, dataset: RealDataset) -> Found:
    with tempfile.TemporaryDirectory() as folder:
        try:
            if path.suffix == ".zip":
                _unzip(path, Path(folder))
            else:
                with tarfile.open(path) as archive:
                    archive.extractall(folder, filter="data")
        except (tarfile.TarError, zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{path} was not unpacked: it is damaged or would write outside ({error}).") from error
        return _folder(Path(folder), dataset)


def _unzip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            inside = (folder / member.filename).resolve().is_relative_to(folder.resolve())
            link = (member.external_attr >> 16) & 0o170000 == 0o120000
            if link or not inside:
                raise zipfile.BadZipFile(f"member {member.filename}")
        archive.extractall(folder)

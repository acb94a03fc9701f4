"""What a condensed set is on disk: the choice of real images, or made images as pictures or as tensors."""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import load_file, save

from ddlight.core import files
from ddlight.core.artefact import Unit, Workspace, files_below, verify
from ddlight.core.errors import DataError
from ddlight.data.decoded import channels_first, decode_files, read_full
from ddlight.views.pixels import Encoded, FullSize

log = logging.getLogger("ddlight")


@dataclass(frozen=True)
class Selection:
    """Real images, as positions in the full training split.

    Args:
        indices: int64 (n,).
    """

    indices: np.ndarray


@dataclass(frozen=True)
class Steps:
    """A training that was learned with a set, step by step; protocol own repeats it.

    Args:
        batches: int64 (T, B): positions in the set of each step's images.
        rates: float64 (T,): learning rate of each step.
    """

    batches: np.ndarray
    rates: np.ndarray


@dataclass(frozen=True)
class Synthesis:
    """Made images.

    Args:
        images: uint8 or float32 (n, C, H, W); the method says in which space floats live.
        labels: int64 (n,) classes, or float32 (n, K) probabilities or logits.
        source_images: real images that went in.
        learned_lr: learning rate that was learned with them, the same for all units; None where none was.
        steps: the training that was learned with them, where they are one unit; None where none was.
    """

    images: np.ndarray
    labels: np.ndarray
    source_images: int = 0
    learned_lr: float | None = None
    steps: Steps | None = None


Made = Selection | Synthesis


def put(work: Workspace, unit: Unit, made: Made) -> None:
    """Write what a unit made into its file."""
    if isinstance(made, Selection):
        arrays = {"indices": np.ascontiguousarray(made.indices, np.int64)}
    else:
        images, labels = np.ascontiguousarray(made.images), np.ascontiguousarray(made.labels)
        arrays = {"images": images, "labels": labels, "source_images": np.array([made.source_images])}
        if made.learned_lr is not None:
            arrays["learned_lr"] = np.array([made.learned_lr], np.float64)
        arrays |= _step_arrays(made.steps)
    work.write(unit, save(arrays))


def get(work: Workspace, unit: Unit) -> Made:
    """Read what a unit made. Raises DataError or OSError as `Workspace.read`."""
    content = work.read(unit)
    try:
        arrays = load_arrays(content)
        if "indices" in arrays:
            return Selection(arrays["indices"])
        lr = float(arrays["learned_lr"][0]) if "learned_lr" in arrays else None
        return Synthesis(arrays["images"], arrays["labels"], int(arrays["source_images"][0]), lr, _steps(arrays))
    except (SafetensorError, KeyError) as error:
        raise work.dropped(unit) from error


def join(pieces: list[Made]) -> Made:
    """Put the units' results together, in order. Raises DataError as `_common_lr`, or where several bring steps."""
    first = pieces[0]
    if len(pieces) == 1:
        return first
    if isinstance(first, Selection):
        return Selection(np.concatenate([p.indices for p in pieces if isinstance(p, Selection)]))
    made = [p for p in pieces if isinstance(p, Synthesis)]
    if any(p.steps is not None for p in made):
        raise DataError("Steps of a training belong to a whole set, and come with one of several units.")
    images, labels = np.concatenate([p.images for p in made]), np.concatenate([p.labels for p in made])
    return Synthesis(images, labels, sum(p.source_images for p in made), _common_lr({p.learned_lr for p in made}))


def _step_arrays(steps: Steps | None) -> dict[str, np.ndarray]:
    return {} if steps is None else {"step_batches": steps.batches.astype(np.int64), "step_rates": steps.rates}


def _steps(arrays: Mapping[str, np.ndarray]) -> Steps | None:
    return Steps(arrays["step_batches"], arrays["step_rates"]) if "step_rates" in arrays else None


def _common_lr(rates: set[float | None]) -> float | None:
    """The learning rate that all units learned. Raises DataError where they learned different ones."""
    if len(rates) > 1:
        raise DataError(f"The units learned different learning rates: {', '.join(sorted(map(str, rates)))}.")
    return next(iter(rates), None)


def write_set(
    folder: Path, made: Made | Iterator[Made], ids: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """Write the files of a set, and return what the manifest says of them.

    Args:
        folder: an empty one.
        made: the whole set, or its pieces in order; pieces of pictures are never in memory together.
        ids: sample ids of the full training split.
        labels: labels of the full training split.
        classes: names of the classes.

    Raises:
        DataError: the pieces learned different learning rates.
    """
    pieces = iter([made]) if isinstance(made, Selection | Synthesis) else made
    first = next(pieces)
    if isinstance(first, Synthesis) and _are_pictures(first):
        return _write_pictures(folder, chain([first], pieces), classes)
    made = join([first, *pieces])
    if isinstance(made, Selection):
        return _write_selection(folder, made, ids, labels)
    return _write_tensors(folder, made)


def _write_selection(folder: Path, made: Selection, ids: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    rows = [f"{i},{labels[i]},{json.dumps(str(ids[i]))}" for i in made.indices]
    files.write_bytes(folder / "selection.csv", ("index,label,id\n" + "\n".join(rows) + "\n").encode())
    chosen = "\n".join(str(i) for i in ids[made.indices])
    return {
        "kind": "indices",
        "labels": "hard",
        "images": len(made.indices),
        "source_images": len(made.indices),
        "content_sha256": hashlib.sha256(chosen.encode()).hexdigest(),
        "bytes_images": (folder / "selection.csv").stat().st_size,
        "bytes_labels": 0,
    }


def _are_pictures(made: Synthesis) -> bool:
    if made.labels.ndim > 1 or made.steps is not None:
        return False
    return made.images.dtype == np.uint8 and made.images.shape[1] in (1, 3)


def _write_tensors(folder: Path, made: Synthesis) -> dict[str, Any]:
    images, labels = np.ascontiguousarray(made.images), np.ascontiguousarray(made.labels)
    steps = _step_arrays(made.steps)
    files.write_bytes(folder / "set.safetensors", save({"images": images, "labels": labels, **steps}))
    bytes_labels = 0 if labels.ndim == 1 else labels.nbytes
    return {
        "kind": str(images.dtype),
        "images": len(images),
        "source_images": made.source_images,
        "shape": list(images.shape[1:]),
        **_learned(made.learned_lr),
        **({"steps": len(made.steps.rates)} if made.steps else {}),
        "content_sha256": _content(hashlib.sha256(images.data), [labels, *steps.values()]),
        "bytes_images": (folder / "set.safetensors").stat().st_size - bytes_labels,
        "bytes_labels": bytes_labels,
    }


def _write_pictures(folder: Path, pieces: Iterable[Made], classes: Sequence[str]) -> dict[str, Any]:
    digest, labels, sources, shape = hashlib.sha256(), [np.empty(0, np.int64)], 0, (0, 0, 0)
    rates: set[float | None] = set()
    for piece in pieces:
        assert isinstance(piece, Synthesis)
        _write_images(folder, piece, sum(map(len, labels)), classes)
        digest.update(np.ascontiguousarray(piece.images).data)
        labels.append(piece.labels)
        rates.add(piece.learned_lr)
        sources, shape = sources + piece.source_images, piece.images.shape[1:]
    return {
        "kind": "uint8",
        "images": sum(map(len, labels)),
        "source_images": sources,
        "shape": list(shape),
        **_learned(_common_lr(rates)),
        "content_sha256": _content(digest, labels),
        "bytes_images": sum(p.stat().st_size for p in files_below(folder)),
        "bytes_labels": 0,
    }


def _learned(lr: float | None) -> dict[str, float]:
    return {} if lr is None else {"learned_lr": lr}


def _content(images: Any, labels: list[np.ndarray]) -> str:
    """Hash of a set's content, from the running hash of its images and its labels."""
    for part in labels:
        images.update(np.ascontiguousarray(part).data)
    return str(images.hexdigest())


def _write_images(folder: Path, made: Synthesis, start: int, classes: Sequence[str]) -> None:
    """Write pictures into class folders, in threads; the first is number `start` of the set."""

    def write(row: int) -> None:
        image, label = made.images[row], int(made.labels[row])
        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        Image.fromarray(np.ascontiguousarray(pixels)).save(
            _class_folder(folder, label, classes) / f"{start + row:07d}.png"
        )

    for label in np.unique(made.labels).tolist():
        _class_folder(folder, label, classes).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(len(made.images))))


def _class_folder(folder: Path, label: int, classes: Sequence[str]) -> Path:
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in classes[label])
    return folder / "images" / f"{label:05d}_{safe}"


@dataclass(frozen=True)
class StoredSet:
    """A verified set, in memory.

    Args:
        images: uint8 or float32 (N, C, H, W); `Encoded` or `FullSize` where they are not decoded to one array.
        labels: int64 (N,), or float32 (N, K).
        manifest: what was sealed with it.
        steps: the training that was learned with it; None where none was.
    """

    images: Any
    labels: np.ndarray
    manifest: dict[str, Any]
    steps: Steps | None = None


def load(
    folder: Path, dataset: Any = None, limit: float = math.inf, manifest: dict[str, Any] | None = None
) -> StoredSet:
    """Read a set.

    Args:
        folder: a sealed set.
        dataset: a RealDataset; needed for sets of indices.
        limit: bytes that decoded images may take; more stay in their files.
        manifest: its manifest, where it is verified already; None verifies the set first.

    Raises:
        DataError: as `verify`; or the indices belong to other data.
    """
    manifest = manifest or verify(folder)
    if manifest["kind"] == "indices":
        return _load_selection(folder, manifest, dataset, limit)
    if (folder / "set.safetensors").exists():
        arrays = load_file(folder / "set.safetensors")
        return StoredSet(arrays["images"], arrays["labels"], manifest, _steps(arrays))
    return _load_images(folder, manifest, limit)


def _load_selection(folder: Path, manifest: dict[str, Any], dataset: Any, limit: float) -> StoredSet:
    if dataset is None:
        raise DataError(f"{folder} lists images of {manifest['dataset']}: give that dataset to load them.")
    split = dataset.index("train")
    indices, ids = read_selection(folder)
    if len(indices) and (indices.max() >= len(split.ids) or (split.ids[indices] != ids).any()):
        raise DataError(
            f"{folder} was selected from other data: its sample ids are not those of {manifest['dataset']} here."
        )
    return StoredSet(_chosen(dataset, indices, limit), split.labels[indices], manifest)


def _chosen(dataset: Any, indices: np.ndarray, limit: float) -> Any:
    """Images of a selection: at full size where the dataset says so, else dense or still in their files."""
    encoded, info = dataset.encoded("train"), dataset.info
    paths = [encoded[i] for i in indices.tolist()] if encoded else []
    if encoded and dataset.full_size:
        return FullSize(paths, read_full, lambda rows: dataset.take("train", indices[rows]), info.size, limit)
    if encoded and len(paths) * info.channels * info.size**2 > limit:
        return _held(paths, dataset.read, (info.channels, info.size, info.size), limit)
    return dataset.take("train", indices)


def read_selection(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Positions (int64) and sample ids (str) of a selection."""
    lines = (folder / "selection.csv").read_text().splitlines()[1:]
    rows = [line.split(",", 2) for line in lines]
    return np.array([int(r[0]) for r in rows], np.int64), np.array([json.loads(r[2]) for r in rows], dtype=np.str_)


def _load_images(folder: Path, manifest: dict[str, Any], limit: float) -> StoredSet:
    paths = sorted((folder / "images").rglob("*.png"), key=lambda p: p.name)
    labels, shape = np.array([int(p.parent.name.split("_")[0]) for p in paths], np.int64), tuple(manifest["shape"])
    return StoredSet(_held(paths, _read_picture, shape, limit), labels, manifest)


def _held(paths: Sequence[Path], read: Callable[[Path], np.ndarray], shape: tuple[int, ...], limit: float) -> Any:
    """Images decoded into one array where that stays within the limit, else still in their files."""
    need = len(paths) * math.prod(shape)
    if need <= limit:
        return decode_files(paths, read, shape)
    log.info("%.1f GB of images stay in their files, and workers decode them during training", need / 1e9)
    return Encoded(paths, read, shape)


def _read_picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return channels_first(np.asarray(image))

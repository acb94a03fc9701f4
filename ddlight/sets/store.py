"""The condensed set on disk: made unit by unit, sealed once, verified at every load, never overwritten.

While it is made it lies in `<folder>.partial/` (one file and, while in work, one claim per unit). Sealing builds the
final folder under a temporary name and renames it into place, so a set is either complete or absent.
"""

import hashlib
import json
import logging
import math
import os
import re
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load as unpack
from safetensors.numpy import load_file, save

from ddlight.core import files
from ddlight.core.errors import DataError
from ddlight.data.decoded import channels_first, decode_files, read_full
from ddlight.views.pixels import Encoded, FullSize

log = logging.getLogger("ddlight")

SCHEMA = 1
CLAIM_SECONDS = 60.0
"""A claim that was not renewed for this long belongs to nobody."""
PID = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Unit:
    """An independent piece of work.

    Args:
        number: position among the set's units; also the order of the images in the set.
        classes: class indices that this unit makes.
        images: ipc indices that this unit makes; empty means all of them.
    """

    number: int
    classes: tuple[int, ...]
    images: tuple[int, ...] = ()


@dataclass(frozen=True)
class Selection:
    """Real images, as positions in the full training split.

    Args:
        indices: int64 (n,).
    """

    indices: np.ndarray


@dataclass(frozen=True)
class Synthesis:
    """Made images.

    Args:
        images: uint8 or float32 (n, C, H, W); the method says in which space floats live.
        labels: int64 (n,) classes, or float32 (n, K) probabilities or logits.
        source_images: real images that went in.
    """

    images: np.ndarray
    labels: np.ndarray
    source_images: int = 0


Made = Selection | Synthesis
Task = Unit | Literal["seal"]
"""What one process at a time claims: to make a unit, or to seal the set."""


def working_folder(folder: Path) -> Path:
    """Where an artefact lies while it is made."""
    return folder.with_name(f"{folder.name}.partial")


class Workspace:
    """The unfinished set: one file per finished unit, one claim per unit in work and one for sealing.

    Any number of processes may share it; a unit that two of them make by accident comes out the same.
    """

    def __init__(self, folder: Path, suffix: str = ".safetensors") -> None:
        self.folder, self.suffix = working_folder(folder), suffix
        files.make_folder(self.folder)

    def path(self, unit: Unit) -> Path:
        """File of a finished unit."""
        return self.folder / f"{unit.number:06d}{self.suffix}"

    def pending(self, units: list[Unit]) -> list[Unit]:
        """Units without a file."""
        return [unit for unit in units if not self.path(unit).exists()]

    def _claim(self, task: Task) -> Path:
        return self.folder / "seal.claim" if task == "seal" else self.path(task).with_suffix(".claim")

    def claim(self, task: Task) -> bool:
        """Reserve a task for this process. False where a living process has it."""
        claim = self._claim(task)
        if claim.exists():
            if _alive(claim):
                return False
            claim.unlink(missing_ok=True)
        try:
            with claim.open("x") as file:
                file.write(f"{socket.gethostname()} {os.getpid()} {_born(os.getpid())}")
        except FileExistsError:
            return False
        except OSError as error:
            claim.unlink(missing_ok=True)
            raise files.explain(error, claim) from error
        return True

    def renew(self, task: Task) -> None:
        """Say that this process still works on a task, as `hold` does by itself; a claim that is gone stays gone."""
        with suppress(OSError):
            os.utime(self._claim(task))

    @contextmanager
    def hold(self, task: Task) -> Iterator[None]:
        """Renew a claim every quarter of CLAIM_SECONDS while the body runs, and give it back after."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(CLAIM_SECONDS / 4):
                self.renew(task)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.release(task)

    def release(self, task: Task) -> None:
        """Give a claim back."""
        self._claim(task).unlink(missing_ok=True)

    def put(self, unit: Unit, made: Made) -> None:
        """Write a finished unit."""
        self.write(unit, save(_arrays(made)))
        self.release(unit)

    def write(self, unit: Unit, content: bytes) -> None:
        """Write a finished unit's file, after the checksum that `check` compares it with."""
        files.write_bytes(self._checksum(unit), hashlib.sha256(content).hexdigest().encode())
        files.write_bytes(self.path(unit), content)

    def _checksum(self, unit: Unit) -> Path:
        return self.path(unit).with_suffix(".sha256")

    def check(self, unit: Unit) -> None:
        """Compare a finished unit's file with its checksum, where it has one.

        Raises:
            DataError: the file is not what was written; it has been dropped, so that the unit is made again.
        """
        checksum = self._checksum(unit)
        if checksum.exists() and checksum.read_bytes() != files.sha256(self.path(unit)).encode():
            raise self._dropped(unit)

    def read(self, unit: Unit) -> bytes:
        """A finished unit's file, checked. Raises DataError as `check`."""
        self.check(unit)
        return self.path(unit).read_bytes()

    def _dropped(self, unit: Unit) -> DataError:
        """Drop a damaged unit, and say so."""
        self.path(unit).unlink(missing_ok=True)
        return DataError(
            f"Unit {unit.number} in {self.folder} was damaged and has been dropped. Run the same command again."
        )

    def get(self, unit: Unit) -> Made:
        """Read a finished unit.

        Raises:
            DataError: its file was damaged; it has been dropped, so that the unit is made again.
            OSError: its file cannot be read now; it stays.
        """
        content = self.read(unit)
        try:
            arrays = unpack(content)
            if "indices" in arrays:
                return Selection(arrays["indices"])
            return Synthesis(arrays["images"], arrays["labels"], int(arrays["source_images"][0]))
        except (SafetensorError, KeyError) as error:
            raise self._dropped(unit) from error

    def remove(self) -> None:
        """Drop the unfinished set's folder, once the finished one is in place."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _arrays(made: Made) -> dict[str, np.ndarray]:
    if isinstance(made, Selection):
        return {"indices": np.ascontiguousarray(made.indices, np.int64)}
    images, labels = np.ascontiguousarray(made.images), np.ascontiguousarray(made.labels)
    return {"images": images, "labels": labels, "source_images": np.array([made.source_images])}


def _alive(claim: Path) -> bool:
    try:
        words = claim.read_text(errors="replace").split()
        age = time.time() - claim.stat().st_mtime
    except FileNotFoundError:
        return False
    if len(words) not in (2, 3) or words[0] != socket.gethostname() or not PID.fullmatch(words[1]):
        return age < CLAIM_SECONDS
    return _born(int(words[1])) == words[2] if len(words) == 3 else _running(int(words[1]))


def _born(pid: int) -> str:
    """When a process started, in clock ticks: in a restarted container another one soon has the same number.

    "" for one that is gone or a zombie, and for all where there is no /proc.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def is_sealed(folder: Path) -> bool:
    """Whether a finished artefact lies in `folder`."""
    return (folder / "manifest.json").exists()


def tidy(folder: Path) -> None:
    """Remove what processes left beside a finished artefact that were killed while or after they sealed it."""
    for left in [working_folder(folder), *_sealing(folder)]:
        shutil.rmtree(left, ignore_errors=True)


def _sealing(folder: Path) -> list[Path]:
    """Folders in which processes are sealing, or were when they were killed."""
    return list(folder.parent.glob(f".{folder.name}.*.sealing"))


def assemble(
    folder: Path,
    units: list[Unit],
    make: Callable[[Workspace, Unit], None],
    seal: Callable[[Workspace], None],
    begin: float = 0.0,
    suffix: str = ".safetensors",
) -> None:
    """Make whatever units are missing, together with any other process that does the same, and seal the whole.

    Args:
        folder: where the finished artefact lies; nothing is done where it is there.
        units: all of its units.
        make: puts one unit's file into the workspace.
        seal: moves the finished artefact into place, once every unit has a file.
        begin: fraction of the units that this process skips at first, so that processes begin apart.
        suffix: of the units' files.
    """
    if is_sealed(folder):
        tidy(folder)
        return
    work, first = Workspace(folder, suffix), int(begin * len(units))
    try:
        while not is_sealed(folder):
            _make_all(folder, work, units[first:] + units[:first], make)
            _seal_alone(folder, work, units, seal)
    except (OSError, DataError):
        if not is_sealed(folder):
            raise
        log.debug("another process sealed %s first", folder)
    work.remove()


def _make_all(folder: Path, work: Workspace, todo: list[Unit], make: Callable[[Workspace, Unit], None]) -> None:
    """Until every unit has a file: make one that nobody has, or wait. The first to seal removes the workspace."""
    while (missing := work.pending(todo)) and not is_sealed(folder):
        if not _make_one(work, missing, make):
            time.sleep(0.05)


def _make_one(work: Workspace, missing: list[Unit], make: Callable[[Workspace, Unit], None]) -> bool:
    for unit in missing:
        if work.path(unit).exists() or not work.claim(unit):
            continue
        with work.hold(unit):
            if not work.path(unit).exists():  # by another process, after the first look
                make(work, unit)
                return True
    return False


def _seal_alone(folder: Path, work: Workspace, units: list[Unit], seal: Callable[[Workspace], None]) -> None:
    """Seal, or wait a moment where another process does: it may die, or drop a damaged unit."""
    if not work.claim("seal"):
        time.sleep(0.05)
        return
    with work.hold("seal"):
        if not is_sealed(folder) and not work.pending(units):
            for left in _sealing(folder):  # by a process that was killed: this one has the claim
                shutil.rmtree(left, ignore_errors=True)
            seal(work)


def join(pieces: list[Made]) -> Made:
    """Put the units' results together, in order."""
    first = pieces[0]
    if isinstance(first, Selection):
        return Selection(np.concatenate([p.indices for p in pieces if isinstance(p, Selection)]))
    made = [p for p in pieces if isinstance(p, Synthesis)]
    images, labels = np.concatenate([p.images for p in made]), np.concatenate([p.labels for p in made])
    return Synthesis(images, labels, sum(p.source_images for p in made))


def seal(
    folder: Path, made: Made | Iterable[Made], ids: np.ndarray, labels: np.ndarray, manifest: dict[str, Any]
) -> Path:
    """Write the finished set and its manifest and move them into place.

    Args:
        folder: where the set shall lie; where another process sealed it first, that one stays.
        made: the whole set, or its pieces in order; pieces of pictures are never in memory together.
        ids: sample ids of the full training split.
        labels: labels of the full training split.
        manifest: what the method knows; contents, hashes and counts are added here.
    """
    pieces = [made] if isinstance(made, Selection | Synthesis) else made
    return seal_folder(folder, lambda place: _write(place, iter(pieces), ids, labels, manifest["classes"]), manifest)


def seal_folder(folder: Path, write: Callable[[Path], dict[str, Any]], manifest: dict[str, Any]) -> Path:
    """Write a finished artefact under a temporary name, hash its files into its manifest and move it into place.

    Args:
        folder: where it shall lie; where another process sealed it first, that one stays.
        write: writes the files into the folder that it is given and returns facts for the manifest.
        manifest: what else is known.
    """
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.sealing")
    try:
        temporary.mkdir(parents=True)
        facts = write(temporary)
        hashes = {str(p.relative_to(temporary)): files.sha256(p) for p in _files(temporary)}
        content = {"schema": SCHEMA, **manifest, **facts, "files": hashes}
        files.write_json(temporary / "manifest.json", files.signed(content))
        _move(temporary, folder)
    except OSError as error:
        raise files.explain(error, folder) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _move(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError as error:
        if (folder / "manifest.json").exists():
            return
        if folder.exists():
            raise DataError(
                f"{folder} is in the way: it has no manifest.json, so it is no condensed set, and nothing is "
                "overwritten. Move it away and run the same command again: it continues."
            ) from error
        raise


def _files(folder: Path) -> Iterator[Path]:
    return (p for p in sorted(folder.rglob("*")) if p.is_file())


def _write(
    folder: Path, pieces: Iterator[Made], ids: np.ndarray, labels: np.ndarray, classes: list[str]
) -> dict[str, Any]:
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
    return made.images.dtype == np.uint8 and made.images.shape[1] in (1, 3) and made.labels.ndim == 1


def _write_tensors(folder: Path, made: Synthesis) -> dict[str, Any]:
    images, labels = np.ascontiguousarray(made.images), np.ascontiguousarray(made.labels)
    files.write_bytes(folder / "set.safetensors", save({"images": images, "labels": labels}))
    bytes_labels = 0 if labels.ndim == 1 else labels.nbytes
    return {
        "kind": str(images.dtype),
        "images": len(images),
        "source_images": made.source_images,
        "shape": list(images.shape[1:]),
        "content_sha256": _content(hashlib.sha256(images.data), [labels]),
        "bytes_images": (folder / "set.safetensors").stat().st_size - bytes_labels,
        "bytes_labels": bytes_labels,
    }


def _write_pictures(folder: Path, pieces: Iterable[Made], classes: list[str]) -> dict[str, Any]:
    digest, labels, sources, shape = hashlib.sha256(), [np.empty(0, np.int64)], 0, (0, 0, 0)
    for piece in pieces:
        assert isinstance(piece, Synthesis)
        _write_images(folder, piece, sum(map(len, labels)), classes)
        digest.update(np.ascontiguousarray(piece.images).data)
        labels.append(piece.labels)
        sources, shape = sources + piece.source_images, piece.images.shape[1:]
    return {
        "kind": "uint8",
        "images": sum(map(len, labels)),
        "source_images": sources,
        "shape": list(shape),
        "content_sha256": _content(digest, labels),
        "bytes_images": sum(p.stat().st_size for p in _files(folder)),
        "bytes_labels": 0,
    }


def _content(images: Any, labels: list[np.ndarray]) -> str:
    """Hash of a set's content, from the running hash of its images and its labels."""
    for part in labels:
        images.update(np.ascontiguousarray(part).data)
    return str(images.hexdigest())


def _write_images(folder: Path, made: Synthesis, start: int, classes: list[str]) -> None:
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


def _class_folder(folder: Path, label: int, classes: list[str]) -> Path:
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in classes[label])
    return folder / "images" / f"{label:05d}_{safe}"


def verify(folder: Path, what: str = "condensed set", again: str = "'ddlight condense'") -> dict[str, Any]:
    """Check every file of a finished artefact against its manifest and return the manifest.

    Args:
        folder: where it lies.
        what: it is called in the error.
        again: what makes it again, for the error.

    Raises:
        DataError: nothing finished there, an unknown schema, a file missing, changed or added.
    """
    manifest = read_manifest(folder)
    expected = manifest["files"]
    present = {str(p.relative_to(folder)) for p in _files(folder)} - {"manifest.json"}
    wrong = sorted(set(expected) - present) or sorted(present - set(expected))
    wrong = wrong or [name for name, digest in expected.items() if files.sha256(folder / name) != digest]
    if wrong:
        raise DataError(
            f"The {what} {folder} is not what was sealed: {wrong[0]} is missing, new or changed "
            f"({len(wrong)} file{'s' * (len(wrong) > 1)}). Move the folder away and run {again} again."
        )
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a set's manifest, checked by its own checksum, without checking its files. Raises DataError as `verify`."""
    path = folder / "manifest.json"
    manifest = files.read_json(path)
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA or "files" not in manifest:
        raise DataError(f"{path} is not a manifest of schema {SCHEMA}.")
    try:
        return files.unsigned(manifest)
    except DataError as error:
        raise DataError(f"{path} is damaged: {error}. Move the folder away and make it again.") from None


@dataclass(frozen=True)
class StoredSet:
    """A verified set, in memory.

    Args:
        images: uint8 or float32 (N, C, H, W); `Encoded` or `FullSize` where they are not decoded to one array.
        labels: int64 (N,), or float32 (N, K).
        manifest: see `seal`.
    """

    images: Any
    labels: np.ndarray
    manifest: dict[str, Any]


def load(folder: Path, dataset: Any = None, limit: float = math.inf) -> StoredSet:
    """Verify a set and read it.

    Args:
        folder: a sealed set.
        dataset: a RealDataset; needed for sets of indices.
        limit: bytes that decoded images may take; more stay in their files.

    Raises:
        DataError: as `verify`; or the indices belong to other data.
    """
    manifest = verify(folder)
    if manifest["kind"] == "indices":
        return _load_selection(folder, manifest, dataset, limit)
    if (folder / "set.safetensors").exists():
        arrays = load_file(folder / "set.safetensors")
        return StoredSet(arrays["images"], arrays["labels"], manifest)
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

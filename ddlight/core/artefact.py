"""Artefacts: what takes long to make, is made once and is shared: condensed sets, scoring runs, embeddings, labels, ...

An artefact lies in a folder that is named by everything that shapes it. While it is made it lies in `<folder>.partial/`
(a file and, while in work, a claim per unit). Sealing builds the final folder under a temporary name and renames it
into place: an artefact is complete or absent, checked at every load, and never overwritten.
"""

import hashlib
import logging
import os
import shutil
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from ddlight.core import files, naming
from ddlight.core.claims import Claim
from ddlight.core.errors import DataError
from ddlight.core.result import versions

log = logging.getLogger("ddlight")
MANIFEST = "manifest.json"
SCHEMA = 2
WAIT = 0.05
"""Seconds between two looks at what other processes do."""


@with_config(ConfigDict(extra="allow", strict=True))
class Manifest(TypedDict):
    """What every manifest holds; each kind of artefact adds its own facts.

    Attributes:
        schema: version of this layout.
        what: kind of artefact.
        fingerprint: names it.
        files: sha256 of each of its files by name.
    """

    schema: Literal[2]
    what: str
    fingerprint: str
    files: dict[str, str]


MANIFEST_SCHEMA = TypeAdapter(Manifest)


@dataclass(frozen=True)
class Unit:
    """An independent piece of work of an artefact.

    Args:
        number: position among the artefact's units; also the order of the images in a set.
        classes: class indices that this unit makes.
        images: ipc indices that this unit makes; empty means all of them.
    """

    number: int
    classes: tuple[int, ...] = ()
    images: tuple[int, ...] = ()


class Workspace:
    """An unfinished artefact: one file per finished unit, one claim per unit in work and one for sealing.

    Any number of processes may share it; a unit that two of them make by accident comes out the same.

    Args:
        folder: where the finished artefact will lie.
        suffix: of the units' files.
    """

    def __init__(self, folder: Path, suffix: str = ".safetensors") -> None:
        self.folder, self.suffix = working_folder(folder), suffix
        files.make_folder(self.folder)

    def path(self, unit: Unit) -> Path:
        """File of a finished unit."""
        return self.folder / self._name(unit)

    def _name(self, unit: Unit) -> str:
        return f"{unit.number:06d}{self.suffix}"

    def pending(self, units: list[Unit]) -> list[Unit]:
        """Units without a file."""
        names = {path.name for path in self.folder.iterdir()}  # one listing: each of 1,000 units looks at all of them
        return [unit for unit in units if self._name(unit) not in names]

    def claim(self, task: Unit | Literal["seal"]) -> Claim:
        """Claim of a process to make a unit, or to seal the artefact."""
        return Claim(self.folder / "seal.claim" if task == "seal" else self.path(task).with_suffix(".claim"))

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
            raise self.dropped(unit)

    def read(self, unit: Unit) -> bytes:
        """A finished unit's file, checked.

        Raises:
            DataError: as `check`.
            OSError: its file cannot be read now; it stays.
        """
        self.check(unit)
        return self.path(unit).read_bytes()

    def link(self, unit: Unit, place: Path) -> None:
        """Put a finished unit's file, checked, into a folder too: by a link where the file system has them."""
        self.check(unit)
        file = self.path(unit)
        try:
            os.link(file, place / file.name)
        except OSError:
            shutil.copy2(file, place / file.name)

    def dropped(self, unit: Unit) -> DataError:
        """Drop a damaged unit, and return the error that says so."""
        self.path(unit).unlink(missing_ok=True)
        return DataError(
            f"Unit {unit.number} in {self.folder} was damaged and has been dropped. Run the same command again."
        )

    def remove(self) -> None:
        """Drop the unfinished artefact's folder, once the finished one is in place."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Artefact(ABC):
    """One artefact: its name, how it is made, and its way to the disk and back.

    A new kind says what shapes it (`identity`), its pieces of work (`units`, `make_unit`) and what is kept of them
    (`collect`); the rest is here. Any number of processes may `ensure` the same artefact: they share the units.

    >>> class Squares(Artefact):
    ...     kind = "list of squares"
    ...
    ...     def identity(self):
    ...         return {"numbers": 3}
    ...
    ...     def units(self):
    ...         return [Unit(number) for number in range(3)]
    ...
    ...     def make_unit(self, work, unit):
    ...         work.write(unit, str(unit.number**2).encode())
    ...
    ...     def collect(self, place, work):
    ...         text = " ".join(work.read(unit).decode() for unit in self.units())
    ...         files.write_bytes(place / "squares.txt", text.encode())
    ...         return {"sum": sum(map(int, text.split()))}
    >>> squares = Squares(Path("cache"))
    >>> (squares.ensure() / "squares.txt").read_text()
    '0 1 4'
    >>> squares.verified()["numbers"], squares.verified()["sum"]
    (3, 5)

    Args:
        place: folder that holds the artefacts of this kind.
    """

    kind: ClassVar[str]
    """What messages and the manifest call it."""
    again: ClassVar[str] = "the same command"
    """What makes it again, for messages."""
    suffix: ClassVar[str] = ".safetensors"
    """Of the units' files."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._begun = time.perf_counter()

    # --- what a kind says ---

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Everything that shapes it, and nothing else, as JSON: it names the artefact and stands in the manifest."""

    def units(self) -> list[Unit]:
        """Independent pieces of work: one, unless a kind says otherwise; none where `collect` does everything."""
        return [Unit(0)]

    def make_unit(self, work: Workspace, unit: Unit) -> None:
        """Write a unit's file into the workspace: the same bytes whichever process makes it."""
        raise NotImplementedError

    @abstractmethod
    def collect(self, place: Path, work: Workspace) -> dict[str, Any]:
        """Write the finished files into `place`, all units being there, and return what else the manifest says."""

    # --- where it is ---

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that name it."""
        return naming.digest(self.identity())

    @cached_property
    def folder(self) -> Path:
        """Where the finished artefact lies."""
        return self.place / self.fingerprint

    @property
    def exists(self) -> bool:
        """Whether it is finished."""
        return is_sealed(self.folder)

    @property
    def seconds(self) -> float:
        """Time since this process began to make it."""
        return time.perf_counter() - self._begun

    @property
    def working(self) -> Path:
        """Where it lies while it is made."""
        return working_folder(self.folder)

    def workspace(self) -> Workspace:
        """The unfinished artefact."""
        return Workspace(self.folder, self.suffix)

    # --- making it ---

    def ensure(self, begin: float = 0.0) -> Path:
        """Make whatever is missing, together with any other process that does the same, and return the folder.

        Args:
            begin: fraction of the units that this process skips at first, so that processes begin apart.
        """
        if self.exists:
            for left in [self.working, *_sealing(self.folder)]:  # by processes that were killed while they sealed it
                shutil.rmtree(left, ignore_errors=True)
            return self.folder
        self._begun = time.perf_counter()
        work, units = self.workspace(), self.units()
        first = int(begin * len(units))
        try:
            while not self.exists:  # the first to seal removes the workspace
                if self._make_one(work, units[first:] + units[:first]):
                    continue
                if work.pending(units) or not self._seal(work, units):
                    time.sleep(WAIT)
        except (OSError, DataError):
            if not self.exists:
                raise
            log.debug("another process sealed %s first", self.folder)
        work.remove()
        return self.folder

    def _make_one(self, work: Workspace, units: list[Unit]) -> bool:
        """Make the first unit that is missing and that no other process makes. Whether there was one."""
        for unit in work.pending(units):
            claim = work.claim(unit)
            if work.path(unit).exists() or not claim.take():
                continue
            with claim.held():
                if not work.path(unit).exists():  # by another process, after the first look
                    self.make_unit(work, unit)
                    return True
        return False

    def _seal(self, work: Workspace, units: list[Unit]) -> bool:
        """Seal, unless a unit is missing by now. False where another process seals: it may die, or drop a unit."""
        claim = work.claim("seal")
        if not claim.take():
            return False
        with claim.held():
            if not self.exists and not work.pending(units):
                for left in _sealing(self.folder):  # by a process that was killed: this one has the claim
                    shutil.rmtree(left, ignore_errors=True)
                said = {"what": self.kind, "fingerprint": self.fingerprint, "versions": asdict(versions())}
                seal(self.folder, lambda place: self.collect(place, work), {**self.identity(), **said})
        return True

    # --- reading it ---

    def manifest(self) -> dict[str, Any]:
        """What was sealed says of itself, its files unread.

        Raises:
            DataError: nothing finished there, a damaged manifest, or one of another artefact.
        """
        manifest = read_manifest(self.folder)
        if manifest["fingerprint"] != self.fingerprint:
            raise DataError(
                f"{self.folder} holds the {manifest['what']} {manifest['fingerprint']}, and the {self.kind} "
                f"{self.fingerprint} belongs there: folders were exchanged or renamed. Move it away (to "
                f"{self.place / manifest['fingerprint']}, if that is where it came from) and run {self.again} again."
            )
        return manifest

    def verified(self) -> dict[str, Any]:
        """As `manifest`, once every file is what was sealed. Raises DataError as `manifest` and `verify`."""
        manifest = self.manifest()
        _check_files(self.folder, manifest, self.again)
        return manifest


def working_folder(folder: Path) -> Path:
    """Where an artefact lies while it is made."""
    return folder.with_name(f"{folder.name}.partial")


def is_sealed(folder: Path) -> bool:
    """Whether a finished artefact lies in `folder`."""
    return (folder / MANIFEST).exists()


def _sealing(folder: Path) -> list[Path]:
    """Folders in which processes are sealing, or were when they were killed."""
    return list(folder.parent.glob(f".{folder.name}.*.sealing"))


def seal(folder: Path, write: Callable[[Path], dict[str, Any]], manifest: dict[str, Any]) -> Path:
    """Write a finished artefact under a temporary name, hash its files into its manifest and move it into place.

    Args:
        folder: where it shall lie; where another process sealed it first, that one stays.
        write: writes the files into the folder that it is given and returns facts for the manifest.
        manifest: what else is known: `what` and `fingerprint` at least.
    """
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.sealing")
    try:
        temporary.mkdir(parents=True)
        facts = write(temporary)
        hashes = {str(p.relative_to(temporary)): files.sha256(p) for p in files_below(temporary)}
        content = {"schema": SCHEMA, **manifest, **facts, "files": hashes}
        MANIFEST_SCHEMA.validate_python(content)
        files.write_json(temporary / MANIFEST, files.signed(content))
        temporary.rename(folder)
    except OSError as error:
        if is_sealed(folder):  # by another process, meanwhile
            return folder
        if folder.exists():
            raise DataError(
                f"{folder} is in the way: it has no {MANIFEST}, so it is nothing that was sealed, and nothing is "
                "overwritten. Move it away and run the same command again: it continues."
            ) from error
        raise files.explain(error, folder) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder, at any depth, in order of their names."""
    return (p for p in sorted(folder.rglob("*")) if p.is_file())


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read an artefact's manifest, checked by its own checksum, without reading its files. Raises DataError."""
    path = folder / MANIFEST
    content = files.read_json(path)
    try:
        MANIFEST_SCHEMA.validate_python(content)
        return files.unsigned(content)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise DataError(f"{path} is not a manifest of schema {SCHEMA}: {where} {error.errors()[0]['msg']}.") from None
    except DataError as error:
        raise DataError(f"{path} is damaged: {error}. Move the folder away and make it again.") from None


def verify(folder: Path, again: str = "'ddlight condense'") -> dict[str, Any]:
    """Check every file of a finished artefact against its manifest and return the manifest.

    Args:
        folder: where it lies.
        again: what makes it again, for the error.

    Raises:
        DataError: nothing finished there, an unknown schema, a file missing, changed or added.
    """
    manifest = read_manifest(folder)
    _check_files(folder, manifest, again)
    return manifest


def _check_files(folder: Path, manifest: dict[str, Any], again: str) -> None:
    expected = manifest["files"]
    present = {str(p.relative_to(folder)) for p in files_below(folder)} - {MANIFEST}
    wrong = sorted(set(expected) - present) or sorted(present - set(expected))
    wrong = wrong or [name for name, digest in expected.items() if files.sha256(folder / name) != digest]
    if wrong:
        raise DataError(
            f"The {manifest['what']} {folder} is not what was sealed: {wrong[0]} is missing, new or changed "
            f"({len(wrong)} file{'s' * (len(wrong) > 1)}). Move the folder away and run {again} again."
        )

"""The result of one run: the documented, versioned and validated content of `result.json`.

One file is one training of one student on one condensed set. Reports read these files and nothing else, so whatever a
table may say stands here: what the set is and how many real images are behind it, what was trained and for how long,
what it scored, how often the test split was read, and what all of it cost.

The classes below are the schema, which pydantic checks: every field is required, `None` is allowed only where a type
says so, NaN and infinity are refused, and a field that is not listed is refused. A change of meaning, a removal or an
addition raises `SCHEMA`; a reader refuses files of a newer schema rather than guess. The file itself carries one more,
`sha256`: the checksum of all others (`files.signed`), by which a damaged or edited file is refused. One without it is
not checked.

Schema 2 has None for the operations behind a set that others made. Files of schema 1, which has 0 there and the time of
reading its files for the time to make it, are read as they are.
"""

import json
import math
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from functools import cache, reduce
from importlib import metadata
from operator import getitem
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from annotated_types import Ge, Interval, MinLen

from ddlight import __version__
from ddlight.core.errors import DataError, nearest
from ddlight.core.files import signed, unsigned, write_json

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

SCHEMA = 2
READABLE = (1, SCHEMA)
FILE = "result.json"


Name = Annotated[str, MinLen(1)]
Count = Annotated[int, Ge(0)]
Positive = Annotated[int, Ge(1)]
Amount = Annotated[float, Ge(0)]
Percent = Annotated[float, Interval(ge=0, le=100)]


class Record:
    """A part of a result: no field of another name, no number that is not finite, no bool as a number."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "strict": True,
        "extra": "forbid",
        "allow_inf_nan": False,
        "alias_generator": lambda name: {"class_name": "class"}.get(name, name),
    }


@dataclass(frozen=True)
class SetRecord(Record):
    """The condensed set that was trained on.

    Attributes:
        dataset: name of the real dataset, such as "FashionMNIST5k".
        method: class name of the method, such as "Random".
        args: the method's own arguments.
        ipc: images per class; None where the set has no such number (the full data, a fraction).
        seed: seed of the draw, scoring run or synthesis that made the set.
        fingerprint: hash of the recipe that made the set.
        content_sha256: hash of the set's content. Sets that share it, or the fingerprint, are one set.
        images: images in the set.
        source_images: real images behind the set: a mosaic of four counts four.
        classes: classes of the dataset.
        bytes_images: size of the images on disk.
        bytes_labels: size of the soft labels that the run trains on: the set's own, and those that its regime keeps.
        selected_on: the split on which whatever was chosen about the set was chosen.
        path: folder of the set.
    """

    dataset: Name
    method: Name
    args: Mapping[str, object]
    ipc: Positive | None
    seed: Count
    fingerprint: Name
    content_sha256: Name
    images: Positive
    source_images: Count
    classes: Positive
    bytes_images: Count
    bytes_labels: Count
    selected_on: Literal["none", "held_out", "test"]
    path: str


@dataclass(frozen=True)
class StudentRecord(Record):
    """The network that was trained. `class_name` is "class" in the file.

    Attributes:
        class_name: such as "ConvNet".
        args: its arguments.
        parameters: trainable numbers in it.
    """

    class_name: Name
    args: Mapping[str, object]
    parameters: Count


@dataclass(frozen=True)
class TeacherRecord(Record):
    """One network that labelled images during training.

    Attributes:
        name: as listed in the configuration.
        fingerprint: sha256 of its weights.
        parameters: numbers in it.
        acc: its own test accuracy, percent; None where it was not measured.
    """

    name: str
    fingerprint: Name
    parameters: Count
    acc: Percent | None


@dataclass(frozen=True)
class BudgetRecord(Record):
    """Length of the training, as asked for and as done.

    Attributes:
        unit: unit in which it was asked for.
        asked: how many of them.
        steps: optimiser steps done.
        batch: images per step over all ranks.
        images_seen: images that passed through the student. "Equal compute" means this number.
        passes: images_seen / images in the set.
        full_epochs: images_seen / images in the full training split.
    """

    unit: Literal["steps", "epochs", "images", "full_epochs"]
    asked: Amount
    steps: Count
    batch: Positive
    images_seen: Count
    passes: Amount
    full_epochs: Amount


@dataclass(frozen=True)
class Flops(Record):
    """Floating-point operations.

    Attributes:
        student: of the training, forward and backward.
        teachers: of labelling images while it went on.
        scoring: of the scoring run behind the set; None where others made the set and did not say.
        synthesis: of making the set; likewise.
    """

    student: Amount
    teachers: Amount
    scoring: Amount | None
    synthesis: Amount | None


@dataclass(frozen=True)
class Accuracy(Record):
    """Top-1 accuracy in percent, of the last step unless a field says otherwise.

    Attributes:
        test: on the test split; the headline.
        test_top5: top-5 accuracy on it; None where it was not measured.
        per_class: on the test images of each class, in class order.
        held_out: on the images held out from train; None where none were.
        best_on_test: highest of all readings of the test split; None where it was read once.
        test_reads: how often the test split was read.
        test_images: images in the test split; each counts once.
    """

    test: Percent
    test_top5: Percent | None
    per_class: tuple[Percent, ...]
    held_out: Percent | None
    best_on_test: Percent | None
    test_reads: Positive
    test_images: Positive


@dataclass(frozen=True)
class Seconds(Record):
    """Wall-clock time of each phase.

    Attributes:
        condense: making the set, whenever that was, the scoring run included; None where others made it and did not
            say.
        setup: from the command's start to the first step, in the last process of a run that was continued; making a
            missing set is part of it.
        fit: from the first step to the last, over all processes.
        evaluate: reading the test split at the end.
    """

    condense: Amount | None
    setup: Amount
    fit: Amount
    evaluate: Amount


@dataclass(frozen=True)
class PeakMemory(Record):
    """Highest memory use in bytes: of the process on the host, and on the device (None on the CPU)."""

    host: Count
    device: Count | None


@dataclass(frozen=True)
class Machine(Record):
    """Where it ran: device name, ranks over all nodes, nodes, and precision, such as "bf16-mixed, compiled"."""

    device: str
    ranks: Positive
    nodes: Positive
    precision: str


@dataclass(frozen=True)
class Versions(Record):
    """Versions of what computed the result."""

    ddlight: str
    python: str
    torch: str
    torchvision: str
    lightning: str
    timm: str
    numpy: str


@dataclass(frozen=True)
class Result(Record):
    """Everything that one run reports; the content of its `result.json`. Field names are the file's.

    Attributes:
        run: name of the run's folder.
        config: stem of the configuration file.
        finished: ISO-8601 time in UTC, such as "2026-01-31T12:00:00+00:00".
        set: the condensed set.
        regime: class name of the label regime, with options that make it another one: "StoredLabel(M=3)".
        protocol: name of the published recipe.
        recipe: its numbers as they were used, overrides included.
        augment: its augmentation as it was used.
        student: the network that was trained.
        teachers: the networks that labelled images; empty under a regime without teachers.
        seed: seed of the training (initialisation, order, augmentation).
        budget: length of the training.
        flops: compute of every part.
        acc: accuracies.
        nll: mean negative log-likelihood of the test labels, nats.
        ece: expected calibration error on the test split, in [0, 1].
        seconds: time of every phase.
        peak_memory_bytes: highest memory use.
        machine: where it ran.
        versions: with what.
        schema: version of this layout.
    """

    run: str
    config: str
    finished: str
    set: SetRecord
    regime: Name
    protocol: str
    recipe: Mapping[str, object]
    augment: Mapping[str, object]
    student: StudentRecord
    teachers: tuple[TeacherRecord, ...]
    seed: Count
    budget: BudgetRecord
    flops: Flops
    acc: Accuracy
    nll: Amount
    ece: Annotated[float, Interval(ge=0, le=1)]
    seconds: Seconds
    peak_memory_bytes: PeakMemory
    machine: Machine
    versions: Versions
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file, `schema` first.

        Raises:
            DataError: a field holds what the schema does not allow; the message names it.
        """
        content = asdict(self)
        content = {"schema": content.pop("schema"), **content}
        content["student"] = {"class": content["student"].pop("class_name"), **content["student"]}
        _check_plain(content, "")
        content = cast(dict[str, Any], json.loads(json.dumps(content)))  # tuples become lists
        validate(content)
        return content

    @classmethod
    def from_json(cls, content: object) -> "Result":
        """Build a result from the parsed content of a file. Raises DataError naming the field that is wrong."""
        if not isinstance(content, dict) or "schema" not in content:
            raise DataError("not a ddlight result: it has no field 'schema'")
        _check_schema(content["schema"])
        result = _checked(unsigned(content))
        _check_finished(result.finished)
        if len(result.acc.per_class) != result.set.classes:
            raise DataError(
                f"'acc.per_class' has {len(result.acc.per_class)} numbers: one for each of the "
                f"{result.set.classes} classes of 'set.classes' is needed"
            )
        return result

    @classmethod
    def read(cls, path: str | Path) -> "Result":
        """Read a `result.json`, or the one in a run's folder.

        Raises:
            DataError: there is no such file, it is half written, it is not a result, or its schema is newer. The
                message names the file and the field.
        """
        path = Path(path)
        path = path / FILE if path.is_dir() else path
        try:
            return cls.from_json(json.loads(path.read_bytes()))
        except FileNotFoundError:
            raise DataError(f"{path}: there is no such file") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: half written or not JSON ({error})") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    def write(self, path: str | Path) -> Path:
        """Write the file, or `result.json` in a run's folder, under a temporary name first; return its path.

        Raises:
            DataError: a field holds what the schema does not allow, or the disk is full. Nothing is written then.
        """
        path = Path(path)
        path = path / FILE if path.is_dir() else path
        write_json(path, signed(self.to_json()))
        return path


def validate(content: Mapping[str, object]) -> None:
    """Check the parsed content of a `result.json`. Raises DataError naming the first field that is wrong."""
    Result.from_json(content)


def versions() -> Versions:
    """Versions of ddlight, Python and the libraries, read from their metadata without importing them."""
    libraries = {name: _version(name) for name in ("torch", "torchvision", "lightning", "timm", "numpy")}
    return Versions(ddlight=__version__, python=platform.python_version(), **libraries)


def peak_host_memory() -> int:
    """Highest resident memory of this process so far, in bytes (worker processes are not in it).

    Linux is asked through /proc: a process that another one started inherits that one's `ru_maxrss`, so that a small
    run would report the memory of its launcher.
    """
    if (peak := _proc_bytes("VmHWM")) is not None:
        return peak
    import resource  # not on Windows, where results can still be read

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_memory() -> int:
    """Resident memory of this process now, in bytes; its peak where there is no /proc."""
    now = _proc_bytes("VmRSS")
    return peak_host_memory() if now is None else now


def _proc_bytes(name: str) -> int | None:
    status = Path("/proc/self/status")
    line = re.search(rf"^{name}:\s+(\d+) kB$", status.read_text(), re.MULTILINE) if status.exists() else None
    return int(line[1]) * 1024 if line else None


def utc_now() -> str:
    """The time now as `finished` holds it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _version(name: str) -> str:
    """Installed version, or "unknown" for a build without metadata: no finished run is lost over it."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"


def _check_schema(schema: object) -> None:
    if type(schema) is int and schema > SCHEMA:
        raise DataError(
            f"'schema' is {schema}, which a newer ddlight wrote; this one ({__version__}) reads up to schema {SCHEMA}. "
            "Update it: pip install -U ddlight"
        )
    if type(schema) is not int or schema not in READABLE:
        raise DataError(f"'schema' is {schema!r}: {' or '.join(map(str, READABLE))} is needed")


def _check_finished(finished: str) -> None:
    try:
        offset = datetime.fromisoformat(finished.replace("Z", "+00:00")).utcoffset()
    except ValueError:
        offset = None
    if offset != timedelta(0):
        raise DataError(f"'finished' is {finished!r}: an ISO-8601 time in UTC is needed, such as {utc_now()!r}")


@cache
def _schema() -> "TypeAdapter[Result]":
    from pydantic import TypeAdapter  # not before a result is read: commands that only list things do without

    return TypeAdapter(Result)


def _checked(content: dict[str, Any]) -> Result:
    """Build a result from parsed JSON. Raises DataError naming the field that is wrong."""
    from pydantic import ValidationError

    _check_plain(content, "")
    try:
        return _schema().validate_json(json.dumps(content))
    except ValidationError as error:
        raise DataError(_complaint(error, content)) from None


def _complaint(invalid: "ValidationError", content: dict[str, Any]) -> str:
    """What is wrong first: fields that the schema does not know come before all others."""
    errors = invalid.errors(include_url=False)
    error = next((e for e in errors if e["type"] == "unexpected_keyword_argument"), errors[0])
    *parents, name = where = error["loc"]
    if error["type"] == "missing":
        return f"'{_dotted(where)}' is missing"
    if error["type"] == "unexpected_keyword_argument":
        missing = [str(e["loc"][-1]) for e in errors if e["loc"][:-1] == where[:-1] and e["type"] == "missing"]
        fields = [*reduce(getitem, parents, cast(Any, content)), *missing]
        close = nearest(str(name), [field for field in fields if field != name])
        return f"'{_dotted(where)}' is not a field of schema {SCHEMA}.{close}"
    return f"'{_dotted(where)}' is {_shown(error['input'])}: {error['msg'].replace('Input', 'it')}"


def _dotted(where: Sequence[str | int]) -> str:
    """A place in a result as its fields are named: acc.per_class[2]."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).removeprefix(".")


def _check_plain(value: object, where: str) -> None:
    """Check that JSON can hold something without loss. Raises DataError naming what it cannot."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise DataError(f"'{where}' has the key {key!r}: keys must be text")
            _check_plain(item, f"{where}.{key}" if where else key)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"'{where}' is {value}: a finite number is needed")
    elif value is not None and not isinstance(value, str | int | float):
        raise DataError(f"'{where}' is of type {type(value).__name__}, which JSON cannot hold")


def _shown(value: object) -> str:
    """A value as an error message shows it: short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"

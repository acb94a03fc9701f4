"""Artefacts of every kind, ways to damage a file, and what reading the damaged artefact must say."""

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import states
from processes import ENVIRONMENT, Strike, clean, must, run
from scenarios import SCENARIOS, prepare

from ddlight.core import discover
from ddlight.core.errors import DataError, DDLightError

Read = Callable[[Path], Any]
BLOCK = 512
"""Most bytes that are zeroed or appended."""


@dataclass
class Subject:
    """An artefact whose files are damaged.

    Args:
        name: what reports call it.
        folder: it, whole.
        read: gives everything that it says, or raises a DDLightError; may change the folder.
        patterns: of the files that are damaged.
        donor: another artefact of the kind, whose files may stand in for its own.
        keeps: reading it may not change what is finished beside it.
        swapped: a whole file of another artefact is damage too. Not for a report: a result counts there as what it
            says that it is, in whatever folder it lies.
        expected: what reading it gives while it is whole; it is read here where this is not given.
    """

    name: str
    folder: Path
    read: Read
    patterns: tuple[str, ...] = ("**/*",)
    donor: Path | None = None
    keeps: bool = True
    swapped: bool = True
    expected: Any = None

    def __post_init__(self) -> None:
        if self.expected is not None:
            return
        trial = self.folder.with_name(f"{self.folder.name}.whole")
        shutil.copytree(self.folder, trial)
        self.expected = self.read(trial)
        clean(trial)

    def files(self, trial: Path) -> list[Path]:
        """Files of a copy that may be damaged."""
        return sorted({p for pattern in self.patterns for p in trial.glob(pattern) if p.is_file()})

    def others(self, trial: Path, path: Path) -> list[bytes]:
        """Contents of files that may stand in for one."""
        found = [p for p in self.files(trial) if p.suffix == path.suffix and p != path and self.swapped]
        if self.donor is not None:
            found += [p for p in [self.donor / path.relative_to(trial)] if p.is_file()]
        return [p.read_bytes() for p in found]


def damage(path: Path, others: list[bytes], rng: random.Random) -> str:
    """Damage a file so that its bytes are others, and say how."""
    whole = path.read_bytes()
    kind = rng.choice(("truncate", "flip", "flip", "zero", "empty", "delete", "append", "replace"))
    at = rng.randrange(max(1, len(whole)))
    content, how = whole, kind
    if kind == "delete":
        path.unlink()
        return kind
    if kind == "truncate":
        content, how = whole[:at], f"truncate at {at} of {len(whole)}"
    elif kind == "zero":
        length = min(rng.randint(1, BLOCK), len(whole) - at)
        content, how = whole[:at] + bytes(length) + whole[at + length :], f"zero {at} to {at + length} of {len(whole)}"
    elif kind == "empty":
        content = b""
    elif kind == "append":
        content = whole + rng.randbytes(rng.randint(1, BLOCK))
    elif kind == "replace" and others:
        content = rng.choice(others)
    if content == whole:
        bit = rng.randrange(8)
        content, how = _flipped(whole, at, bit), f"flip bit {bit} of byte {at} of {len(whole)}"
    path.write_bytes(content)
    return how


def _flipped(whole: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(whole or b"\0")
    changed[at] ^= 1 << bit
    return bytes(changed)


def subjects(folder: Path) -> list[Subject]:
    """Make one artefact of each kind."""
    place = folder / "subjects"
    home = prepare(place / "home")
    return [*_sets(place), *_units(place), *_labels(place), *_runs(place, home), *_commands(place, home)]


# --- sets, finished and not ---


def _method(name: str, cache: Path, seed: int = 0) -> Any:
    """A data module of a small set; those of `methods/made.py` by name."""
    from ddlight.data import Digits
    from ddlight.methods.baselines.random import Random

    os.environ.update(ENVIRONMENT)
    discover.import_all()
    made = sys.modules["ddlight_extra.made"]
    kind = Random if name == "Random" else getattr(made, name)
    return kind(Digits(size=8), ipc=3, seed=seed, cache=str(cache))


SETS = {"selection": "Random", "tensors": "Averages", "pictures": "Pictures"}


def _sets(place: Path) -> list[Subject]:
    from ddlight.data import Digits
    from ddlight.sets import store

    digits = Digits(size=8)

    def read(folder: Path) -> Any:
        found = store.load(folder, digits)
        return [found.images, found.labels, found.manifest]

    made = []
    for kind, name in SETS.items():
        folders = [_method(name, place / kind, seed).condense() for seed in (0, 1)]
        made.append(Subject(f"set of {kind}", folders[0], read, donor=folders[1]))
    return made


def _units(place: Path) -> list[Subject]:
    """Sets of which eight units of ten are made, one of them with the claim of a process that is gone."""
    from ddlight.core.artefact import Workspace
    from ddlight.sets import store

    found = []
    for kind, name in SETS.items():
        caches = [place / f"{kind}.unfinished{seed}" for seed in (0, 1)]
        for seed, cache in enumerate(caches):
            method = _method(name, cache, seed=0)
            work = Workspace(method.folder)
            for unit in method.units()[2 * seed : 8 + 2 * seed]:
                store.put(work, unit, method.make(unit))
            (work.folder / "000009.claim").write_text("elsewhere 123 456")
            _make_old(work.folder / "000009.claim")
        files = ("**/*.partial/*",)
        found.append(Subject(f"units of {kind}", caches[0], _condensing(name), files, caches[1], keeps=False))
    return found


def _make_old(path: Path) -> None:
    os.utime(path, (0, 0))


def _condensing(name: str) -> Read:
    """Continue a set; where that is refused, the next start must end well with the right bytes."""

    def read(cache: Path) -> Any:
        for claim in cache.rglob("*.claim"):
            _make_old(claim)
        return _started_again(lambda: _method(name, cache).condense(), cache)

    return read


def _started_again(make: Callable[[], object], cache: Path) -> Any:
    """What lies there after the command, or after the second start where the first one was refused."""
    try:
        make()
    except DDLightError:
        make()
    if left := states.leftovers(cache):
        raise RuntimeError(f"left over: {left}")
    return states.contents(cache)


# --- stored labels ---


def _labels(place: Path) -> list[Subject]:
    from ddlight.sets.labels import LabelPlan, LabelStore

    plan = LabelPlan(12, 5, 10, 4, 1.0, "fp16", 0, {"set": "s"})

    def label(batches: np.ndarray) -> np.ndarray:
        rows = int(plan.rows(batches[:, 1]).sum())
        return np.random.default_rng(int(batches[0, 0])).normal(size=(rows, 10)).astype(np.float32)

    def read(folder: Path) -> Any:
        labels = LabelStore(folder.parent, plan)
        labels.folder = folder
        labels.verify()
        return [np.array(labels.read(int(epoch), int(index))) for epoch, index in plan.kept()]

    whole = LabelStore(place / "labels", plan)
    whole.write(label)

    unfinished = LabelStore(place / "labels.unfinished", plan)
    _write_some(unfinished, label)

    def write(cache: Path) -> Any:
        labels = LabelStore(cache, plan)
        return _started_again(lambda: labels.write(label), cache)

    return [
        Subject("stored labels", whole.folder, read),
        Subject("units of stored labels", place / "labels.unfinished", write, ("*.partial/*",), keeps=False),
    ]


def _write_some(labels: Any, label: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write three passes of four, as a process does that is interrupted in the last."""

    def interrupted(batches: np.ndarray) -> np.ndarray:
        if batches[0, 0] == 3:
            raise KeyboardInterrupt
        return label(batches)

    try:
        labels.write(interrupted)
    except KeyboardInterrupt:
        return


# --- runs ---


def _runs(place: Path, home: Path) -> list[Subject]:
    from ddlight.core.result import Result
    from ddlight.networks.teachers import RunTeacher

    must(run([*SCENARIOS["fit: hard labels"], "--model.seed=1"], home))
    for name in ("teacher", "hard"):
        shutil.copytree(home / "runs" / name, place / "finished" / name)

    def result(folder: Path) -> Any:
        return Result.read(folder).to_json()

    def teacher(folder: Path) -> Any:
        found = RunTeacher(str(folder))
        found.load(10, 1, 32)
        return [found.fingerprint(), repr(found.input), found.num_classes]

    first, second = place / "finished" / "teacher", place / "finished" / "hard"
    weights = ("student.safetensors", "student.json")
    return [
        Subject("result.json", first, result, ("result.json",)),
        Subject("teacher's weights and card", first, teacher, weights, second),
        Subject("report", place / "finished", _reported, ("*/result.json",), swapped=False),
    ]


def _reported(folder: Path) -> Any:
    """Rows of a report; one that says of itself that it is damaged, or is not there, is refused."""
    from ddlight.report.collect import collect

    rows = json.loads(collect([folder]).drop(columns="path").to_json(orient="records"))
    for row in rows:
        if row["status"] != "done":
            raise DataError(row["error"])
    if len(rows) < 2:
        raise DataError(f"{folder}: no row for one of the runs")
    return rows


# --- commands that continue ---


def _commands(place: Path, home: Path) -> list[Subject]:
    """Commands that were killed on their way, or are given what was damaged."""
    stored, grid = SCENARIOS["fit: stored labels"], SCENARIOS["grid"]
    begun, study = place / "begun", place / "study"
    shutil.copytree(home, begun)
    _until(stored, begun, lambda: any(begun.rglob("last.ckpt")))
    shutil.copytree(home, study)
    _until(grid, study, lambda: len(list(study.glob("runs/study/*/result.json"))) > 1)
    other = place / "other"
    shutil.copytree(home, other)
    words = [word.replace("runs/teacher", "runs/hard") for word in stored]
    _until(words, other, lambda: any(other.rglob("last.ckpt")))
    inputs = ("cache/*/Random/**/*", "cache/labels/**/*", "runs/teacher/student.*")
    cells = ("runs/study/*/result.json", "runs/study/*/cell.json", "runs/*/*/last.ckpt", "runs/before/*/student.*")
    continued = Subject("last.ckpt, continued", begun, _continuing(stored), ("runs/stored/last.ckpt",), other)
    return [
        continued,
        Subject("what a run is given", begun, continued.read, inputs, other, expected=continued.expected),
        Subject("cells of a grid", study, _continuing(grid), cells),
    ]


def _until(words: list[str], home: Path, there: Callable[[], bool]) -> None:
    """Run a command, and kill it as soon as something is there."""
    ended = run(words, home, Strike(when=there))
    if ended.code != -signal.SIGKILL:
        raise RuntimeError(f"ended with {ended.code} before it was there: {ended.text}")


def _continuing(words: list[str]) -> Read:
    def read(home: Path) -> Any:

        ended = run(words, home)
        logs: Iterable[Path] = home.rglob("log.txt")
        text = ended.text + "".join(log.read_text(errors="replace") for log in logs)
        refused = ended.code in (2, 3) or (ended.code == 1 and ": failed: " in text)
        if "Traceback" in text or (ended.code != 0 and not refused):
            raise RuntimeError(f"ended with {ended.code}: {text[-1500:]}")
        if refused:
            raise DataError(text)
        return states.contents(home)

    return read

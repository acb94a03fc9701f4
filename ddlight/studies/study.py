"""Studies: one YAML file that names many runs, the cells of a product of axes, and where each of them stands.

    name: regimes                 # folder of its runs; the file's name where it is not given
    before:                       # runs that cells need, such as teachers
      convnet: {config: ../teachers/fashion5k_convnet.yaml}
    common: {data: Random, data.dataset: FashionMNIST5k, model.student: ConvNet, model.student.width: 32}
    axes:
      regime:
        HL: {model: HardLabel}
        SL: {model: SoftLabel, model.teacher: {class_path: RunTeacher, init_args: {run: "{run:convnet}"}}}
      ipc: {10: {data.ipc: 10}, 50: {data.ipc: 50}}
      set: [0, 1, 2]
    skip: [{regime: SL, ipc: 50}, {ipc: 10, set: [1, 2]}]

`common`, every value of an axis and every entry of `before` hold options of `ddlight fit` by dotted name, and `config`,
one file or several, relative to the study file. A cell takes the options of `common` and of one value of each axis: an
axis replaces options of `common`, two axes may not set the same option, the files of `config` add up in that order. An
option follows the class that it belongs to, whichever of them stands first here; lists and mappings are passed on as
JSON. The axis `set` may be a list of numbers: each is given to `data.seed` and `model.seed`.

`{run:NAME}` in a value stands for the run folder of `before`'s NAME, whose run is made first. It lies in
`<runs>/before/NAME`, where other studies find it too; a cell lies in `<runs>/<study>/<axis values joined by "-">`.

`skip` leaves out every cell that has all the values that an entry names. Beside its run, a cell's folder holds
`cell.json` (what was asked for, so that a changed study never passes off old results as its own), `log.txt`, and
`failed.json` while its last try is one that failed.
"""

import hashlib
import itertools
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ddlight.cli.configs import config_chain, contents, fragments
from ddlight.cli.regime import regime_of
from ddlight.core.errors import DataError, UsageError, nearest
from ddlight.core.files import read_json, write_json
from ddlight.core.result import FILE, Result

KEYS = ("name", "before", "axes", "common", "skip")
SET = "set"
NAME = re.compile(r"[\w.+=-]+")
PLACE = re.compile(r"\{run:([^{}]*)\}")
FAILED, RECORD, CHECKPOINT = "failed.json", "cell.json", "last.ckpt"
WITHOUT_EFFECT = tuple(f"trainer.{n}" for n in ("accelerator", "devices", "num_nodes", "checkpoint_every", "progress"))
"""Options that do not change what a run computes: a study may change them while it is half done."""
NAMED = {"dataset": "data.dataset", "method": "data", "ipc": "data.ipc", "regime": "model", "student": "model.student"}
NAMED |= {"protocol": "model.protocol", "seed": "model.seed"}

Overrides = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Args:
        name: name of its folder: the axis values joined by "-", or the name under `before`.
        values: value of each axis; nothing under `before`.
        overrides: options of `fit`, placeholders filled in.
        arguments: the command line of the run.
        run: run folder.
        needs: run folders that it reads, of entries of `before`.
        digest: hash of everything that shapes the run: options, configs and the files that these build on or name.
    """

    name: str
    values: Mapping[str, str]
    overrides: Overrides
    arguments: tuple[str, ...]
    run: Path
    needs: tuple[Path, ...]
    digest: str

    @property
    def words(self) -> list[str]:
        """The axis values as they are shown: 'HL', 'ipc10', 'set0'; the name under `before`."""
        return _words(self.values) or [self.name]

    @property
    def kind(self) -> str:
        """What cells that differ in their set alone have in common: 'HL ipc10'."""
        if not self.values:
            return self.name
        return " ".join(_words({k: v for k, v in self.values.items() if k != SET})) or self.run.parent.name


@dataclass(frozen=True)
class Study:
    """A study that was read: its runs by name of their folder, those that cells need first, the last axis fastest."""

    name: str
    before: tuple[Cell, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class State:
    """Where a cell stands: done, failed, unfinished (it continues from its checkpoint) or missing.

    One that is done has its test accuracy in percent and the seconds of the run; one that failed has as note the first
    line of the error.
    """

    word: str
    acc: float = 0.0
    seconds: float = 0.0
    note: str = ""


# --- reading ---


def read_study(path: Path, runs: Path, tiny: bool = False) -> Study:
    """Read a study file, of the form in the module's docstring; `tiny` gives `--tiny` to every run.

    DataError where the file is missing or not YAML; UsageError where a key, value or placeholder is not what a study
    may hold, or a config is missing or not YAML.
    """
    try:
        content = _mapping(yaml.safe_load(path.read_text()), f"{path}")
    except OSError as error:
        raise DataError(f"There is no file {path} that can be read ({error.strerror}).") from None
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not YAML: {error}") from None
    _known(content, KEYS, f"{path} has the key")
    name = _name(content.get("name") or path.stem, "the study's name")
    reader = _Reader(path, runs, tiny)
    for key, overrides in _mapping(content.get("before"), "before").items():
        reader.before[_name(key, "a run of before")] = reader.cell(key, {}, [_mapping(overrides, f"before: {key}")])
    axes = _axes(_mapping(content.get("axes"), "axes"))
    common, skip = _mapping(content.get("common"), "common"), _skip(content.get("skip"), axes)
    cells = []
    for chosen in itertools.product(*axes.values()):
        values = dict(zip(axes, chosen, strict=True))
        if not any(all(values[axis] in given for axis, given in entry.items()) for entry in skip):
            parts = [common, *(axes[axis][value] for axis, value in values.items())]
            cells.append(reader.cell(f"{name}/{'-'.join(_words(values))}", values, parts))
    names = [cell.name for cell in cells]
    if twice := next((n for n in names if names.count(n) > 1), None):
        raise UsageError(f"Two cells would have the name '{twice}': give the values of the axes other names.")
    return Study(name, tuple(reader.before.values()), tuple(cells))


@dataclass
class _Reader:
    path: Path
    runs: Path
    tiny: bool
    before: dict[str, Cell] = field(default_factory=dict)

    def cell(self, place: str, values: Mapping[str, str], parts: Sequence[Overrides]) -> Cell:
        """Put parts together: `common` and the values of the axes, or an entry of `before`."""
        run = self.runs / (place if values else Path("before", place))
        merged = _merge(parts)
        named = [part.get("config") or [] for part in parts]
        names = [name for one in named for name in (one if isinstance(one, list) else [one])]
        configs = [Path(os.path.normpath(self.path.parent / name)) for name in names]
        places = dict.fromkeys(PLACE.findall(json.dumps(merged, default=str)))
        for name in places:
            if name not in self.before:
                close, known = nearest(name, self.before), ", ".join(self.before) or "none"
                raise UsageError(f"{self.path}: '{{run:{name}}}' names no run of before.{close} Above it: {known}.")
        needed = [self.before[name] for name in places]
        filled = _filled(merged, {cell.name: str(cell.run) for cell in needed})
        shaping = {k: v for k, v in merged.items() if k not in WITHOUT_EFFECT}
        files = [file for config in configs for file in config_chain(config)] + fragments(shaping, Path())
        told = [shaping, [contents(file) for file in files], [cell.digest for cell in needed], self.tiny]
        digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
        arguments = [*command_line(filled, configs), f"--trainer.run={run}", *(["--tiny"] if self.tiny else [])]
        return Cell(run.name, values, filled, tuple(arguments), run, tuple(c.run for c in needed), digest)


def command_line(overrides: Overrides, configs: Sequence[Path] = ()) -> list[str]:
    """Return the arguments of `ddlight` that make a run: `fit`, the config files, then each option after its class."""
    ordered: dict[str, Any] = {}
    for key in overrides:
        parts = key.split(".")
        for owner in (".".join(parts[:n]) for n in range(1, len(parts) + 1)):
            if owner in overrides:
                ordered.setdefault(owner, overrides[owner])
    files = [word for path in configs for word in ("--config", str(path))]
    texts = {k: v if isinstance(v, str) else json.dumps(v, default=str) for k, v in ordered.items()}
    return ["fit", *files, *(f"--{key}={text}" for key, text in texts.items())]


def _merge(parts: Sequence[Overrides]) -> Overrides:
    """Options of `common`, replaced or followed by those of each axis."""
    merged: Overrides = {}
    by_axes: set[str] = set()
    for part in parts:
        own = {str(key): value for key, value in part.items() if key != "config"}
        if twice := sorted(by_axes & own.keys()):
            raise UsageError(f"Two axes set '{twice[0]}': only one of them may. Values of 'common' may be replaced.")
        by_axes |= own.keys() if part is not parts[0] else set()
        merged |= own
    return merged


def _filled(value: Any, runs: Mapping[str, str]) -> Any:
    """The value with every placeholder replaced by its run folder, at any depth."""
    if isinstance(value, str):
        return PLACE.sub(lambda match: runs[match[1]], value)
    if isinstance(value, list):
        return [_filled(item, runs) for item in value]
    return {key: _filled(item, runs) for key, item in value.items()} if isinstance(value, dict) else value


def _axes(given: Mapping[str, Any]) -> dict[str, dict[str, Overrides]]:
    """Axis -> name of each value -> its options."""
    if not given:
        raise UsageError("A study needs axes. For example: axes: {ipc: {10: {data.ipc: 10}}, set: [0, 1, 2]}")
    axes: dict[str, dict[str, Overrides]] = {}
    for axis, values in given.items():
        if axis == SET and isinstance(values, list):
            values = {number: {"data.seed": number, "model.seed": number} for number in values}
        named = _mapping(values, f"axes: {axis}").items()
        axes[_name(axis, "an axis")] = {_name(k, f"a value of {axis}"): _mapping(v, f"{axis}: {k}") for k, v in named}
    return axes


def _skip(given: Any, axes: Mapping[str, Mapping[str, Overrides]]) -> list[dict[str, list[str]]]:
    """Each entry as axis -> values."""
    if not isinstance(given, list | None):
        raise UsageError("'skip' is a list of combinations, for example: skip: [{regime: SL, ipc: 10}]")
    entries = []
    for entry in given or []:
        named = _mapping(entry, "skip").items()
        entries.append({k: [str(v) for v in (value if isinstance(value, list) else [value])] for k, value in named})
        _known(entries[-1], axes, "skip names the axis")
        for axis, values in entries[-1].items():
            _known(values, axes[axis], f"skip names, of the axis {axis}, the value")
    return entries


def _words(values: Mapping[str, str]) -> list[str]:
    return [f"{axis}{value}" if value[:1].isdigit() else value for axis, value in values.items()]


def _mapping(value: Any, where: str) -> dict[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{where} holds {value!r} where names with values are needed, such as 'data.ipc: 10'.")
    return value


def _name(value: Any, what: str) -> str:
    """A name that can be part of a folder's."""
    if isinstance(value, bool) or not NAME.fullmatch(str(value)):
        raise UsageError(f"{value!r} cannot be {what}: letters, digits and . _ + = - are allowed (quote yes, no, on).")
    return str(value)


def _known(given: Collection[Any], allowed: Collection[str], where: str) -> None:
    for key in given:
        if key not in allowed:
            raise UsageError(f"{where} '{key}'.{nearest(str(key), allowed)} Allowed: {', '.join(allowed)}.")


# --- where a cell stands ---


def state(cell: Cell) -> State:
    """Read where a cell stands from its folder."""
    try:
        if (cell.run / FILE).exists():
            result = read_result(cell)
            spent = result.seconds
            return State("done", result.acc.test, spent.setup + spent.fit + spent.evaluate)
        if (cell.run / FAILED).exists():
            return State("failed", note=first_line(read_json(cell.run / FAILED)["error"]))
    except (DataError, KeyError, TypeError) as error:
        return State("failed", note=first_line(error))
    return State("unfinished" if (cell.run / CHECKPOINT).exists() else "missing")


def read_result(cell: Cell) -> Result:
    """Read the result of a cell. Raises DataError where it is missing, damaged or that of another run."""
    result = Result.read(cell.run)
    if result.run != cell.run.name:
        raise DataError(f"{cell.run / FILE} is the result of another run, {result.run}. Move it away.")
    return result


def first_line(text: object) -> str:
    """The first line of an error, or nothing where it has no text."""
    return next(iter(str(text).strip().splitlines()), "")


def check_unchanged(cells: Sequence[Cell]) -> None:
    """Raise UsageError where a folder holds a result or checkpoint of what the study asks for otherwise now."""

    def digest(cell: Cell) -> object:
        content = read_json(cell.run / RECORD)
        return content.get("digest") if isinstance(content, dict) else None

    begun = [cell for cell in cells if any((cell.run / name).exists() for name in (FILE, CHECKPOINT))]
    if changed := [cell for cell in begun if (cell.run / RECORD).exists() and digest(cell) != cell.digest]:
        raise UsageError(
            f"The study has changed since {changed[0].run} was run ({len(changed)} such "
            f"folder{'s' * (len(changed) > 1)}). Give it another name, or move the old runs away. To see what was "
            f"asked for then: {changed[0].run / RECORD}"
        )


def note(cell: Cell, file: str, **more: str) -> None:
    """Write `cell.json`, which says which cell the folder holds, or `failed.json`; reports read both.

    The cell is named by axis, with dataset, method and so on as results name them where the study says so.
    """
    known = {}
    for key, option in NAMED.items():
        value = cell.overrides.get(option)
        if isinstance(value, dict):
            value = value.get("class_path", "")
        if value is not None:  # HardLabel stands for ddlight.regimes.hard_label.HardLabel too
            known[key] = value.rpartition(".")[2] if isinstance(value, str) else value
    if "protocol" in known and "regime" not in known:
        known["regime"] = regime_of(cell.arguments)
    axes = {axis: value for axis, value in cell.values.items() if axis not in NAMED}
    named = {"name": cell.name, **axes, **known}
    write_json(cell.run / file, {"cell": named, "arguments": list(cell.arguments), **more})

"""From runs to cells: trainings are averaged by set, sets by cell, and every cell is compared with Random.

A cell is one method in one column of one table. A table is one dataset and student; a column is one regime, protocol,
teachers, budget and size of set. Nothing that differs in one of these is averaged. A method that was run with several
settings (arguments, recipe, augmentation) in one column becomes several rows, named by what differs.
"""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from ddlight.core.naming import digest
from ddlight.report.collect import as_text
from ddlight.report.statistics import FULL, RANDOM, Sample, confidence, judge

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
Record = Mapping[str, Any]

INFLATION = "inflation"
"""Column that `_training` adds to a record: what is gained by reporting the best reading of the test split."""
SETTINGS = {"set.args": "args", "recipe": "recipe", "augment": "augment"}
OWN_COLUMNS = ("seed", "ipc")
SWITCHED_OFF = {"patches": 1, "flip": False, "jitter": 0.0, "lighting": 0.0, "dsa": "", "mix": "none"}
NETWORK = re.compile(r"\b(class|weights|teachers?)\b")
"""Settings that name a class or a trained network, and say little to a reader."""
REGIMES = ("HardLabel", "SoftLabel", "StoredLabel", "TeacherLabel", "MultiTeacherLabel")
"""From no teacher to many."""


@dataclass(frozen=True)
class Column:
    """What all cells of a column share. None or "" stands for "not said", which only a failed run may leave out."""

    regime: str = ""
    protocol: str = ""
    teachers: str = ""  # names and short weight hashes, joined by " + "; "" without teachers
    budget_unit: str = ""
    budget_asked: float | None = None  # length in that unit
    ipc: int | None = None  # images per class
    size: int | None = None  # images in the set where it has no ipc; None for FullData


def _mean(column: str) -> Any:
    """A field of `TableCell` that is the mean over sets of a column of results; None where that is known of no set."""
    return field(default=None, metadata={"column": column})


@dataclass(frozen=True)
class TableCell:
    """One method in one column, over all its condensed sets: the fields of a line of `report.csv`, in order.

    Accuracies are in percent, and means are over sets; None where nothing is known.
    """

    dataset: str = ""
    student: str = ""  # class and arguments
    column: Column = Column()
    method: str = ""  # class name
    row: str = ""  # the method, with what tells it from its other settings in the table
    maker: str = ""  # digest of the method and its arguments: cells that share it hold sets that were made alike
    augmented: bool | None = None  # whether the student saw augmented images; None where only some trainings did
    status: str = "done"  # or "failed", "damaged": one cell per file, with `error` and `path`
    mean: float | None = None  # test accuracy of the last step
    std: float | None = None  # over sets (ddof=1); None for fewer than two
    ci_low: float | None = None  # 95 % t interval of the mean
    ci_high: float | None = None
    n_sets: int = 0
    n_trainings: int = 0  # of all sets
    effect: float | None = None  # this and what follows: see `statistics.Verdict`
    hedges_g: float | None = None
    p: float | None = None
    p_holm: float | None = None
    above_random: bool = False
    best: bool = False
    equal_compute: bool | None = None
    images_seen: float | None = _mean("budget.images_seen")  # by the student, in one training
    source_images: float | None = _mean("set.source_images")  # real images behind a set
    set_images: float | None = _mean("set.images")
    test_images: float | None = _mean("acc.test_images")
    test_reads: int | None = None  # most readings of the test split in one training
    held_out: float | None = _mean("acc.held_out")  # accuracy on the held-out split
    best_on_test: float | None = _mean("acc.best_on_test")  # highest reading of the test split, where there are several
    inflation: float | None = _mean(INFLATION)  # how far it lies above the last reading of the same trainings
    test_top5: float | None = _mean("acc.test_top5")
    nll: float | None = _mean("nll")  # nats
    ece: float | None = _mean("ece")  # expected calibration error, in [0, 1]
    bytes_images: float | None = _mean("set.bytes_images")  # size of a set's images on disk
    bytes_labels: float | None = _mean("set.bytes_labels")
    seconds_condense: float | None = _mean("seconds.condense")  # time to make a set
    seconds_fit: float | None = _mean("seconds.fit")  # of one training
    flops_student: float | None = _mean("flops.student")  # of one training
    flops_teachers: float | None = _mean("flops.teachers")  # of one training
    flops_scoring: float | None = _mean("flops.scoring")  # of the scoring run behind a set
    flops_synthesis: float | None = _mean("flops.synthesis")  # of making a set
    precision: str = ""  # number formats that its students were trained in
    selected_on: str = ""  # split on which something about a set was chosen: the worst over sets
    asked: str = ""  # arguments that its sets were made with, but for those in `row` or `varies` and for networks
    varies: str = ""  # settings that have another value for every set, and were averaged over
    error: str = ""  # what went wrong
    path: str = ""  # file of a failed or damaged run, relative to the folder that was read

    @property
    def table(self) -> tuple[str, str]:
        """Dataset and student: what a table is about."""
        return self.dataset, self.student


@dataclass(frozen=True)
class Training:
    """One training, with what groups it."""

    record: Record
    table: tuple[str, str]  # dataset and student
    column: Column
    method: str
    settings: Mapping[str, str]
    row: str = ""
    split: frozenset[str] = frozenset()  # settings that make rows of the method's trainings in this table
    varying: frozenset[str] = frozenset()  # settings of these that have another value for every set


def compare(frame: pd.DataFrame) -> list[TableCell]:
    """Compute all cells of the table that `collect` returns.

    Trainings of one set (the same content or the same recipe) are averaged first, so that n counts sets. Tests are
    adjusted over each table by itself.

    Returns:
        Cells of all tables in order of dataset, student, method and column; then one per failed or damaged file.
    """
    tables = sorted(_grouped(trainings(frame), lambda run: run.table), key=lambda table: table[0])
    cells = [cell for _, runs in tables for cell in _judged(runs)]
    return cells + [_unfinished(record) for record in records(frame[frame["status"] != "done"])]


def trainings(frame: pd.DataFrame) -> list[Training]:
    """The finished trainings of the table that `collect` returns, in order, each with the row in which it stands."""
    runs = [_training(record) for record in records(frame[frame["status"] == "done"])]
    told_apart = {key: _differing(group) for key, group in _grouped(runs, lambda run: (run.table, run.method))}
    parts = [told_apart[run.table, run.method] for run in runs]
    return [
        replace(run, row=row_name(run.method, run.settings, split), split=split, varying=varying)
        for run, (split, varying) in zip(runs, parts, strict=True)
    ]


def names(frame: pd.DataFrame) -> pd.DataFrame:
    """What a report calls every finished training of the table that `collect` returns: one row each, index kept.

    Returns:
        `dataset`, `student`, the parts of `Column`, `method`, `row`, and `condensed`: number of its condensed set,
        which trainings of one set share.
    """
    runs = trainings(frame)
    condensed = {id(run): number for number, members in enumerate(_sets(runs)) for run in members}
    content = [[*run.table, *vars(run.column).values(), run.method, run.row, condensed[id(run)]] for run in runs]
    columns = ["dataset", "student", *(part.name for part in fields(Column)), "method", "row", "condensed"]
    return pd.DataFrame(content, frame.index[frame["status"] == "done"], columns)


def csv(cells: Sequence[TableCell]) -> str:
    """One row per cell with every number, failed and damaged files included. Empty fields stand for "not known"."""
    return long_form(cells).to_csv(index=False, lineterminator="\n")


def long_form(cells: Sequence[TableCell]) -> pd.DataFrame:
    """One row per cell with every number, the column's parts spread out; the content of `report.csv`."""
    parts = [part.name for part in fields(Column)]
    columns = [name for part in fields(TableCell) for name in (parts if part.name == "column" else [part.name])]
    frame = pd.DataFrame([{**vars(cell), **vars(cell.column)} for cell in cells], columns=columns)
    return frame.astype({"ipc": "Int64", "size": "Int64", "test_reads": "Int64"})


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of the table that `collect` returns, by column; None where nothing is known."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _training(record: Record) -> Training:
    method = record["set.method"]
    ipc = None if method == FULL else record["set.ipc"]  # all images, whatever was asked for
    column = Column(
        regime=record["regime"],
        protocol=record["protocol"],
        teachers=" + ".join(f"{t['name']}:{t['fingerprint'][:6]}" for t in json.loads(record["teachers"])),
        budget_unit=record["budget.unit"],
        budget_asked=record["budget.asked"],
        ipc=None if ipc is None else int(ipc),
        size=None if ipc is not None or method == FULL else int(record["set.images"]),
    )
    student = student_label(record["student.class"], json.loads(record["student.args"]))
    settings = dict(leaves({short: json.loads(record[name]) for name, short in SETTINGS.items()}))
    best, last = record["acc.best_on_test"], record["acc.test"]
    record = {**record, INFLATION: None if best is None else best - last}
    return Training(record, (record["set.dataset"], student), column, method, settings)


def student_label(name: str, args: Mapping[str, object]) -> str:
    """Label of a student, such as "ConvNet(depth=3, width=32)"."""
    return f"{name}({', '.join(f'{key}={as_text(args[key])}' for key in sorted(args))})" if args else name


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Dotted name and text of every setting, without those that are columns of their own."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        elif key not in OWN_COLUMNS:
            yield f"{prefix}{key}", as_text(value)


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> list[tuple[K, list[T]]]:
    groups: dict[K, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return list(groups.items())


def _judged(runs: list[Training]) -> list[TableCell]:
    recipe = sorted({key for run in runs if run.method == RANDOM for key in run.split if not key.startswith("args.")})
    cells, samples = [], []
    for _, group in _grouped(runs, lambda run: (run.column, run.row)):
        cell, accuracies = _cell(group)
        context = tuple(group[0].settings.get(key) for key in recipe)
        step = 100 / min(run.record["acc.test_images"] for run in group)
        cells.append(cell)
        samples.append(Sample(cell.column, cell.method, accuracies, step, cell.images_seen or 0.0, context))
    judged = [replace(cell, **vars(verdict)) for cell, verdict in zip(cells, judge(samples), strict=True)]
    return sorted(judged, key=lambda cell: (*row_order(cell), *column_order(cell.column)))


def regime_order(regime: str) -> tuple[int, float, str]:
    """Key that sorts regimes: no teacher, stored labels by their number, one teacher, several, then others by name."""
    name, _, options = regime.partition("(")
    labels = re.search(r"M=(\d+)", options)
    return REGIMES.index(name) if name in REGIMES else len(REGIMES), int(labels[1]) if labels else math.inf, regime


def column_order(column: Column) -> tuple[object, ...]:
    """Key that sorts columns: regimes from no teacher to many, then protocol, teachers, budget; small sets first."""
    small = (column.ipc is None, column.ipc or 0, column.size is None, column.size or 0)
    budget = (column.budget_unit, column.budget_asked or 0.0)
    return (*regime_order(column.regime), column.protocol, column.teachers, *small, *budget)


def row_order(cell: TableCell) -> tuple[int, str]:
    """Key that sorts rows: the full data, random, then by name."""
    return {FULL: 0, RANDOM: 1}.get(cell.method, 2), cell.row


def _differing(runs: list[Training]) -> tuple[frozenset[str], frozenset[str]]:
    """Settings in which the runs of one method differ within a column: those that split it, those that do not.

    A setting that has another value for every set seed belongs to the set (the file of its scoring run, a learned
    learning rate) and is averaged over; the report names it. Any other makes a row of its own.
    """
    split: set[str] = set()
    varying: set[str] = set()
    for _, group in _grouped(runs, lambda run: run.column):
        for key in {key for run in group for key in run.settings}:
            by_seed: dict[int, set[str | None]] = defaultdict(set)
            for run in group:
                by_seed[int(run.record["set.seed"])].add(run.settings.get(key))
            values = set().union(*by_seed.values())
            one_each = all(len(v) == 1 for v in by_seed.values()) and len(values) == len(by_seed)
            if len(values) > 1:
                (varying if one_each else split).add(key)
    return _needed(runs, split), frozenset(varying)


def _needed(runs: list[Training], split: set[str]) -> frozenset[str]:
    """Settings that tell rows apart, without parts of a method's argument that the others decide already.

    A search that only some runs have, say, follows from the list of values that they try.
    """

    def kinds(keys: set[str]) -> int:
        return len({tuple(run.settings.get(key) for key in sorted(keys)) for run in runs})

    parts = {key for key in split if key.startswith("args.") and key.count(".") > 1}
    kept = split - parts
    for key in sorted(parts):
        if kinds(kept | {key}) > kinds(kept):
            kept.add(key)
    return frozenset(kept)


def row_name(method: str, settings: Mapping[str, str], split: Iterable[str]) -> str:
    """The method, with the settings `split` that tell it from its other rows, such as "AUM (keep=easy)"."""
    last = Counter(key.rsplit(".", 1)[-1] for key in split)
    names = {key: short if last[short := key.rsplit(".", 1)[-1]] == 1 else key for key in sorted(split)}
    shown = [f"{name}={settings[key]}" for key, name in names.items() if key in settings]
    return f"{method} ({', '.join(shown)})" if shown else method


def _sets(runs: Iterable[Training]) -> list[list[Training]]:
    """Trainings by condensed set: runs that share the content or the recipe of their set trained on one set.

    Two seeds of a method that draws nothing give one content; one recipe may give other bytes on other hardware.
    Neither is a replication.
    """
    groups: list[tuple[set[str], list[Training]]] = []
    for run in runs:
        names = {run.record["set.fingerprint"], run.record["set.content_sha256"]}
        same = [group for group in groups if group[0] & names]
        groups = [group for group in groups if not group[0] & names]
        members = [member for group in same for member in group[1]]
        groups.append((names.union(*(group[0] for group in same)), [*members, run]))
    return [members for _, members in groups]


def _set_means(sets: Sequence[Sequence[Training]], name: str) -> list[float]:
    """One number per set: the mean over its trainings of those that have it."""
    known = [[run.record[name] for run in one if run.record[name] is not None] for one in sets]
    return [float(np.mean(values)) for values in known if values]


def _cell(runs: list[Training]) -> tuple[TableCell, list[float]]:
    """One cell before it is compared, and the accuracy of each of its sets."""
    run, sets = runs[0], _sets(runs)
    arguments = {k: text for k, text in run.settings.items() if k.startswith("args.") and k not in run.varying}
    accuracies = _set_means(sets, "acc.test")
    low, high = confidence(accuracies) or (None, None)
    columns = {part.name: part.metadata["column"] for part in fields(TableCell) if part.metadata}
    numbers = {name: _set_means(sets, column) for name, column in columns.items()}
    means: dict[str, Any] = {name: float(np.mean(values)) for name, values in numbers.items() if values}
    said = {key.removeprefix("args."): text for key, text in arguments.items() if key not in run.split}
    chosen = {run.record["set.selected_on"] for run in runs}
    augmented = {_augmented(json.loads(run.record["augment"])) for run in runs}
    cell = TableCell(
        *run.table,
        column=run.column,
        method=run.method,
        row=run.row,
        maker=digest([run.method, arguments]),
        augmented=augmented.pop() if len(augmented) == 1 else None,
        mean=float(np.mean(accuracies)),
        std=float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
        ci_low=low,
        ci_high=high,
        n_sets=len(sets),
        n_trainings=len(runs),
        test_reads=max(int(run.record["acc.test_reads"]) for run in runs),
        precision=", ".join(sorted({run.record["machine.precision"] for run in runs})),
        selected_on=next(split for split in ("test", "held_out", "none") if split in chosen),
        asked=", ".join(
            f"{key}={text}" for key, text in sorted(said.items()) if text != "null" and not NETWORK.search(key)
        ),
        varies=", ".join(sorted(key for key in run.varying if len({run.settings.get(key) for run in runs}) > 1)),
        **means,
    )
    return cell, accuracies


def _augmented(augment: Mapping[str, Any]) -> bool:
    """Whether any augmentation is on. A crop of the whole image is none."""
    crop = augment.get("crop_scale")
    whole = crop is None or (crop == [1, 1] and augment.get("crop_ratio") == [1, 1])
    return not whole or any(augment.get(name, off) != off for name, off in SWITCHED_OFF.items())


def _unfinished(record: Record) -> TableCell:
    """The cell of a file that holds no result; what it does not say stays open."""
    names = ("set.dataset", "set.method", "regime", "protocol", "budget.unit", "student.class", "cell")
    dataset, method, regime, protocol, unit, student, cell = (record.get(name) or "" for name in names)
    ipc = record.get("set.ipc")
    return TableCell(
        dataset=dataset,
        student=student_label(student, json.loads(record.get("student.args") or "{}")),
        column=Column(regime, protocol, "", unit, record.get("budget.asked"), None if ipc is None else int(ipc)),
        method=method,
        row=method or cell,
        status=record["status"],
        error=record["error"].removeprefix(f"{record['path']}: "),
        path=record["file"],
    )

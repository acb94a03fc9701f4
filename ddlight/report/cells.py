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
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from ddlight.core.naming import digest
from ddlight.report.statistics import FULL, RANDOM, Sample, confidence, judge

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
Record = Mapping[str, Any]

INFLATION = "inflation"
"""Column that `_run` adds to a record: what is gained by reporting the best reading of the test split."""
MEANS = {
    "images_seen": "budget.images_seen",
    "source_images": "set.source_images",
    "set_images": "set.images",
    "test_images": "acc.test_images",
    "held_out": "acc.held_out",
    "best_on_test": "acc.best_on_test",
    "inflation": INFLATION,
    "test_top5": "acc.test_top5",
    "nll": "nll",
    "ece": "ece",
    "bytes_images": "set.bytes_images",
    "bytes_labels": "set.bytes_labels",
    "seconds_condense": "seconds.condense",
    "seconds_fit": "seconds.fit",
    "flops_student": "flops.student",
    "flops_teachers": "flops.teachers",
    "flops_scoring": "flops.scoring",
    "flops_synthesis": "flops.synthesis",
}
SETTINGS = {"set.args": "args", "recipe": "recipe", "augment": "augment"}
OWN_COLUMNS = ("seed", "ipc")
SWITCHED_OFF = {"patches": 1, "flip": False, "jitter": 0.0, "lighting": 0.0, "dsa": "", "mix": "none"}
NETWORK = re.compile(r"\b(class|weights|teachers?)\b")
"""Settings that name a class or a trained network, and say little to a reader."""
_NONE: tuple[set[str], set[str]] = (set(), set())


@dataclass(frozen=True)
class Column:
    """What all cells of a column share. None or "" stands for "not said", which only a failed run may leave out.

    Attributes:
        regime: label regime.
        protocol: published recipe.
        teachers: names and short weight hashes, joined by " + "; "" without teachers.
        budget_unit: unit of the budget.
        budget_asked: its length.
        ipc: images per class.
        size: images in the set where it has no ipc; None for FullData.
    """

    regime: str = ""
    protocol: str = ""
    teachers: str = ""
    budget_unit: str = ""
    budget_asked: float | None = None
    ipc: int | None = None
    size: int | None = None


@dataclass(frozen=True)
class Cell:
    """One method in one column, over all its condensed sets. Accuracies in percent; means are over sets.

    Attributes:
        dataset: name of the dataset.
        student: class and arguments of the student.
        column: regime, protocol, budget and size.
        method: class name of the method.
        row: the method, with what tells it from its other settings in the table.
        maker: digest of the method and its arguments: cells that share it hold sets that were made alike.
        augmented: whether the student saw augmented images; None where some trainings did and some did not.
        status: "done"; "failed" or "damaged" (one cell a file) with `error` and `path`.
        mean: test accuracy of the last step.
        std: over sets (ddof=1); None for fewer than two.
        ci_low: lower end of the 95 % t interval of the mean.
        ci_high: its upper end.
        n_sets: condensed sets.
        n_trainings: trainings of all of them.
        effect: mean minus Random's, percentage points.
        hedges_g: the same in pooled standard deviations.
        p: two-sided p of Welch's t-test against Random.
        p_holm: the same after Holm over the table.
        above_random: significantly above Random.
        best: best of its column or tied with it.
        equal_compute: images seen agree with Random's within 1 %.
        images_seen: by the student, in one training.
        source_images: real images behind a set.
        set_images: images in a set.
        test_images: images in the test split.
        test_reads: most readings of the test split in one training.
        held_out: accuracy on the held-out split.
        best_on_test: highest reading of the test split, over trainings that read it more than once.
        inflation: how far it lies above the last reading of the same trainings, percentage points.
        test_top5: top-5 accuracy.
        nll: negative log-likelihood, nats.
        ece: expected calibration error.
        bytes_images: size of a set's images on disk.
        bytes_labels: size of a set's labels on disk.
        seconds_condense: time to make a set.
        seconds_fit: time of one training.
        flops_student: of one training.
        flops_teachers: of one training.
        flops_scoring: of the scoring run behind a set.
        flops_synthesis: of making a set.
        selected_on: split on which something about a set was chosen: the worst over sets.
        asked: arguments that its sets were given, but for those in `row` or `varies` and for networks.
        varies: settings that have another value for every set, and were averaged over.
        error: what went wrong.
        path: file of a failed or damaged run, relative to the folder that was given.
    """

    dataset: str = ""
    student: str = ""
    column: Column = Column()
    method: str = ""
    row: str = ""
    maker: str = ""
    augmented: bool | None = None
    status: str = "done"
    mean: float | None = None
    std: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n_sets: int = 0
    n_trainings: int = 0
    effect: float | None = None
    hedges_g: float | None = None
    p: float | None = None
    p_holm: float | None = None
    above_random: bool = False
    best: bool = False
    equal_compute: bool | None = None
    images_seen: float | None = None
    source_images: float | None = None
    set_images: float | None = None
    test_images: float | None = None
    test_reads: int | None = None
    held_out: float | None = None
    best_on_test: float | None = None
    inflation: float | None = None
    test_top5: float | None = None
    nll: float | None = None
    ece: float | None = None
    bytes_images: float | None = None
    bytes_labels: float | None = None
    seconds_condense: float | None = None
    seconds_fit: float | None = None
    flops_student: float | None = None
    flops_teachers: float | None = None
    flops_scoring: float | None = None
    flops_synthesis: float | None = None
    selected_on: str = ""
    asked: str = ""
    varies: str = ""
    error: str = ""
    path: str = ""

    @property
    def table(self) -> tuple[str, str]:
        """Dataset and student: what a table is about."""
        return self.dataset, self.student


@dataclass(frozen=True)
class _Run:
    """One training, with what groups it."""

    table: tuple[str, str]
    column: Column
    method: str
    seed: int
    settings: Mapping[str, str]
    augmented: bool
    record: Record


def compare(frame: pd.DataFrame) -> list[Cell]:
    """Compute all cells of the table that `collect` returns.

    Trainings of one set (the same content or the same recipe) are averaged first, so that n counts sets. Tests are
    adjusted over each table by itself.

    Returns:
        Cells of all tables in order of dataset, student, method and column; then one a failed or damaged file.
    """
    found = records(frame)
    runs = [_run(r) for r in found if r["status"] == "done"]
    tables = sorted(_grouped(runs, lambda run: run.table), key=lambda table: table[0])
    cells = [cell for _, table in tables for cell in _table(table)]
    return cells + [_unfinished(r) for r in found if r["status"] != "done"]


def names(frame: pd.DataFrame) -> pd.DataFrame:
    """What a report calls every finished training of the table that `collect` returns: one row each, index kept.

    Returns:
        `dataset`, `student`, the parts of `Column`, `method`, `row`, and `condensed`: number of its condensed set,
        which trainings of one set share.
    """
    done = frame[frame["status"] == "done"]
    runs = [_run(r) for r in records(done)]
    split = {key: _differing(own)[0] for key, own in _grouped(runs, lambda run: (run.table, run.method))}
    condensed = {id(run): number for number, members in enumerate(_sets(runs)) for run in members}
    called = [row_name(run.method, run.settings, split[run.table, run.method]) for run in runs]
    content = [
        [*run.table, *vars(run.column).values(), run.method, row, condensed[id(run)]]
        for run, row in zip(runs, called, strict=True)
    ]
    parts = [part.name for part in fields(Column)]
    return pd.DataFrame(content, done.index, ["dataset", "student", *parts, "method", "row", "condensed"])


def long_form(cells: Sequence[Cell]) -> pd.DataFrame:
    """One row a cell with every number, the column's parts spread out; the content of `report.csv`."""
    names = [f.name for f in fields(Cell)]
    parts = [f.name for f in fields(Column)]
    columns = [part for name in names for part in (parts if name == "column" else [name])]
    rows = [{**vars(cell), **vars(cell.column)} for cell in cells]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"ipc": "Int64", "size": "Int64", "test_reads": "Int64"})


def csv(cells: Sequence[Cell]) -> str:
    """One row a cell with every number, failed and damaged files included. Empty fields stand for "not known"."""
    return long_form(cells).to_csv(index=False, lineterminator="\n")


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of the table that `collect` returns, by column; None where nothing is known."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _run(record: Record) -> _Run:
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
    return _Run(
        (record["set.dataset"], student),
        column,
        method,
        int(record["set.seed"]),
        settings,
        _augmented(json.loads(record["augment"])),
        {**record, INFLATION: None if best is None else best - last},
    )


def _augmented(augment: Mapping[str, Any]) -> bool:
    """Whether any augmentation is on. A crop of the whole image is none."""
    crop = augment.get("crop_scale")
    whole = crop is None or (crop == [1, 1] and augment.get("crop_ratio") == [1, 1])
    return not whole or any(augment.get(name, off) != off for name, off in SWITCHED_OFF.items())


def student_label(name: str, args: Mapping[str, object]) -> str:
    """Label of a student, such as "ConvNet(depth=3, width=32)"."""
    return f"{name}({', '.join(f'{key}={_shown(args[key])}' for key in sorted(args))})" if args else name


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Dotted name and text of every setting, without those that are columns of their own."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        elif key not in OWN_COLUMNS:
            yield f"{prefix}{key}", _shown(value)


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> list[tuple[K, list[T]]]:
    """Items by key, in order of first appearance."""
    groups: dict[K, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return list(groups.items())


def _table(runs: list[_Run]) -> list[Cell]:
    """The cells of one table, judged."""
    told_apart = {method: _differing(own) for method, own in _grouped(runs, lambda run: run.method)}
    recipe = sorted(key for key in told_apart.get(RANDOM, _NONE)[0] if not key.startswith("args."))
    cells, samples = [], []
    named = {id(run): row_name(run.method, run.settings, told_apart[run.method][0]) for run in runs}
    for (column, row), group in _grouped(runs, lambda run: (run.column, named[id(run)])):
        cell, values = _cell(group, column, row, *told_apart[group[0].method])
        context = tuple(group[0].settings.get(key) for key in recipe)
        step = 100 / min(run.record["acc.test_images"] for run in group)
        cells.append(cell)
        samples.append(Sample(column, cell.method, values, step, cell.images_seen or 0.0, context))
    judged = [replace(cell, **vars(verdict)) for cell, verdict in zip(cells, judge(samples), strict=True)]
    return sorted(judged, key=_order)


def regime_order(regime: str) -> tuple[int, float, str]:
    """Key that sorts regimes: no teacher, stored labels by their number, one teacher, several, then others by name."""
    known = ("HardLabel", "SoftLabel", "StoredLabel", "TeacherLabel", "MultiTeacherLabel")
    name, _, options = regime.partition("(")
    labels = re.search(r"M=(\d+)", options)
    return known.index(name) if name in known else len(known), int(labels[1]) if labels else math.inf, regime


def column_order(column: Column) -> tuple[object, ...]:
    """Key that sorts columns: regimes from no teacher to many, then protocol, teachers, budget; small sets first."""
    small = (column.ipc is None, column.ipc or 0, column.size is None, column.size or 0)
    budget = (column.budget_unit, column.budget_asked or 0.0)
    return (*regime_order(column.regime), column.protocol, column.teachers, *small, *budget)


def row_order(cell: Cell) -> tuple[int, str]:
    """Key that sorts rows: the full data, random, then by name."""
    return {FULL: 0, RANDOM: 1}.get(cell.method, 2), cell.row


def _order(cell: Cell) -> tuple[object, ...]:
    return (*row_order(cell), *column_order(cell.column))


def _differing(runs: list[_Run]) -> tuple[set[str], set[str]]:
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
                by_seed[run.seed].add(run.settings.get(key))
            values = set().union(*by_seed.values())
            one_each = all(len(v) == 1 for v in by_seed.values()) and len(values) == len(by_seed)
            if len(values) > 1:
                (varying if one_each else split).add(key)
    return _needed(runs, split), varying


def _needed(runs: list[_Run], split: set[str]) -> set[str]:
    """Settings that tell rows apart, without parts of a method's argument that the others decide already.

    A search that only some runs have, say, follows from the list of values that they try.
    """
    parts = {key for key in split if key.startswith("args.") and key.count(".") > 1}
    kept = split - parts
    for key in sorted(parts):
        if _count(runs, kept | {key}) > _count(runs, kept):
            kept.add(key)
    return kept


def _count(runs: list[_Run], keys: set[str]) -> int:
    """How many kinds of runs some settings tell apart."""
    return len({tuple(run.settings.get(key) for key in sorted(keys)) for run in runs})


def row_name(method: str, settings: Mapping[str, str], split: Iterable[str]) -> str:
    """The method, with the settings `split` that tell it from its other rows, such as "AUM (keep=easy)"."""
    last = Counter(key.rsplit(".", 1)[-1] for key in split)
    names = {key: short if last[short := key.rsplit(".", 1)[-1]] == 1 else key for key in sorted(split)}
    shown = [f"{name}={settings[key]}" for key, name in names.items() if key in settings]
    return f"{method} ({', '.join(shown)})" if shown else method


def _sets(runs: Iterable[_Run]) -> list[list[_Run]]:
    """Trainings by condensed set: runs that share the content or the recipe of their set trained on one set.

    Two seeds of a method that draws nothing give one content; one recipe may give other bytes on other hardware.
    Neither is a replication.
    """
    groups: list[tuple[set[str], list[_Run]]] = []
    for run in runs:
        names = {run.record["set.fingerprint"], run.record["set.content_sha256"]}
        same = [group for group in groups if group[0] & names]
        groups = [group for group in groups if not group[0] & names]
        members = [member for group in same for member in group[1]]
        groups.append((names.union(*(group[0] for group in same)), [*members, run]))
    return [members for _, members in groups]


def _set_means(sets: Sequence[Sequence[_Run]], name: str) -> list[float]:
    """One number a set: the mean over its trainings of those that have it."""
    known = [[run.record[name] for run in one if run.record[name] is not None] for one in sets]
    return [float(np.mean(values)) for values in known if values]


def _cell(runs: list[_Run], column: Column, row: str, split: set[str], varying: set[str]) -> tuple[Cell, list[float]]:
    """One cell before it is compared, and the accuracy of each of its sets."""
    arguments = {key: text for key, text in runs[0].settings.items() if key.startswith("args.") and key not in varying}
    sets = _sets(runs)
    values = _set_means(sets, "acc.test")
    low, high = confidence(values) or (None, None)
    found = {field: _set_means(sets, name) for field, name in MEANS.items()}
    means: dict[str, Any] = {field: float(np.mean(numbers)) for field, numbers in found.items() if numbers}
    chosen = {run.record["set.selected_on"] for run in runs}
    augmented = {run.augmented for run in runs}
    cell = Cell(
        *runs[0].table,
        column=column,
        method=runs[0].method,
        row=row,
        maker=digest([runs[0].method, arguments]),
        augmented=augmented.pop() if len(augmented) == 1 else None,
        mean=float(np.mean(values)),
        std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        ci_low=low,
        ci_high=high,
        n_sets=len(sets),
        n_trainings=len(runs),
        test_reads=max(int(run.record["acc.test_reads"]) for run in runs),
        selected_on=next(split for split in ("test", "held_out", "none") if split in chosen),
        asked=_asked({key: text for key, text in arguments.items() if key not in split}),
        varies=", ".join(sorted(key for key in varying if len({run.settings.get(key) for run in runs}) > 1)),
        **means,
    )
    return cell, values


def _asked(arguments: Mapping[str, str]) -> str:
    """Arguments that were given, one after another, without classes, weights and what is null."""
    texts = {key.removeprefix("args."): text for key, text in arguments.items() if text != "null"}
    return ", ".join(f"{key}={text}" for key, text in sorted(texts.items()) if not NETWORK.search(key))


def _unfinished(record: Record) -> Cell:
    """The cell of a file that holds no result; what it does not say stays open."""

    def said(name: str) -> Any:
        return record.get(name)

    column = Column(
        regime=said("regime") or "",
        protocol=said("protocol") or "",
        budget_unit=said("budget.unit") or "",
        budget_asked=said("budget.asked"),
        ipc=None if said("set.ipc") is None else int(said("set.ipc")),
    )
    return Cell(
        dataset=said("set.dataset") or "",
        student=student_label(said("student.class") or "", json.loads(said("student.args") or "{}")),
        column=column,
        method=said("set.method") or "",
        row=said("set.method") or said("cell") or "",
        status=record["status"],
        error=record["error"].removeprefix(f"{record['path']}: "),
        path=record["file"],
    )

"""Which runs a report is made of, what each was asked to do, and where and with what it ran."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from ddlight.core.result import Machine, Versions
from ddlight.report.blocks import MISSING, Entry, Grid, Head, words
from ddlight.report.cells import Record, records

ASKED = {
    "dataset": "set.dataset",
    "method": "set.method",
    "arguments": "set.args",
    "regime": "regime",
    "teachers": "teachers",
    "protocol": "protocol",
    "recipe": "recipe",
    "augmentation": "augment",
    "student": "student.class",
    "student's arguments": "student.args",
    "budget": "budget.asked",
    "unit of the budget": "budget.unit",
}
OBJECTS = ("set.args", "teachers", "recipe", "augment", "student.args")
SHOWN = {
    "config": "config",
    "dataset": "set.dataset",
    "method": "set.method",
    "ipc": "set.ipc",
    "set seed": "set.seed",
    "regime": "regime",
    "protocol": "protocol",
    "student": "student.class",
    "seed": "seed",
    "finished": "finished",
}
NUMBERS = ("set.ipc", "set.seed", "seed")


@dataclass(frozen=True)
class Asked:
    """Everything that some runs were asked to do, seeds aside.

    Attributes:
        name: id on a page, such as "asked-3".
        title: the same in a line.
        text: as indented JSON.
    """

    name: str
    title: str
    text: str


@dataclass(frozen=True)
class Runs:
    """All runs that are done.

    Attributes:
        listed: one row a run, whose last entry leads to what was asked of it.
        asked: what was asked, each once.
        environment: one row a machine and set of versions, with the number of runs.
    """

    listed: Grid
    asked: Sequence[Asked]
    environment: Grid


def runs(frame: pd.DataFrame) -> Runs | None:
    """List the done runs of the table that `collect` returns; None where no run is done."""
    done = frame[frame["status"] == "done"]
    if done.empty:
        return None
    found = records(done)
    asked: dict[tuple[object, ...], Asked] = {}
    rows = []
    for record in found:
        key = tuple(record[name] for name in ASKED.values())
        if key not in asked:
            asked[key] = _asked(record, len(asked) + 1)
        rows.append(_row(record, asked[key]))
    heads = [Head("run", number=False), *(Head(name, number=key in NUMBERS) for name, key in SHOWN.items())]
    heads += [Head("test accuracy"), Head("asked", number=False)]
    caption = "One training of one student on one condensed set each. Accuracy in percent, of the last step."
    return Runs(Grid(f"Runs: {len(rows)}", caption, heads, rows), list(asked.values()), _environment(found))


def _asked(record: Record, number: int) -> Asked:
    parts = {name: json.loads(record[key]) if key in OBJECTS else record[key] for name, key in ASKED.items()}
    length = f"{record['budget.asked']:,.10g} {record['budget.unit'].replace('_', ' ')}"
    kinds = [record[name] for name in ("set.method", "regime", "protocol")]
    title = f"{number}: {', '.join([*kinds, length])}"
    return Asked(f"asked-{number}", title, json.dumps(parts, indent=1, ensure_ascii=False))


def _row(record: Record, asked: Asked) -> list[Entry]:
    folder = PurePosixPath(record["file"]).parent.as_posix()
    acc = record["acc.test"]
    return [
        Entry(record["run"] if folder == "." else folder),
        *(_entry(record[key], key in NUMBERS) for key in SHOWN.values()),
        Entry(f"{acc:.2f}", acc),
        Entry(asked.name.replace("-", " "), target=asked.name),
    ]


def _entry(value: Any, number: bool) -> Entry:
    if value is None:
        return Entry(MISSING, weak=True)
    return Entry(str(int(value)), value) if number else Entry(str(value))


def _environment(records: Iterable[Record]) -> Grid:
    """Machines and versions, each set of them once."""
    names = [f"machine.{part.name}" for part in fields(Machine)]
    names += [f"versions.{part.name}" for part in fields(Versions)]
    counts = Counter(tuple(str(record[name]) for name in names) for record in records)
    rows = [[*words(*key), Entry(str(count), count)] for key, count in sorted(counts.items())]
    heads = [*(Head(name.split(".")[1], number=False) for name in names), Head("runs")]
    return Grid("Environment", "Where the runs were trained, and with which versions.", heads, rows)

"""What a number cost: time to make the set, bytes of images and labels, operations of every part."""

from collections.abc import Callable

from ddlight.report.blocks import UNKNOWN, Entry, Grid, Head, Note, words
from ddlight.report.cells import Cell
from ddlight.report.tables import Table

SECONDS = ((1.0, "s"), (60.0, "min"), (3600.0, "h"), (86400.0, "d"))
PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
BYTES = {"images": "bytes_images", "labels": "bytes_labels"}
OPERATIONS = {
    "student": "flops_student",
    "teachers": "flops_teachers",
    "scoring": "flops_scoring",
    "synthesis": "flops_synthesis",
}


def grid(table: Table) -> Grid | None:
    """What every cell that is done cost; None where none is."""
    heads = [
        Head("method", number=False),
        Head("column", number=False),
        Head("condense"),
        *(Head(name, "bytes of") for name in BYTES),
        *(Head(name, "FLOPs of") for name in OPERATIONS),
    ]
    notes = [
        "condense: wall-clock time to make the set on the machine that made it, its scoring run included.",
        "student and teachers: operations of one training. scoring and synthesis: of making one set. The training of "
        "ready-made teachers is not in them.",
        f"{UNKNOWN} not known: others made the set and did not say.",
    ]
    rows = [_row(table, cell) for cell in table.cells]
    caption = "Means over sets. Sizes are those on disk; an index of real images is small."
    return Grid("Cost", caption, heads, rows, notes=[Note(text) for text in notes]) if rows else None


def _row(table: Table, cell: Cell) -> list[Entry]:
    return [
        *words(cell.row, table.head(cell.column).title),
        _entry(cell.seconds_condense, duration),
        *(_entry(getattr(cell, name), lambda value: si(value, "B")) for name in BYTES.values()),
        *(_entry(getattr(cell, name), si) for name in OPERATIONS.values()),
    ]


def _entry(value: float | None, shown: Callable[[float], str]) -> Entry:
    return Entry(UNKNOWN, weak=True) if value is None else Entry(shown(value), value)


def duration(seconds: float) -> str:
    """Time in a unit that suits it, with three digits: "0.12 s", "12.3 min", "5.20 h", "3.10 d"."""
    scale, unit = next(((scale, unit) for scale, unit in reversed(SECONDS) if seconds >= 2 * scale), SECONDS[0])
    return f"{_three_digits(seconds / scale)} {unit}"


def si(value: float, unit: str = "") -> str:
    """Amount with an SI prefix and three digits: "587 G", "2.10 kB"; below 1,000 without fractions."""
    power = 0
    while value >= 999.5 and power < len(PREFIXES) - 1:
        value, power = value / 1000, power + 1
    number = f"{value:.0f}" if power == 0 else _three_digits(value)
    return f"{number} {PREFIXES[power]}{unit}".strip()


def _three_digits(value: float) -> str:
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"

"""What a number cost (time to make the set, bytes, operations of every part) and what choosing on test would gain."""

from collections.abc import Callable

from ddlight.report.cells import TableCell
from ddlight.report.printed import (
    METHOD_AND_COLUMN,
    UNKNOWN,
    Head,
    Note,
    PrintedCell,
    PrintedTable,
    signed,
    words,
)
from ddlight.report.tables import Table

SECONDS = ((1.0, "s"), (60.0, "min"), (3600.0, "h"), (86400.0, "d"))
PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
BYTES = ("images", "labels")
OPERATIONS = ("student", "teachers", "scoring", "synthesis")


def printed(table: Table) -> PrintedTable:
    """What every cell that is done cost."""
    heads = [
        *METHOD_AND_COLUMN,
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
    caption = "Means over sets. Sizes are those on disk; an index of real images is small."
    return PrintedTable("Cost", caption, heads, [_row(table, c) for c in table.cells], notes=[*map(Note, notes)])


def _row(table: Table, cell: TableCell) -> list[PrintedCell]:
    return [
        *words(cell.row, table.head(cell.column).title),
        _amount(cell.seconds_condense, duration),
        *(_amount(getattr(cell, f"bytes_{name}"), lambda value: si(value, "B")) for name in BYTES),
        *(_amount(getattr(cell, f"flops_{name}"), si) for name in OPERATIONS),
    ]


def _amount(value: float | None, text: Callable[[float], str]) -> PrintedCell:
    return PrintedCell(UNKNOWN, weak=True) if value is None else PrintedCell(text(value), value)


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


def best_on_test(table: Table) -> PrintedTable:
    """Last step and best reading of the test split of every cell whose trainings read it more than once.

    Both are of the same trainings, averaged by set: those of a cell that read the test split once are in neither.
    """
    rows = [
        [
            *words(cell.row, table.head(cell.column).title),
            PrintedCell(str(cell.test_reads), cell.test_reads),
            PrintedCell(f"{cell.best_on_test - cell.inflation:.1f}", cell.best_on_test - cell.inflation),
            PrintedCell(f"{cell.best_on_test:.1f}", cell.best_on_test),
            PrintedCell(signed(cell.inflation, 1), cell.inflation),
        ]
        for cell in table.cells
        if cell.best_on_test is not None and cell.inflation is not None
    ]
    heads = [*METHOD_AND_COLUMN, *map(Head, ("readings", "last", "best on test", "inflation"))]
    caption = "Test accuracy in percent: of the last step, and the best of all readings of the test split."
    notes = [Note("The best reading is chosen on test. The inflation is what tables that report it gain by that.")]
    return PrintedTable("Last step against best on test", caption, heads, rows, notes=notes)

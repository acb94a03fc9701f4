"""The main table: test accuracy of every method in every column, with what may be concluded from it."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from ddlight.report.blocks import MISSING, UNKNOWN, Entry, Grid, Head, Note
from ddlight.report.cells import Cell, Column
from ddlight.report.statistics import ALPHA, FEW_SETS, FULL, RANDOM
from ddlight.report.tables import Table, accuracy, agrees, budget, size

FAILED = "failed"
WIDE = 8
"""Columns beyond which a table with fewer rows than columns is turned, to be readable on a page."""


def grid(table: Table) -> Grid:
    """The main table of one dataset and student.

    A cell reads `mean ± std (n)` with one decimal, n counting condensed sets; `—` is a standard deviation that fewer
    than three sets do not give, `–` a cell that was not run, `failed` one whose every run ended with an error. Of few
    methods in many settings each setting is a row.
    """
    chosen = {cell.row for cell in table.cells if cell.selected_on == "test"}
    rows = [
        [
            Entry(row, marks="§" if row in chosen else ""),
            *(_entry(table, table.grid.get((row, column)), column) for column in table.columns),
        ]
        for row in table.rows
    ]
    caption = (
        "Test accuracy in percent after the last step, mean ± std (n). n counts condensed sets: trainings of one set "
        "are averaged first."
    )
    heads = [Head("method", number=False), *(table.head(column) for column in table.columns)]
    turned = len(table.columns) > max(WIDE, len(rows))
    found = Grid("", caption, heads, rows, _lengths(table), _notes(table, "row" if turned else "column"))
    return found.turned("setting") if turned else found


def _entry(table: Table, cell: Cell | None, column: Column) -> Entry:
    if cell is None:
        return Entry(MISSING, weak=True)
    if cell.status == "failed":
        return Entry(FAILED)
    marks = ("†" if cell.above_random else "") + ("‡" if table.unequal(cell, column) else "")
    return Entry(accuracy(cell), cell.mean, marks, strong=cell.best, weak=cell.n_sets < FEW_SETS)


def _lengths(table: Table) -> list[str]:
    """What the columns stand for: protocol, teachers, budget and student images seen."""
    groups: dict[Column, list[Column]] = defaultdict(list)
    for column in table.columns:
        groups[replace(column, ipc=None, size=None)].append(column)
    lines = []
    for shared, columns in groups.items():
        how = {
            "protocol": shared.protocol,
            "teachers": shared.teachers,
            "budget": shared.budget_unit and budget(shared),
        }
        said = [f"{word} {text}" for word, text in how.items() if text]
        seen = [f"{table.seen[c]:,.0f} at {size(c)}" for c in columns if c in table.seen]
        images = [f"student images seen: {', '.join(seen)}"] if seen else []
        lines.append(f"{shared.regime}: {'; '.join([*said, *images]) or 'every run failed'}.")
    return lines


def _notes(table: Table, line: str) -> list[Note]:
    """What the marks mean, and everything that a reader must know before comparing; a `line` holds one setting."""
    tests = sum(cell.p is not None for cell in table.cells)
    notes = [
        Note(
            f"† significantly above {RANDOM} of the same {line}: Welch's t-test on sets, Holm over all tests of this "
            f"table ({tests}), adjusted p < {ALPHA}. Cells of fewer than two sets are not tested."
        ),
        Note(
            f": highest mean of its {line}, or not significantly below it (Welch, each test by itself), where several "
            f"methods have three sets; {FULL} and cells of fewer sets are left out.",
            strong="Bold",
        ),
        Note(
            f"{UNKNOWN} no standard deviation from fewer than three sets; {MISSING} not run. "
            "Equal compute means equal student images seen."
        ),
    ]
    others = [
        _unequal(table, line),
        _chosen(table),
        _reads(table),
        _asked(table),
        _varying(table),
        _alone(table),
        _partly(table),
    ]
    return notes + [Note(text) for text in others if text]


def _unequal(table: Table, line: str) -> str:
    found = any(cell.status == "done" and table.unequal(cell, column) for cell, column in table.placed())
    return f"‡ saw another number of images than its {line}: not compared." if found else ""


def _chosen(table: Table) -> str:
    rows = _names(cell.row for cell in table.cells if cell.selected_on == "test")
    return f"§ something about these sets was chosen on the test split: {rows}." if rows else ""


def _reads(table: Table) -> str:
    rows = _names(f"{cell.row} ({cell.test_reads} times)" for cell in table.cells if (cell.test_reads or 0) > 1)
    return f"The test split was read during training of {rows}; the number shown is the last." if rows else ""


def _asked(table: Table) -> str:
    rows: dict[str, list[str]] = {}
    for cell in table.cells:
        rows.setdefault(cell.asked, []).append(cell.row)
    texts = [f"{_names(names)}: {asked}" for asked, names in rows.items() if asked]
    return f"Arguments given to the methods: {'; '.join(texts)}." if texts else ""


def _varying(table: Table) -> str:
    rows = _names(f"{cell.row} ({cell.varies})" for cell in table.cells if cell.varies)
    return f"Settings that differ from set to set, averaged over: {rows}." if rows else ""


def _alone(table: Table) -> str:
    with_random = {cell.column for cell in table.cells if cell.method == RANDOM}
    names = [table.head(column).title for column in table.columns if column not in with_random]
    return f"No {RANDOM} to compare with in: {'; '.join(names)}." if names else ""


def _partly(table: Table) -> str:
    """Cells that have a number although some of their runs failed."""
    lost = [cell for cell in table.failed if any(own.row == cell.row for own in table.cells)]
    shown = [(cell.row, column) for cell in lost for column in table.columns if agrees(cell.column, column)]
    with_number = [
        f"{row} at {table.head(column).title}"
        for row, column in shown
        if (cell := table.grid.get((row, column))) is not None and cell.status == "done"
    ]
    return f"Some runs failed and are not in the numbers: {_names(with_number)}." if with_number else ""


def _names(rows: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(rows))

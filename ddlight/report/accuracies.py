"""The main table: test accuracy of every method in every column, with what may be concluded from it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ddlight.report.cells import Column, TableCell
from ddlight.report.printed import MISSING, UNKNOWN, Head, PrintedCell, PrintedTable
from ddlight.report.statistics import ALPHA, FEW_SETS, FULL, RANDOM
from ddlight.report.tables import Table, accuracy, agrees, budget, size

WIDE = 8
"""Columns beyond which a table with fewer rows than columns is turned, to be readable on a page."""
FP32 = "32-true"
"""The number format of published numbers; a run in another is named."""


def printed(table: Table) -> PrintedTable:
    """The main table of one dataset and student.

    A cell reads `mean ± std (n)` with one decimal, n counting condensed sets; `—` is a standard deviation that fewer
    than three sets do not give, `–` a cell that was not run, `failed` one whose every run ended with an error. Of few
    methods in many settings each setting is a row.
    """
    chosen = {cell.row for cell in table.cells if cell.selected_on == "test"}
    rows = []
    for row in table.rows:
        cells = [_printed_cell(table, table.places.get((row, column)), column) for column in table.columns]
        rows.append([PrintedCell(row, marks="§" if row in chosen else ""), *cells])
    caption = (
        "Test accuracy in percent after the last step, mean ± std (n). n counts condensed sets: trainings of one set "
        "are averaged first."
    )
    heads = [Head("method", number=False), *(table.head(column) for column in table.columns)]
    turned = len(table.columns) > max(WIDE, len(rows))
    main = PrintedTable("", caption, heads, rows, _lengths(table), _notes(table, "row" if turned else "column"))
    return main.turned("setting") if turned else main


def _printed_cell(table: Table, cell: TableCell | None, column: Column) -> PrintedCell:
    if cell is None:
        return PrintedCell(MISSING, weak=True)
    if cell.status == "failed":
        return PrintedCell("failed")
    marks = ("†" if cell.above_random else "") + ("‡" if table.unequal(cell, column) else "")
    return PrintedCell(accuracy(cell), cell.mean, marks, strong=cell.best, weak=cell.n_sets < FEW_SETS)


def _lengths(table: Table) -> list[str]:
    """What the columns stand for: protocol, teachers, budget and student images seen."""
    groups: dict[Column, list[Column]] = defaultdict(list)
    for column in table.columns:
        groups[replace(column, ipc=None, size=None)].append(column)
    lines = []
    for shared, columns in groups.items():
        length = shared.budget_unit and budget(shared)
        words = {"protocol": shared.protocol, "teachers": shared.teachers, "budget": length}
        parts = [f"{word} {text}" for word, text in words.items() if text]
        if seen := [f"{table.seen[c]:,.0f} at {size(c)}" for c in columns if c in table.seen]:
            parts.append(f"student images seen: {', '.join(seen)}")
        lines.append(f"{shared.regime}: {'; '.join(parts) or 'every run failed'}.")
    return lines


def _notes(table: Table, line: str) -> list[str]:
    """What the marks mean, and everything that a reader must know before comparing; a `line` holds one setting."""
    tests = sum(cell.p is not None for cell in table.cells)
    notes = [
        f"† significantly above {RANDOM} of the same {line}: Welch's t-test on sets, Holm over all tests of this "
        f"table ({tests}), adjusted p < {ALPHA}. Cells of fewer than two sets are not tested.",
        f"Bold: highest mean of its {line}, or not significantly below it (Welch, each test by itself), where several "
        f"methods have three sets; {FULL} and cells of fewer sets are left out.",
        f"{UNKNOWN} no standard deviation from fewer than three sets; {MISSING} not run. "
        "Equal compute means equal student images seen.",
    ]
    shown = [(cell, column) for (_, column), cell in table.places.items() if column in table.columns]
    if any(cell.status == "done" and table.unequal(cell, column) for cell, column in shown):
        notes.append(f"‡ saw another number of images than its {line}: not compared.")
    cells = table.cells
    reads = _listed(f"{cell.row} ({cell.test_reads} times)" for cell in cells if (cell.test_reads or 0) > 1)
    with_random = {cell.column for cell in cells if cell.method == RANDOM}
    alone = [table.head(column).title for column in table.columns if column not in with_random]
    sentences = {  # sentence -> what it lists; left out where that is nothing
        "§ something about these sets was chosen on the test split: {}.": _listed(
            cell.row for cell in cells if cell.selected_on == "test"
        ),
        "The test split was read during training of {}; the number shown is the last.": reads,
        "Arguments given to the methods: {}.": _arguments(cells),
        f"Trained in other number formats than {FP32}: {{}}.": _listed(
            f"{cell.row} ({cell.precision})" for cell in cells if cell.precision != FP32
        ),
        "Settings that differ from set to set, averaged over: {}.": _listed(
            f"{cell.row} ({cell.varies})" for cell in cells if cell.varies
        ),
        f"No {RANDOM} to compare with in: {{}}.": "; ".join(alone),
        "Some runs failed and are not in the numbers: {}.": _listed(_partly_failed(table)),
    }
    return notes + [sentence.format(items) for sentence, items in sentences.items() if items]


def _arguments(cells: Iterable[TableCell]) -> str:
    rows: dict[str, list[str]] = defaultdict(list)
    for cell in cells:
        rows[cell.asked].append(cell.row)
    return "; ".join(f"{_listed(names)}: {arguments}" for arguments, names in rows.items() if arguments)


def _partly_failed(table: Table) -> Iterator[str]:
    """Cells that have a number although some of their runs failed."""
    rows = {cell.row for cell in table.cells}
    for failed in table.failed:
        for column in table.columns:
            cell = table.places.get((failed.row, column))
            if failed.row in rows and agrees(failed.column, column) and cell is not None and cell.status == "done":
                yield f"{failed.row} at {table.head(column).title}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))

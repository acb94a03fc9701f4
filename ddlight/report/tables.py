"""Tables: rows are methods, columns are regime by size of set; as Markdown to read and as CSV with every number."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

from ddlight.report.cells import Cell, Column, column_order, long_form, row_order
from ddlight.report.statistics import ALPHA, EQUAL_COMPUTE, FULL, RANDOM

MISSING = "–"
UNKNOWN = "—"
FAILED = "failed"
LISTED = 20


def csv(cells: Sequence[Cell]) -> str:
    """One row a cell with every number, failed and damaged files included. Empty fields stand for "not known"."""
    return long_form(cells).to_csv(index=False, lineterminator="\n")


def markdown(cells: Sequence[Cell]) -> str:
    """One section for every dataset and student: caption, table and notes; then what failed and what is damaged.

    A cell reads `mean ± std (n)` with one decimal, n counting condensed sets; `—` is a standard deviation that fewer
    than three sets do not give, `–` a cell that was not run, `failed` one whose every run ended with an error.
    """
    done = [cell for cell in cells if cell.status == "done"]
    failed = [cell for cell in cells if cell.status == "failed"]
    damaged = [cell for cell in cells if cell.status == "damaged"]
    names = sorted({cell.table for cell in done})
    names += sorted({f.table for f in failed if f.dataset and not any(_belongs(f, name) for name in names)})
    sections = [_section(_Table.of(name, done, failed)) for name in names]
    sections += [_listing("Failed runs", failed), _listing("Files that could not be read", damaged)]
    return "\n".join(section for section in sections if section)


@dataclass(frozen=True)
class _Table:
    """One table, laid out: columns and row labels in order, what stands where, and images seen by column."""

    name: tuple[str, str]
    columns: list[Column]
    rows: list[str]
    grid: dict[tuple[str, Column], Cell]
    seen: dict[Column, float]
    cells: list[Cell]
    failed: list[Cell]

    @classmethod
    def of(cls, name: tuple[str, str], done: Sequence[Cell], failed: Sequence[Cell]) -> "_Table":
        """Lay out the cells of one dataset and student."""
        own = [cell for cell in done if cell.table == name]
        lost = [cell for cell in failed if _belongs(cell, name)]
        columns = _columns(own, lost)
        return cls(name, columns, _rows(own, lost), _laid_out(own, lost, columns), _seen(own), own, lost)

    def unequal(self, cell: Cell, column: Column) -> bool:
        """Whether a cell's student saw another number of images than its column's."""
        seen = self.seen.get(column)
        return bool(seen and cell.images_seen and abs(cell.images_seen - seen) > EQUAL_COMPUTE * seen)


def _columns(own: Sequence[Cell], lost: Sequence[Cell]) -> list[Column]:
    """Columns in order; FullData and failed runs add one only where they fit in none."""
    columns = {cell.column for cell in own if cell.method != FULL}
    columns |= {c.column for c in own if c.method == FULL and not any(_spreads(c.column, to) for to in columns)}
    for cell in lost:
        if cell.column.regime and not any(_agrees(cell.column, column) for column in columns):
            columns.add(cell.column)
    return sorted(columns, key=column_order)


def _rows(own: Sequence[Cell], lost: Sequence[Cell]) -> list[str]:
    """Row labels: FullData, Random, then by name; a method of which all runs failed has a row too."""
    methods = {cell.method for cell in own}
    kept = [*own, *(cell for cell in lost if cell.method and cell.method not in methods)]
    return list(dict.fromkeys(cell.row for cell in sorted(kept, key=row_order)))


def _laid_out(own: Sequence[Cell], lost: Sequence[Cell], columns: list[Column]) -> dict[tuple[str, Column], Cell]:
    """What stands where: FullData in every column of its regime, protocol and budget; failures where nothing else."""
    grid = {(cell.row, cell.column): cell for cell in own}
    for cell in own:
        if cell.method == FULL:
            grid |= {(cell.row, column): cell for column in columns if _spreads(cell.column, column)}
    for cell in lost:
        for column in columns:
            if _agrees(cell.column, column):
                grid.setdefault((cell.row, column), cell)
    return grid


def _seen(own: Sequence[Cell]) -> dict[Column, float]:
    """Student images seen in each column: Random's, or those of any method at equal compute."""
    order = sorted((cell for cell in own if cell.equal_compute), key=lambda cell: cell.method == RANDOM)
    return {cell.column: cell.images_seen for cell in order if cell.images_seen is not None}


def _belongs(failed: Cell, name: tuple[str, str]) -> bool:
    """Whether a failed run, which may name only its student's class, is part of a table."""
    dataset, student = name
    return failed.dataset == dataset and (failed.student in ("", student) or student.startswith(f"{failed.student}("))


def _agrees(named: Column, column: Column) -> bool:
    """Whether a column is the one that a failed run names as far as it names one."""
    given = {part.name: getattr(named, part.name) for part in fields(Column)}
    return all(value in ("", None) or value == getattr(column, part) for part, value in given.items())


def _spreads(full: Column, column: Column) -> bool:
    """Whether the full data's result stands in `column` too: it was trained the same way, as long."""
    return column != full and replace(column, ipc=None, size=None) == full


def _section(table: _Table) -> str:
    """Heading, caption, grid and notes."""
    heading = f"## {', '.join(filter(None, table.name))}"
    caption = (
        "Test accuracy in percent after the last step, mean ± std (n). n counts condensed sets: trainings of one set "
        "are averaged first."
    )
    return "\n".join([heading, "", caption, "", *_lengths(table), "", *_grid(table), "", *_notes(table), ""])


def _lengths(table: _Table) -> list[str]:
    """What the columns stand for: protocol, teachers, budget and student images seen."""
    groups: dict[Column, list[Column]] = defaultdict(list)
    for column in table.columns:
        groups[replace(column, ipc=None, size=None)].append(column)
    lines = []
    for shared, columns in groups.items():
        budget = shared.budget_unit and _budget(shared)
        how = {"protocol": shared.protocol, "teachers": shared.teachers, "budget": budget}
        said = [f"{word} {text}" for word, text in how.items() if text]
        seen = [f"{table.seen[c]:,.0f} at {_size(c)}" for c in columns if c in table.seen]
        images = [f"student images seen: {', '.join(seen)}"] if seen else []
        lines.append(f"- {shared.regime}: {'; '.join([*said, *images]) or 'every run failed'}.")
    return lines


def _budget(column: Column) -> str:
    asked = "" if column.budget_asked is None else f"{column.budget_asked:,.10g} "
    return f"{asked}{column.budget_unit.replace('_', ' ')}"


def _size(column: Column) -> str:
    if column.ipc is not None:
        return f"ipc {column.ipc}"
    return "full" if column.size is None else f"{column.size:,} images"


def _header(column: Column, columns: Iterable[Column]) -> str:
    """Regime and size, with protocol, teachers and budget where columns differ in nothing else."""
    same = [c for c in columns if c.regime == column.regime]
    parts = [column.regime]
    if len({c.protocol for c in same if c.protocol}) > 1:
        parts.append(column.protocol)
    same = [c for c in same if c.protocol == column.protocol]
    if len({c.teachers for c in same if c.budget_unit}) > 1:
        parts.append(column.teachers or "no teacher")
    same = [c for c in same if (c.teachers, c.ipc, c.size) == (column.teachers, column.ipc, column.size)]
    parts.append(_size(column))
    if len(same) > 1:
        parts.append(_budget(column))
    return " ".join(filter(None, parts))


def _grid(table: _Table) -> list[str]:
    """The table itself."""
    chosen = {cell.row for cell in table.cells if cell.selected_on == "test"}
    lines = [
        ["method", *(_header(column, table.columns) for column in table.columns)],
        ["---", *("---:" for _ in table.columns)],
    ]
    for row in table.rows:
        name = f"{row} §" if row in chosen else row
        lines.append([name, *(_text(table, table.grid.get((row, column)), column) for column in table.columns)])
    return [f"| {' | '.join(_escaped(text) for text in line)} |" for line in lines]


def _text(table: _Table, cell: Cell | None, column: Column) -> str:
    """One cell as it is printed."""
    if cell is None:
        return MISSING
    if cell.status == "failed":
        return FAILED
    spread = UNKNOWN if cell.std is None or cell.n_sets < 3 else f"{cell.std:.1f}"
    number = f"{cell.mean:.1f} ± {spread} ({cell.n_sets})"
    marks = ("†" if cell.above_random else "") + ("‡" if table.unequal(cell, column) else "")
    return " ".join(filter(None, [f"**{number}**" if cell.best else number, marks]))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _notes(table: _Table) -> list[str]:
    """What the marks mean, and everything that a reader must know before comparing."""
    tests = sum(cell.p is not None for cell in table.cells)
    notes = [
        f"† significantly above {RANDOM} of the same column: Welch's t-test on sets, Holm over all tests of this table "
        f"({tests}), adjusted p < {ALPHA}. Cells of fewer than two sets are not tested.",
        "**Bold**: highest mean of its column, or not significantly below it (Welch, Holm over the table); "
        f"{FULL} and cells of fewer than two sets are left out.",
        f"{UNKNOWN} no standard deviation from fewer than three sets; {MISSING} not run. "
        "Equal compute means equal student images seen.",
    ]
    if any(table.unequal(cell, c) for c in table.columns for row in table.rows if (cell := table.grid.get((row, c)))):
        notes.append("‡ saw another number of images than its column: not compared.")
    notes += [text for text in (_chosen(table), _reads(table), _varying(table), _alone(table), _partly(table)) if text]
    return [f"- {note}" for note in notes]


def _chosen(table: _Table) -> str:
    rows = _names(cell.row for cell in table.cells if cell.selected_on == "test")
    return f"§ something about these sets was chosen on the test split: {rows}." if rows else ""


def _reads(table: _Table) -> str:
    rows = _names(f"{cell.row} ({cell.test_reads} times)" for cell in table.cells if (cell.test_reads or 0) > 1)
    return f"The test split was read during training of {rows}; the number shown is the last." if rows else ""


def _varying(table: _Table) -> str:
    rows = _names(f"{cell.row} ({cell.varies})" for cell in table.cells if cell.varies)
    return f"Settings that differ from set to set, averaged over: {rows}." if rows else ""


def _alone(table: _Table) -> str:
    with_random = {cell.column for cell in table.cells if cell.method == RANDOM}
    names = [_header(column, table.columns) for column in table.columns if column not in with_random]
    return f"No {RANDOM} to compare with in: {'; '.join(names)}." if names else ""


def _partly(table: _Table) -> str:
    """Cells that have a number although some of their runs failed."""
    lost = [cell for cell in table.failed if any(own.row == cell.row for own in table.cells)]
    shown = [(cell.row, column) for cell in lost for column in table.columns if _agrees(cell.column, column)]
    with_number = [
        f"{row} at {_header(column, table.columns)}"
        for row, column in shown
        if (cell := table.grid.get((row, column))) is not None and cell.status == "done"
    ]
    return f"Some runs failed and are not in the numbers: {_names(with_number)}." if with_number else ""


def _names(rows: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(rows))


def _listing(title: str, cells: Sequence[Cell]) -> str:
    """Count and names of files without a result, and what each says."""
    if not cells:
        return ""
    lines = [f"- {cell.path}: {_problem(cell)}" for cell in cells[:LISTED]]
    more = [f"- and {len(cells) - LISTED} more"] if len(cells) > LISTED else []
    return "\n".join([f"## {title}: {len(cells)}", "", *lines, *more, ""])


def _problem(cell: Cell) -> str:
    """Which cell it was, as far as the file says, and the first line of the error."""
    size = [] if cell.column.ipc is None else [_size(cell.column)]
    names = ", ".join(filter(None, [cell.row, cell.dataset, cell.student, cell.column.regime, *size]))
    error = next(iter(cell.error.removeprefix(f"{cell.path}: ").strip().splitlines()), "")
    return f"{names}: {error}" if names else error

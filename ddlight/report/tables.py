"""Layout of results: which tables there are, their columns and rows in order, and which cell stands where."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ddlight.report.cells import Column, TableCell, column_order, row_order
from ddlight.report.printed import UNKNOWN, Head, PrintedCell, PrintedTable, words
from ddlight.report.statistics import FEW_SETS, FULL, RANDOM, same_compute


@dataclass(frozen=True)
class Table:
    """The results of one dataset and student, laid out."""

    name: tuple[str, str]  # dataset and student
    columns: list[Column]  # that are printed, in order
    known: set[Column]  # these, and those of the full data that stands in others
    rows: list[str]  # labels, FullData and Random first; a method of which all runs failed has a row too
    places: dict[tuple[str, Column], TableCell]  # what stands where
    seen: dict[Column, float]  # student images seen in each column: Random's, or those of others at equal compute
    cells: list[TableCell]  # that are done, each once
    failed: list[TableCell]

    @classmethod
    def of(cls, name: tuple[str, str], done: Sequence[TableCell], failed: Sequence[TableCell]) -> "Table":
        """Lay out the cells of one dataset and student."""
        cells = [cell for cell in done if cell.table == name]
        lost = [cell for cell in failed if _belongs(cell, name)]
        equal = sorted((cell for cell in cells if cell.equal_compute), key=lambda cell: cell.method == RANDOM)
        seen = {cell.column: cell.images_seen for cell in equal if cell.images_seen is not None}
        columns = _columns(cells, lost, seen)
        known = {*columns, *(cell.column for cell in cells)}
        methods = {cell.method for cell in cells}
        kept = [*cells, *(cell for cell in lost if cell.method and cell.method not in methods)]
        rows = list(dict.fromkeys(cell.row for cell in sorted(kept, key=row_order)))
        return cls(name, columns, known, rows, _places(cells, lost, columns, seen), seen, cells, lost)

    def unequal(self, cell: TableCell, column: Column) -> bool:
        """Whether a cell's student saw another number of images than its column's."""
        seen = self.seen.get(column)
        return bool(seen and cell.images_seen and not same_compute(cell.images_seen, seen))

    def head(self, column: Column) -> Head:
        """Heading: regime and size, with protocol, teachers and budget where columns differ in nothing else."""
        same = [c for c in self.known if c.regime == column.regime]
        group = [column.regime]
        if len({c.protocol for c in same if c.protocol}) > 1:
            group.append(column.protocol)
        same = [c for c in same if c.protocol == column.protocol]
        if len({c.teachers for c in same if c.budget_unit}) > 1:
            group.append(column.teachers or "no teacher")
        same = [c for c in same if (c.teachers, c.ipc, c.size) == (column.teachers, column.ipc, column.size)]
        label = [size(column)]
        if len(same) > 1:
            label.append(budget(column))
        return Head(" ".join(filter(None, label)), " ".join(filter(None, group)))

    def by_cell(
        self,
        title: str,
        caption: str,
        heads: Iterable[Head],
        rows: Iterable[tuple[TableCell, Sequence[PrintedCell]]],
        notes: Sequence[str],
    ) -> PrintedTable:
        """A printed table of which each row is about one cell: its method and column, then what the row says of it."""
        heads = [Head("method", number=False), Head("column", number=False), *heads]
        lines = [[*words(cell.row, self.head(cell.column).title), *row] for cell, row in rows]
        return PrintedTable(title, caption, heads, lines, notes=notes)


def tables(cells: Sequence[TableCell]) -> list[Table]:
    """One table for every dataset and student, in order; those of which every run failed come last."""
    done = [cell for cell in cells if cell.status == "done"]
    failed = [cell for cell in cells if cell.status == "failed"]
    names = sorted({cell.table for cell in done})
    names += sorted({f.table for f in failed if f.dataset and not any(_belongs(f, name) for name in names)})
    return [Table.of(name, done, failed) for name in names]


def accuracy(cell: TableCell) -> str:
    """Accuracy of a cell: "66.2 ± 0.2 (5)"."""
    spread = UNKNOWN if cell.std is None or cell.n_sets < FEW_SETS else f"{cell.std:.1f}"
    return f"{cell.mean:.1f} ± {spread} ({cell.n_sets})"


def budget(column: Column) -> str:
    """Length of a column's trainings: "300 epochs"."""
    number = "" if column.budget_asked is None else f"{column.budget_asked:,.10g} "
    return f"{number}{column.budget_unit.replace('_', ' ')}"


def size(column: Column) -> str:
    """Size of a column's sets: "ipc 10"."""
    if column.ipc is not None:
        return f"ipc {column.ipc}"
    return "full" if column.size is None else f"{column.size:,} images"


def agrees(named: Column, column: Column) -> bool:
    """Whether a column is the one that a failed run names as far as it names one."""
    return all(value in ("", None) or value == getattr(column, part) for part, value in vars(named).items())


def _columns(cells: Sequence[TableCell], lost: Sequence[TableCell], seen: Mapping[Column, float]) -> list[Column]:
    """Columns in order; FullData and failed runs add one only where they fit in none."""
    columns = {cell.column for cell in cells if cell.method != FULL}
    columns |= {c.column for c in cells if c.method == FULL and not any(_spreads(c, to, seen) for to in columns)}
    for cell in lost:
        if cell.column.regime and not any(agrees(cell.column, column) for column in columns):
            columns.add(cell.column)
    return sorted(columns, key=column_order)


def _places(
    cells: Sequence[TableCell], lost: Sequence[TableCell], columns: list[Column], seen: Mapping[Column, float]
) -> dict[tuple[str, Column], TableCell]:
    """What stands where: FullData in every column of its regime, protocol and length; failures where nothing else."""
    places = {(cell.row, cell.column): cell for cell in cells}
    for cell in cells:
        if cell.method == FULL:
            places |= {(cell.row, column): cell for column in columns if _spreads(cell, column, seen)}
    for cell in lost:
        for column in columns:
            if agrees(cell.column, column):
                places.setdefault((cell.row, column), cell)
    return places


def _belongs(failed: TableCell, name: tuple[str, str]) -> bool:
    """Whether a failed run, which may name only its student's class, is part of a table."""
    dataset, student = name
    named = (dataset, dataset.split("-")[0])  # it names the dataset's class, such as CIFAR10 of CIFAR10-jpeg
    return failed.dataset in named and (failed.student in ("", student) or student.startswith(f"{failed.student}("))


def _spreads(full: TableCell, column: Column, seen: Mapping[Column, float]) -> bool:
    """Whether the full data's result stands in `column` too: trained the same way, for as many epochs or images."""
    bare = replace(column, ipc=None, size=None)
    if column == full.column or bare == full.column:
        return column != full.column
    alike = replace(bare, budget_unit=full.column.budget_unit, budget_asked=full.column.budget_asked) == full.column
    images, others = full.images_seen, seen.get(column)
    return bool(alike and images and others and same_compute(images, others))

"""The whole report as sections: for every dataset and student the accuracies, their costs and what they compare to."""

from collections.abc import Iterator, Sequence

from ddlight.report import accuracies, costs
from ddlight.report.cells import TableCell
from ddlight.report.papers import dd_ranking, published
from ddlight.report.printed import PrintedTable
from ddlight.report.tables import size, tables

OTHERS = (costs.printed, costs.best_on_test, published.printed, dd_ranking.printed)
LOSSES = {"failed": "Failed runs", "damaged": "Files that could not be read"}


def sections(cells: Sequence[TableCell]) -> Iterator[tuple[str, list[PrintedTable]]]:
    """Title and tables of every dataset and student; other tables than the main one are left out where empty."""
    for table in tables(cells):
        others = [other for make in OTHERS if (other := make(table)).rows]
        yield ", ".join(filter(None, table.name)), [accuracies.printed(table), *others]


def losses(cells: Sequence[TableCell]) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """What failed and what is damaged: a title, and (file, which cell it was as far as it says, error) of each."""
    for status, title in LOSSES.items():
        items = []
        for cell in (cell for cell in cells if cell.status == status):
            ipc = "" if cell.column.ipc is None else size(cell.column)
            names = ", ".join(filter(None, [cell.row, cell.dataset, cell.student, cell.column.regime, ipc]))
            items.append((cell.path, names, next(iter(cell.error.strip().splitlines()), "")))
        if items:
            yield f"{title}: {len(items)}", items

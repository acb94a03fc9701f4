"""The whole report as sections: for every dataset and student the accuracies, their costs and what they compare to."""

from collections.abc import Sequence

from ddlight.report import accuracies, costs
from ddlight.report.cells import TableCell
from ddlight.report.papers import dd_ranking, published
from ddlight.report.printed import Losses, Section
from ddlight.report.tables import size, tables

OTHERS = (costs.printed, costs.best_on_test, published.printed, dd_ranking.printed)
LOSSES = {"failed": "Failed runs", "damaged": "Files that could not be read"}


def sections(cells: Sequence[TableCell]) -> list[Section]:
    """One section for every dataset and student. Other tables than the main one are left out where they are empty."""
    return [
        Section(
            ", ".join(filter(None, table.name)),
            [accuracies.printed(table), *(other for make in OTHERS if (other := make(table)).rows)],
        )
        for table in tables(cells)
    ]


def losses(cells: Sequence[TableCell]) -> list[Losses]:
    """What failed and what is damaged, where anything is."""
    items = {status: [_item(cell) for cell in cells if cell.status == status] for status in LOSSES}
    return [Losses(title, items[status]) for status, title in LOSSES.items() if items[status]]


def _item(cell: TableCell) -> tuple[str, str, str]:
    """File, which cell it was as far as it says, and the first line of the error."""
    ipc = "" if cell.column.ipc is None else size(cell.column)
    names = ", ".join(filter(None, [cell.row, cell.dataset, cell.student, cell.column.regime, ipc]))
    return cell.path, names, next(iter(cell.error.strip().splitlines()), "")

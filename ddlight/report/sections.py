"""The whole report as sections: for every dataset and student the accuracies, their costs and what they compare to."""

from collections.abc import Sequence

from ddlight.report import accuracies, costs, dd_ranking, published, readings
from ddlight.report.blocks import Listing, Section
from ddlight.report.cells import Cell
from ddlight.report.tables import Table, size, tables

OTHERS = (costs.grid, readings.grid, published.grid, dd_ranking.grid)
LISTINGS = {"failed": "Failed runs", "damaged": "Files that could not be read"}


def sections(cells: Sequence[Cell]) -> list[Section]:
    """One section for every dataset and student. Grids that would be empty are left out."""
    return [_section(table) for table in tables(cells)]


def listings(cells: Sequence[Cell]) -> list[Listing]:
    """What failed and what is damaged, where anything is."""
    items = {status: [_item(cell) for cell in cells if cell.status == status] for status in LISTINGS}
    return [Listing(title, items[status]) for status, title in LISTINGS.items() if items[status]]


def _section(table: Table) -> Section:
    others = [grid for make in OTHERS if (grid := make(table)) is not None]
    return Section(", ".join(filter(None, table.name)), [accuracies.grid(table), *others])


def _item(cell: Cell) -> tuple[str, str, str]:
    """File, which cell it was as far as it says, and the first line of the error."""
    of_size = [] if cell.column.ipc is None else [size(cell.column)]
    names = ", ".join(filter(None, [cell.row, cell.dataset, cell.student, cell.column.regime, *of_size]))
    return cell.path, names, next(iter(cell.error.strip().splitlines()), "")

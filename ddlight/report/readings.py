"""Last step against the best reading of the test split: what is gained by choosing on test, as many papers do."""

from ddlight.report.blocks import Entry, Grid, Head, Note, signed, words
from ddlight.report.tables import Table


def grid(table: Table) -> Grid | None:
    """Both numbers of every cell whose trainings read the test split more than once; None where none did.

    Both are of the same trainings, averaged by set: those of a cell that read the test split once are in neither.
    """
    rows = [
        [
            *words(cell.row, table.head(cell.column).title),
            Entry(str(cell.test_reads), cell.test_reads),
            Entry(f"{cell.best_on_test - cell.inflation:.1f}", cell.best_on_test - cell.inflation),
            Entry(f"{cell.best_on_test:.1f}", cell.best_on_test),
            Entry(signed(cell.inflation, 1), cell.inflation),
        ]
        for cell in table.cells
        if cell.best_on_test is not None and cell.inflation is not None
    ]
    heads = [
        Head("method", number=False),
        Head("column", number=False),
        *map(Head, ("readings", "last", "best on test", "inflation")),
    ]
    caption = "Test accuracy in percent: of the last step, and the best of all readings of the test split."
    notes = [Note("The best reading is chosen on test. The inflation is what tables that report it gain by that.")]
    return Grid("Last step against best on test", caption, heads, rows, notes=notes) if rows else None

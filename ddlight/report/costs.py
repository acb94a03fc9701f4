"""What a number cost (time to make the set, bytes, operations of every part) and what choosing on test would gain."""

from ddlight.report.printed import UNKNOWN, Head, PrintedTable, number, signed
from ddlight.report.tables import Table

SECONDS = ((1.0, "s"), (60.0, "min"), (3600.0, "h"), (86400.0, "d"))
PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
BYTES = ("images", "labels")
OPERATIONS = ("student", "teachers", "scoring", "synthesis")


def printed(table: Table) -> PrintedTable:
    """What every cell that is done cost."""
    sizes_and_operations = [(BYTES, "bytes of"), (OPERATIONS, "FLOPs of")]
    heads = [Head("condense"), *(Head(name, group) for names, group in sizes_and_operations for name in names)]
    rows = []
    for cell in table.cells:
        sizes = [number(getattr(cell, f"bytes_{name}"), lambda value: si(value, "B"), UNKNOWN) for name in BYTES]
        operations = [number(getattr(cell, f"flops_{name}"), si, UNKNOWN) for name in OPERATIONS]
        rows.append((cell, [number(cell.seconds_condense, duration, UNKNOWN), *sizes, *operations]))
    notes = [
        "condense: wall-clock time to make the set on the machine that made it, its scoring run included.",
        "student and teachers: operations of one training. scoring and synthesis: of making one set. The training of "
        "ready-made teachers is not in them.",
        f"{UNKNOWN} not known: others made the set and did not say.",
    ]
    caption = "Means over sets. Sizes are those on disk; an index of real images is small."
    return table.by_cell("Cost", caption, heads, rows, notes)


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
    one_decimal = "{:.1f}".format
    rows = []
    for cell in table.cells:
        best, gain = cell.best_on_test, cell.inflation
        if best is not None and gain is not None:
            readings = [number(cell.test_reads, str), number(best - gain, one_decimal), number(best, one_decimal)]
            rows.append((cell, [*readings, number(gain, lambda value: signed(value, 1))]))
    heads = map(Head, ("readings", "last", "best on test", "inflation"))
    caption = "Test accuracy in percent: of the last step, and the best of all readings of the test split."
    notes = ["The best reading is chosen on test. The inflation is what tables that report it gain by that."]
    return table.by_cell("Last step against best on test", caption, heads, rows, notes)

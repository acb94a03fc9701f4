"""`ddlight report RUNS`: tables of all results under some folders, every method beside Random."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ddlight.errors import DataError, UsageError, nearest
from ddlight.files import write_bytes
from ddlight.report.cells import Cell, compare
from ddlight.report.collect import collect
from ddlight.report.tables import csv, markdown

FORMATS = {"md": markdown, "csv": csv}


def main(argv: Sequence[str]) -> int:
    """Run `ddlight report` with the arguments after the command's name; return the exit code.

    Without `--out`, the table goes to standard output. With it, `report.md` and `report.csv` are written into the
    folder, replacing earlier ones.

    Returns:
        0; 3 where files could not be read. The report of all others is written even so, and names them.

    Raises:
        UsageError: an unknown format.
        DataError: a path does not exist, has no results under it, or only unreadable ones.
    """
    options = _parser().parse_args(list(argv))
    formats = _formats(options.format or ("md,csv" if options.out else "md"))
    frame = collect(options.runs)
    damaged = frame.loc[frame["status"] == "damaged", "error"]
    if len(damaged) == len(frame):
        raise DataError("\n".join([f"None of the {len(frame)} files found could be read:", *damaged]))
    _deliver(compare(frame), formats, options.out)
    for error in damaged:
        sys.stderr.write(f"ddlight report: not in the tables: {error}\n")
    return DataError.code if len(damaged) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ddlight report",
        description="Tables of all results under some folders: every method beside Random, at equal compute.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="folders, searched to any depth, or files")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write report.md and report.csv there")
    parser.add_argument("--format", metavar="md,csv", help="which of them (default: md on the screen, both in DIR)")
    return parser


def _formats(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in FORMATS:
            raise UsageError(
                f"There is no report format {name!r}.{nearest(name, FORMATS)} "
                f"Allowed: {', '.join(FORMATS)}. For example: ddlight report runs/ --format md,csv"
            )
    return names


def _deliver(cells: Sequence[Cell], formats: Sequence[str], out: Path | None) -> None:
    for name in formats:
        text = FORMATS[name](cells)
        if out is None:
            sys.stdout.write(text)
        else:
            write_bytes(out / f"report.{name}", text.encode())
            sys.stdout.write(f"{out / f'report.{name}'}\n")

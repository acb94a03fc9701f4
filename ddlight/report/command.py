"""`ddlight report RUNS`: tables of all results under some folders, every method beside Random."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from ddlight.core.errors import DataError, UsageError, nearest
from ddlight.core.files import write_bytes
from ddlight.report.cells import TableCell, compare, csv
from ddlight.report.collect import collect
from ddlight.report.html import html
from ddlight.report.latex import latex
from ddlight.report.markdown import markdown

FORMATS: dict[str, Callable[[Sequence[TableCell], pd.DataFrame], str]] = {
    "md": lambda cells, frame: markdown(cells),
    "csv": lambda cells, frame: csv(cells),
    "tex": lambda cells, frame: latex(cells),
    "html": lambda cells, frame: html(cells, frame, figures(frame)),
}
DEFAULT = "md,csv"


def main(argv: Sequence[str]) -> int:
    """Run `ddlight report` with the arguments after the command's name; return the exit code.

    Without `--out`, the report goes to standard output, as Markdown unless `--format` says otherwise. With it,
    `report.FORMAT` is written into the folder for each format, replacing earlier ones.

    Returns:
        0; 3 where files could not be read. The report of all others is written even so, and names them.

    Raises:
        UsageError: an unknown format.
        DataError: a path does not exist, has no results under it, or only unreadable ones.
    """
    options = _parser().parse_args(list(argv))
    formats = [name.strip() for name in (options.format or (DEFAULT if options.out else "md")).split(",")]
    for name in filter(None, formats):
        if name not in FORMATS:
            raise UsageError(
                f"There is no report format {name!r}.{nearest(name, FORMATS)} "
                f"Allowed: {', '.join(FORMATS)}. For example: ddlight report runs/ --format md,csv"
            )
    frame = collect(options.runs)
    damaged = frame.loc[frame["status"] == "damaged", "error"]
    if len(damaged) == len(frame):
        raise DataError("\n".join([f"None of the {len(frame)} files found could be read:", *damaged]))
    cells = compare(frame)
    for name in filter(None, formats):
        text = FORMATS[name](cells, frame)
        if options.out is None:
            sys.stdout.write(text)
        else:
            write_bytes(options.out / f"report.{name}", text.encode())
            sys.stdout.write(f"{options.out / f'report.{name}'}\n")
    for error in damaged:
        sys.stderr.write(f"ddlight report: not in the tables: {error}\n")
    return DataError.code if len(damaged) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ddlight report",
        description="Tables of all results under some folders: every method beside Random, at equal compute.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="folders, searched to any depth, or files")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write report.md, report.csv, ... there")
    choice = f"which of them (default: md on the screen, {DEFAULT} in DIR)"
    parser.add_argument("--format", metavar=",".join(FORMATS), help=choice)
    return parser


def figures(frame: pd.DataFrame) -> Mapping[str, str]:
    """SVG text by title: what the HTML report shows inline of the table that `collect` returns.

    Without matplotlib there is none, and standard error says what to install. A figure that lacks a file which is
    damaged is left out, with a line that says so; the report is whole, and its exit code that of its tables.
    """
    from ddlight.report.figures.kinds import draw_all
    from ddlight.report.figures.style import to_svg

    try:
        return {name: to_svg(figure) for name, figure in draw_all(frame).items()}
    except UsageError as error:
        sys.stderr.write(f"ddlight report: without figures: {error}\n")
        return {}

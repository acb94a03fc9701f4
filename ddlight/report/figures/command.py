"""`ddlight figures RUNS --out DIR`: every figure that some results allow, with the numbers in it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ddlight.core.errors import DataError
from ddlight.core.files import write_bytes
from ddlight.report.collect import collect
from ddlight.report.figures.kinds import FIGURES, draw
from ddlight.report.figures.style import png, svg


def main(argv: Sequence[str]) -> int:
    """Run `ddlight figures` with the arguments after the command's name; return the exit code.

    For each figure `NAME.svg`, `NAME.png` and `NAME.csv`, the plotted numbers, are written, replacing earlier ones.

    Returns:
        0; 3 where files could not be read. The figures of all others are drawn even so.

    Raises:
        UsageError: an unknown figure, or matplotlib is not installed.
        DataError: a path does not exist or has no results under it, or no figure can be drawn from them.
    """
    options = _parser().parse_args(list(argv))
    frame = collect(options.runs)
    only = [name.strip() for name in options.only.split(",")] if options.only else []
    written, left_out = False, []
    for drawn in draw(frame, only, _analysis(options.analysis)):
        if drawn.figure is None:
            left_out.append((drawn.damaged, f"left out: {drawn.name}: {drawn.problem}"))
            continue
        written, file = True, options.out / drawn.name
        numbers = drawn.data.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        contents = {"csv": numbers.encode(), "svg": svg(drawn.figure).encode(), "png": png(drawn.figure)}
        for suffix, content in contents.items():
            write_bytes(Path(f"{file}.{suffix}"), content)
        sys.stdout.write(f"{file}.svg, .png, .csv\n")
    if not written:
        raise DataError("\n".join(["No figure can be drawn from these results.", *(line for _, line in left_out)]))
    sys.stdout.write("".join(f"{line}\n" for damaged, line in left_out if not damaged))
    unread = [f"not in the figures: {error}" for error in frame.loc[frame["status"] == "damaged", "error"]]
    unread += [line for damaged, line in left_out if damaged]
    sys.stderr.write("".join(f"ddlight figures: {line}\n" for line in unread))
    return DataError.code if unread else 0


def _analysis(file: Path | None) -> pd.DataFrame | None:
    if file is None:
        return None
    try:
        table = pd.read_csv(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as a CSV table: {error}") from error
    if "dataset" not in table:
        raise DataError(f"{file} has no column dataset: it is not what 'ddlight analyze SETS --out FILE.csv' writes.")
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ddlight figures",
        description="Draw every figure that the results under some folders allow.",
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="folders, searched to any depth, or files")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where NAME.svg, .png and .csv go")
    parser.add_argument("--only", metavar="NAME,...", help=f"which of them: {', '.join(FIGURES)}")
    table = "table that 'ddlight analyze' wrote, for rep_div"
    parser.add_argument("--analysis", type=Path, metavar="FILE.csv", help=table)
    return parser

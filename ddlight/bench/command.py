"""`ddlight bench`: loading, training, labels and selection on this machine, as ratios to plain reference loops."""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddlight.bench.timing import Measure

PARTS = ("load", "train", "labels", "select")


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    own = argparse.ArgumentParser(prog="ddlight bench", description=__doc__)
    own.add_argument("part", choices=PARTS, help="what is measured, on the CPU; minutes, but labels: seconds")
    own.add_argument("--rounds", type=int, default=7, metavar="N", help="interleaved rounds (7)")
    own.add_argument("--quick", action="store_true", help="seconds: everything tiny, for tests and not for numbers")
    own.add_argument("--json", type=Path, metavar="FILE", help="also write every round there")
    return own


def main(argv: Sequence[str]) -> int:
    """Run the command. Exit code 0 whether the goals hold or not."""
    options = parser().parse_args(list(argv))
    from ddlight.bench import labels, load, select, train
    from ddlight.cli.command_line import quiet
    from ddlight.core.files import write_json
    from ddlight.core.result import versions
    from ddlight.train.trainer import keep_big_blocks

    quiet()
    logging.getLogger("ddlight").setLevel(logging.WARNING)
    keep_big_blocks()
    parts = {"load": load.measure, "train": train.measure, "labels": labels.measure, "select": select.measure}
    measures = []
    with tempfile.TemporaryDirectory() as folder:
        for found in parts[options.part](Path(folder), options.quick, max(1, options.rounds)):
            measures.append(found)
            sys.stdout.write(line(found, not options.quick))
            sys.stdout.flush()
    if options.json is not None:
        facts = {"part": options.part, "quick": options.quick, "processor": processor(), "cores": os.cpu_count()}
        rows = [{**asdict(m), "holds": m.holds} for m in measures]
        write_json(options.json, {**facts, "versions": asdict(versions()), "measures": rows})
    return 0


def line(m: Measure, judged: bool) -> str:
    """One measure and its verdict, to print."""
    verdict = "holds" if m.holds else f"misses by {abs(m.value / m.goal - 1):.0%}"
    sign = "<=" if m.most else ">="
    return f"{m.id:<4} {m.value:8.3g}  goal {sign} {m.goal:<5g}  {verdict if judged else 'not judged':<14} {m.what}\n"


def processor() -> str:
    """The processor's model, as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

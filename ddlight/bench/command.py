"""`ddlight bench`: loading, training, labels and selection on this machine, as ratios to plain reference loops.

A part of the benchmark is a module whose `measure(folder, quick, rounds)` yields one Measure for each goal: in an empty
folder, with everything tiny where it is quick, and with that number of rounds for each comparison.
"""

import argparse
import importlib
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

PARTS = ("load", "train", "labels", "select")


def main(argv: Sequence[str]) -> int:
    """Run the command. Exit code 0 whether the goals hold or not."""
    parser = argparse.ArgumentParser(prog="ddlight bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", choices=PARTS, help="what is measured, on the CPU; minutes, but labels: seconds")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="interleaved rounds (7)")
    parser.add_argument("--quick", action="store_true", help="seconds: everything tiny, for tests and not for numbers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every round there")
    options = parser.parse_args(list(argv))
    from ddlight.cli.command_line import quiet
    from ddlight.core.files import write_json
    from ddlight.core.result import versions
    from ddlight.core.system import processor
    from ddlight.train.trainer import keep_big_blocks

    quiet()
    logging.getLogger("ddlight").setLevel(logging.WARNING)
    keep_big_blocks()
    part, rows = importlib.import_module(f"ddlight.bench.{options.part}"), []
    with tempfile.TemporaryDirectory() as folder:
        for m in part.measure(Path(folder), options.quick, max(1, options.rounds)):
            verdict = "holds" if m.holds else f"misses by {abs(m.value / m.goal - 1):.0%}"
            goal = f"goal {'<=' if m.most else '>='} {m.goal:<5g}"
            verdict = "not judged" if options.quick else verdict
            sys.stdout.write(f"{m.id:<4} {m.value:8.3g}  {goal}  {verdict:<14} {m.what}\n")
            sys.stdout.flush()
            rows.append({**asdict(m), "holds": m.holds})
    if options.json is not None:
        facts = {"part": options.part, "quick": options.quick, "processor": processor(), "cores": os.cpu_count()}
        write_json(options.json, {**facts, "versions": asdict(versions()), "measures": rows})
    return 0

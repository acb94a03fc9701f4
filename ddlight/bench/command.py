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

from ddlight.core.errors import UsageError

WITH_PICTURES = ("load", "fit")
PARTS = ("load", "train", "labels", "select", "fit", "gpu")


def main(argv: Sequence[str]) -> int:
    """Run the command. Exit code 0 whether the goals hold or not."""
    parser = argparse.ArgumentParser(prog="ddlight bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "part", choices=PARTS, help="what is measured, on the CPU but for gpu; minutes, but labels: seconds"
    )
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="interleaved rounds (7)")
    parser.add_argument("--quick", action="store_true", help="seconds: everything tiny, for tests and not for numbers")
    parser.add_argument("--root", type=Path, metavar="FOLDER", help="pictures for load (any) and fit (train/, test/)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every round there")
    options = parser.parse_args(list(argv))
    if options.root is not None and options.part not in WITH_PICTURES:
        raise UsageError(f"--root goes with {' and '.join(WITH_PICTURES)}; bench {options.part} reads no pictures.")
    given = {} if options.root is None else {"root": options.root}
    from ddlight.cli.command_line import quiet
    from ddlight.core.files import write_json
    from ddlight.core.result import versions
    from ddlight.core.system import processor
    from ddlight.networks.device import bf16_speed
    from ddlight.train.trainer import keep_big_blocks

    quiet()
    logging.getLogger("ddlight").setLevel(logging.WARNING)
    keep_big_blocks()
    part, rows = importlib.import_module(f"ddlight.bench.{options.part}"), []
    with tempfile.TemporaryDirectory() as folder:
        for m in part.measure(Path(folder), options.quick, max(1, options.rounds), **given):
            verdict = "holds" if m.holds else f"misses by {abs(m.value / m.goal - 1):.0%}"
            if without_bf16 := m.bf16 and bf16_speed() <= 1:
                verdict = "no bf16 units"
            goal = f"goal {'<=' if m.most else '>='} {m.goal:<5g}"
            verdict = "not judged" if options.quick else verdict
            needs = ", needs bf16 units" if m.bf16 else ""
            sys.stdout.write(f"{m.id:<4} {m.value:8.3g}  {goal}  {verdict:<14} {m.what}{needs}\n")
            sys.stdout.flush()
            rows.append({**asdict(m), "holds": None if without_bf16 else m.holds})
    if options.json is not None:
        pictures = None if options.root is None else options.root.name
        facts = {
            "part": options.part,
            "pictures": pictures,
            "quick": options.quick,
            "processor": processor(),
            "cores": os.cpu_count(),
        }
        write_json(options.json, {**facts, "versions": asdict(versions()), "measures": rows})
    return 0

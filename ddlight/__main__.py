"""The command `ddlight`: a table of commands, each imported when called, so that light ones never import torch."""

import importlib
import os
import re
import sys
from collections.abc import Sequence

from ddlight.core.errors import DataError, DDLightError, UsageError, nearest

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""
OUT_OF_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory|invalid buffer size", re.IGNORECASE)
"""What torch says where memory is short, in an error of no class of its own."""

COMMANDS = {
    "fit": ("ddlight.cli.start:main", "train a student on a condensed set and report its accuracy"),
    "condense": (
        "ddlight.cli.start:main",
        "make a condensed set; ranks share the work, a stopped one goes on",
    ),
    "score": ("ddlight.cli.start:main", "train on the full data once and record what score-based coresets need"),
    "generator": ("ddlight.cli.start:main", "train the generator that generative methods sample from, once"),
    "experts": ("ddlight.cli.start:main", "train the networks whose trajectories MTT and its kin match, once"),
    "validate": ("ddlight.cli.start:main", "score a run's student on held-out data"),
    "test": ("ddlight.cli.start:main", "score a run's student on the test split"),
    "grid": ("ddlight.studies.grid:main", "run every cell of a study that has no result yet"),
    "report": ("ddlight.report.command:main", "tables from results: mean, spread, significance against random"),
    "figures": (
        "ddlight.report.figures.command:main",
        "figures of results: regimes, budgets, cost, images",
    ),
    "analyze": ("ddlight.analyze.command:main", "coverage, diversity, FID, duplicates and cost of sets, untrained"),
    "bench": ("ddlight.bench.command:main", "loading, training and labels on this machine, as ratios to plain loops"),
    "show": ("ddlight.cli.show:main", "what a condensed set or a run contains"),
    "submit": ("ddlight.studies.slurm:main", "render and submit a SLURM job"),
    "methods": ("ddlight.cli.listing:methods_command", "methods, one a line"),
    "regimes": ("ddlight.cli.listing:regimes_command", "label regimes"),
    "protocols": ("ddlight.cli.listing:protocols_command", "published training recipes"),
    "datasets": ("ddlight.cli.listing:datasets_command", "real datasets and where they are expected"),
    "configs": ("ddlight.cli.listing:configs_command", "configs that are shipped"),
    "doctor": ("ddlight.cli.doctor:main", "versions, data, devices, logins"),
}
WITH_COMMAND = ("fit", "condense", "score", "generator", "experts", "validate", "test")
"""Commands whose function is told which of them was called."""
GO_ON = ("fit", "condense", "score", "generator", "experts", "grid")
"""Commands that go on from what a stopped one saved."""


def overview() -> str:
    """The text that `ddlight` prints by itself."""
    lines = [f"  {name:<10} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "ddlight makes and judges condensed training sets. For example:",
            "  ddlight fit --config configs/quickstart.yaml",
            "",
            *lines,
            "",
            "'ddlight COMMAND --help' shows the options. --dry-run and --tiny go with the training commands.",
            "",
        ]
    )


def call(argv: Sequence[str]) -> int:
    """Run a command line and return its exit code; user errors are raised."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        sys.stdout.write(overview())
        return 0
    if argv[0] == "--version":
        from ddlight import __version__

        sys.stdout.write(f"ddlight {__version__}\n")
        return 0
    if argv[0] not in COMMANDS:
        raise UsageError(f"Unknown command '{argv[0]}'.{nearest(argv[0], COMMANDS)} 'ddlight' lists them.")
    module, function = COMMANDS[argv[0]][0].split(":")
    arguments = list(argv) if argv[0] in WITH_COMMAND else list(argv[1:])
    return int(getattr(importlib.import_module(module), function)(arguments) or 0)


def plain(error: BaseException, words: Sequence[str]) -> tuple[int, str] | None:
    """Exit code and one line for what a user or the machine causes; None for what is a mistake of the program."""
    if isinstance(error, DDLightError):
        return error.code, str(error)
    if isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
        again = "goes on from what was saved" if words and words[0] in GO_ON else "again"
        return INTERRUPTED, f"Interrupted. Nothing finished was lost: the same command {again}."
    text = next(iter(str(error).splitlines()), "")
    if isinstance(error, OSError) and error.strerror:
        where = " and ".join(
            repr(os.fsdecode(n)) for n in (error.filename, error.filename2) if isinstance(n, str | bytes)
        )
        return DataError.code, f"{where or 'A file'} cannot be read or written: {error.strerror}."
    if isinstance(error, UnicodeError):
        return DataError.code, f"A file or name is not UTF-8 text: {text}."
    if isinstance(error, RecursionError):
        return UsageError.code, "A configuration refers to itself, or is nested too deeply."
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(text):
        return (
            1,
            f"This takes more memory than there is: {text or 'none is left'}. Take a smaller batch, size or network.",
        )
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit codes: 0 done, 1 failed, 2 usage, 3 data, 130 Ctrl-C, 143 stopped by a signal after saving."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return call(words)
    except BrokenPipeError:
        return 0
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        said = None if "DDLIGHT_DEBUG" in os.environ else plain(error, words)
        if said is None:
            raise
        code, text = said
        sys.stderr.write(f"ddlight: {text}\n")
        return code


if __name__ == "__main__":
    sys.exit(main())

"""The entry of the commands that train or condense: help and mistakes are answered before torch is imported."""

import sys

from ddlight.cli import words
from ddlight.cli.helping import help_of
from ddlight.cli.regime import with_regime
from ddlight.core import discover
from ddlight.core.imports import import_torchmetrics


def main(argv: list[str]) -> int:
    """Run fit, validate, test, condense, score, generator or experts: the command, then its options; its exit code.

    Raises:
        UsageError, DataError: what the user gave cannot be used.
    """
    _, (command, *options) = words.split_flags(argv)
    every = discover.sources()
    if text := help_of(command, options, every):
        sys.stdout.write(text)
        return 0
    words.Words(command, every).check(with_regime(options))
    import_torchmetrics()
    from ddlight.cli.command_line import run

    run(argv)
    return 0

"""Errors that a user can cause: what happened, the value given, what is allowed, the line to type."""

from collections.abc import Iterable
from difflib import get_close_matches

STOPPED = 143
"""Exit code of a process that saved what it did after a signal: 128 + SIGTERM."""


class DDLightError(Exception):
    """A mistake that is reported in one message, without a traceback. `code` is the exit code."""

    code = 1


class UsageError(DDLightError):
    """The command line or a configuration asks for something that cannot be done (exit code 2)."""

    code = 2


class BusyError(UsageError):
    """Another process is writing the run that was asked for (exit code 2)."""


class FinishedError(UsageError):
    """The run that was asked for has its result already (exit code 2)."""


class MissingSetError(UsageError):
    """The condensed set of a run is missing and takes long to make (exit code 2)."""


class DataError(DDLightError):
    """Data, weights or a condensed set are missing, wrong or damaged (exit code 3)."""

    code = 3


def nearest(word: str, choices: Iterable[str], n: int = 3) -> str:
    """Say which of `choices` come closest to `word`, or nothing where none does.

    >>> nearest("Randon", ["Random", "FullData"])
    ' Did you mean Random?'
    """
    by_lower = {c.lower(): c for c in choices}
    close = [by_lower[m] for m in get_close_matches(word.lower(), by_lower, n=n, cutoff=0.5)]
    if not close:
        return ""
    return f" Did you mean {' or '.join(filter(None, [', '.join(close[:-1]), close[-1]]))}?"

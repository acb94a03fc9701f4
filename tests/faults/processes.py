"""Commands of ddlight in processes that can be struck: forked from this one, whose imports they share, or real ones."""

import ctypes
import mmap
import multiprocessing
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENT = {
    "DDLIGHT_CACHE": "cache",
    "DDLIGHT_METHODS": str(HERE / "methods"),
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
}
sys.path.insert(0, str(ROOT))  # what is tested is the checkout that the harness lies in
PATIENCE = 180.0
"""Seconds after which a command is taken to hang."""
OPERATIONS = ("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.utime")


def warm() -> None:
    """Import once what every command imports, so that a forked one begins at once."""
    import sklearn.datasets  # noqa: F401
    import torch

    torch.set_num_threads(1)
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans come to this process


class Strike:
    """Counts the file operations of a process and of those that it forks, and sends a signal to the one at number `at`.

    An operation is a file opened for writing, flushed, renamed, linked or removed, a folder made or removed; the
    signal comes just before it is done. SIGKILL there is what a loss of power is; SIGSTOP lets others overtake.

    Args:
        at: number of the operation, from 1; 0 only counts.
        number: the signal.
        when: instead, kill all processes of the command at the first operation at which this is true.
    """

    def __init__(self, at: int = 0, number: int = signal.SIGKILL, when: Callable[[], bool] | None = None) -> None:
        self.at, self.number, self.when = at, number, when
        self.counted = mmap.mmap(-1, 8)

    @property
    def count(self) -> int:
        """Operations so far."""
        return int(struct.unpack("q", self.counted[:8])[0])

    def install(self) -> None:
        """Count from here on in this process."""
        sys.addaudithook(self._hear)
        fsync = os.fsync

        def counted(file: int) -> None:
            self._note()
            fsync(file)

        os.fsync = counted

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in OPERATIONS or (event == "open" and _writes(arguments)):
            self._note()

    def _note(self) -> None:
        count = self.count + 1
        self.counted[:8] = struct.pack("q", count)
        if count == self.at:
            os.kill(os.getpid(), self.number)
        if self.when is not None and self.when():
            os.killpg(0, signal.SIGKILL)


def _writes(arguments: tuple[object, ...]) -> bool:
    path, _, flags = arguments
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR)) and not str(path).startswith("/dev")


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        code: exit code; below 0 the signal that ended it, None where it hung and was killed.
        text: what it and its processes said.
        seconds: it took.
    """

    code: int | None
    text: str
    seconds: float


class Command:
    """A command line of ddlight in a session of its own, its working folder and cache in `home`.

    Args:
        words: after `ddlight`.
        home: the working folder; what is said goes beside its parent.
        strike: what ends it at a file operation; only in a forked process.
        real: start Python anew instead of forking.
    """

    def __init__(self, words: list[str], home: Path, strike: Strike | None = None, real: bool = False) -> None:
        self.log = home.parent.with_name(f"{home.name}.{time.monotonic_ns()}.log")
        self.begun = time.monotonic()
        self.code: int | None = None
        self.pid = self._begin_real(words, home) if real else self._fork(words, home, strike)

    def _begin_real(self, words: list[str], home: Path) -> int:
        with self.log.open("w") as log:
            environment = {**os.environ, **ENVIRONMENT}
            line = [sys.executable, "-m", "ddlight", *words]
            process = subprocess.Popen(
                line,
                cwd=home,
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        process.returncode = 0  # waited for here, not by subprocess
        return process.pid

    def _fork(self, words: list[str], home: Path, strike: Strike | None) -> int:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            try:
                self._become(home)
                os._exit(_call(words, strike))
            finally:
                os._exit(1)
        return pid

    def _become(self, home: Path) -> None:
        """Take on what a process has that a shell starts in `home`."""
        os.setsid()
        os.chdir(home)
        os.environ.update(ENVIRONMENT)
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)

    def stop(self, number: int, group: bool) -> bool:
        """Send a signal to the command, or to all its processes; say whether the command was still there."""
        if self._ended():
            return False
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)
        return True

    def _ended(self) -> bool:
        """Whether the command itself is gone."""
        if self.code is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if found else None
        return self.code is not None

    def _orphaned(self) -> bool:
        """Whether processes that it started are still there."""
        with suppress(ChildProcessError):
            while os.waitpid(-self.pid, os.WNOHANG)[0]:
                pass
            return True
        return False

    def go_on(self) -> None:
        """Let all its processes continue that were stopped by SIGSTOP."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGCONT)

    def ends_within(self, seconds: float) -> bool:
        """Whether the command itself ends within so many seconds."""
        end = time.monotonic() + seconds
        while not self._ended() and time.monotonic() < end:
            time.sleep(0.002)
        return self._ended()

    def wait(self) -> Ended:
        """Wait until it and all that it started have ended; what hangs is killed."""
        hung = False
        while not self._ended() or self._orphaned():
            if not hung and time.monotonic() - self.begun > PATIENCE:
                hung = True
                with suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
            time.sleep(0.002)
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return Ended(None if hung else self.code, text, time.monotonic() - self.begun)


def _call(words: list[str], strike: Strike | None) -> int:
    """Body of a forked command: what `python -m ddlight` does."""
    from ddlight import __main__ as cli
    from ddlight.studies import workers

    workers.multiprocessing = _Forking()
    if strike is not None:
        strike.install()
    try:
        code: object = cli.main(words)
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else 0


class _Forking:
    """Stands in for multiprocessing in a forked command: its workers fork too, lest each import torch anew.

    A forked worker closes the command's ends of all pipes, which one that is spawned never has.
    """

    def __init__(self) -> None:
        self.context = multiprocessing.get_context("fork")
        self.ends: list[Any] = []

    def get_context(self, method: str) -> "_Forking":
        """Itself, whatever is asked for."""
        return self

    def Pipe(self) -> tuple[Any, Any]:
        """A pipe whose first end is the command's."""
        own, theirs = self.context.Pipe()
        self.ends.append(own)
        return own, theirs

    def Process(self, target: Callable[..., None], args: tuple[Any, ...]) -> Any:
        """A worker."""

        def body(*given: Any) -> None:
            for end in self.ends:
                end.close()
            target(*given)

        return self.context.Process(target=body, args=args)


def run(words: list[str], home: Path, strike: Strike | None = None, real: bool = False) -> Ended:
    """Run a command to its end."""
    return Command(words, home, strike, real).wait()


def must(ended: Ended) -> Ended:
    """Give back how a command ended. Raises RuntimeError where it did not end well."""
    if ended.code != 0:
        raise RuntimeError(f"a command that nothing disturbed ended with {ended.code}:\n{ended.text}")
    return ended


def clean(home: Path) -> None:
    """Remove a working folder and what its commands said."""
    shutil.rmtree(home, ignore_errors=True)
    for log in home.parent.parent.glob(f"{home.name}.*.log"):
        log.unlink()

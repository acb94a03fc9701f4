"""Claims: which process does what of an artefact, said in files that other processes and other machines see."""

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ddlight.core import files

CLAIM_SECONDS = 60.0
"""A claim that was not renewed for this long belongs to nobody."""
PID = re.compile(r"[0-9]{1,9}")


class Claim:
    """A task that one process at a time works on.

    A process of this machine has it as long as it lives, one of another machine as long as it renews it. A lock of the
    file system would not do: not every cluster's file system has them, and who has one is seen on no other machine.

    Args:
        path: file that says who has it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self) -> bool:
        """Reserve the task for this process. False where a living process has it.

        Raises:
            DataError: the disk is full.
        """
        if self.path.exists():
            if self._alive():
                return False
            self.path.unlink(missing_ok=True)
        try:
            with self.path.open("x") as file:
                file.write(f"{socket.gethostname()} {os.getpid()} {born(os.getpid())}")
        except FileExistsError:
            return False
        except OSError as error:
            self.path.unlink(missing_ok=True)
            raise files.explain(error, self.path) from error
        return True

    def renew(self) -> None:
        """Say that this process still works on it, as `held` does by itself; a claim that is gone stays gone."""
        with suppress(OSError):
            os.utime(self.path)

    def release(self) -> None:
        """Give it back."""
        self.path.unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Renew a claim that was taken every quarter of CLAIM_SECONDS while the body runs, and give it back after."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(CLAIM_SECONDS / 4):
                self.renew()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.release()

    def _alive(self) -> bool:
        try:
            words = self.path.read_text(errors="replace").split()
            age = time.time() - self.path.stat().st_mtime
        except FileNotFoundError:
            return False
        if len(words) not in (2, 3) or words[0] != socket.gethostname() or not PID.fullmatch(words[1]):
            return age < CLAIM_SECONDS
        return born(int(words[1])) == words[2] if len(words) == 3 else _running(int(words[1]))


def born(pid: int) -> str:
    """When a process started, in clock ticks: in a restarted container another one soon has the same number.

    "" for one that is gone or a zombie, and for all where there is no /proc.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

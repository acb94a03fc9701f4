"""Worker processes that run the cells of a study one after another, each starting Python and torch once."""

import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Literal

from ddlight.core.errors import STOPPED, BusyError, DDLightError, FinishedError, MissingSetError
from ddlight.core.files import make_folder
from ddlight.core.result import FILE
from ddlight.studies.study import FAILED, RECORD, Cell, note, read_result
from ddlight.train.callbacks.checkpoint import requeue

AGAIN = 5.0
"""Seconds after which workers are asked again to stop: a run hears it only while it trains."""

Runner = Callable[[list[str]], object]


@dataclass(frozen=True)
class Outcome:
    """How a cell ended; busy: another process is running it. The text is accuracy and time, the error, or why not."""

    cell: Cell
    word: Literal["done", "failed", "stopped", "busy"]
    text: str


def train(arguments: list[str], threads: int) -> None:
    """Run one command line of ddlight in this process; a condensed set that `fit` finds missing and long is made first.

    `threads` are those of torch and the numerical libraries, which read the environment when they are imported.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch
    from torch import distributed

    from ddlight.cli import command_line
    from ddlight.train.tracking import finish_wandb

    torch.set_num_threads(threads)
    with suppress(OSError):  # peak memory counts from here, not from the cells before
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    environment = dict(os.environ)
    sys.argv[1:] = arguments  # what Lightning gives to the other ranks of a run on several devices
    try:
        try:
            command_line.run(arguments)
        except MissingSetError:
            command_line.run(["condense", *arguments[1:]])
            command_line.run(arguments)
    finally:
        # a run on several devices leaves these behind, and the next one would take itself for one of its ranks
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()
        os.environ.clear()
        os.environ.update(environment)
        finish_wandb()


# --- in the worker ---


def work(pipe: Connection, run: Runner) -> None:
    """Body of a worker: run the cells that come through the pipe until it closes.

    Ctrl-C reaches every process of the terminal, so that workers leave it to the command, which sends them SIGTERM.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _hear()
    with suppress(EOFError, OSError):
        while True:
            pipe.send(attempt(pipe.recv(), run))


def _hear() -> None:
    """Take the signals that a run may have left changed."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(STOPPED)

    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, stop)


def attempt(cell: Cell, run: Runner) -> Outcome:
    """Run a cell, the process's output from here on in the folder's `log.txt`; say how it ended, whatever it raises.

    A cell that another process has finished in the meantime is done; one that another is running is left to it.
    """
    start = time.perf_counter()
    make_folder(cell.run)
    sys.stdout.flush()
    sys.stderr.flush()
    with (cell.run / "log.txt").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        if not (cell.run / FILE).exists():
            with suppress(FinishedError):  # by another process, a moment ago
                run(list(cell.arguments))
        acc = read_result(cell).acc.test
    except SystemExit as end:
        if end.code == STOPPED:
            return Outcome(cell, "stopped", "")
        return Outcome(cell, "failed", f"The run ended with exit code {end.code}.")
    except BusyError:
        return Outcome(cell, "busy", "being run by another process")
    except DDLightError as error:
        sys.stderr.write(f"ddlight: {error}\n")
        return Outcome(cell, "failed", str(error))
    except Exception as error:
        traceback.print_exc()
        return Outcome(cell, "failed", f"{type(error).__name__}: {error}")
    finally:
        _hear()
        gc.collect()
    return Outcome(cell, "done", f"acc {acc:.1f} % ({time.perf_counter() - start:.0f} s)")


# --- in the command ---


class Worker:
    """A process and what it works on."""

    def __init__(self, run: Runner) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, run))
        self.process.start()
        theirs.close()
        self.cell: Cell | None = None

    def start(self, cell: Cell) -> None:
        """Give it a cell."""
        note(cell, RECORD, digest=cell.digest)
        self.cell = cell
        with suppress(BrokenPipeError):
            self.pipe.send(cell)

    def outcome(self) -> Outcome:
        """How its cell ended, once the pipe has something to say; a process that died says it by its exit code."""
        cell, self.cell = self.cell, None
        assert cell is not None
        try:
            outcome = self.pipe.recv()
            assert isinstance(outcome, Outcome)
            return outcome
        except (EOFError, OSError):
            self.process.join()
        code = self.process.exitcode or 0
        if code in (STOPPED, -signal.SIGTERM):
            return Outcome(cell, "stopped", "")
        killed = (
            f"was killed by signal {-code}, as where memory runs out" if code < 0 else f"ended with exit code {code}"
        )
        return Outcome(cell, "failed", f"The worker process {killed}.")


@contextmanager
def _stop_requests() -> Iterator[list[tuple[int, float]]]:
    """Note Ctrl-C, SIGTERM and SIGUSR1, with the second in which they came, instead of ending the process."""
    requests: list[tuple[int, float]] = []

    def add(number: int, frame: FrameType | None) -> None:
        requests.append((number, time.monotonic()))

    previous = {number: signal.signal(number, add) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield requests
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Pool:
    """Cells that wait, in the order in which they are begun, and the workers that run them."""

    def __init__(self, cells: Sequence[Cell], jobs: int, run: Runner) -> None:
        self.waiting, self.jobs, self.run = list(cells), jobs, run
        self.workers: list[Worker] = []
        self.failed: set[Path] = set()
        self.elsewhere: set[Path] = set()
        self.stopping = False
        self._asked = 0.0

    @property
    def busy(self) -> list[Worker]:
        """Workers that have a cell."""
        return [worker for worker in self.workers if worker.cell is not None]

    def begin(self) -> None:
        """Give every free worker a cell whose needs are met."""
        while len(self.busy) < self.jobs and (cell := self._ready()) is not None:
            self.waiting.remove(cell)
            free = next((w for w in self.workers if w.cell is None and w.process.is_alive()), None)
            if free is None:
                free = Worker(self.run)
                self.workers.append(free)
            free.start(cell)

    def _ready(self) -> Cell | None:
        unmade = {cell.run for cell in self.waiting} | {w.cell.run for w in self.busy if w.cell is not None}
        return next((cell for cell in self.waiting if not unmade.intersection(cell.needs)), None)

    def given_up(self) -> Iterator[Outcome]:
        """Cells that wait for a run that has failed, or that another process is running; they are left as they are."""
        for cell in list(self.waiting):  # in order, so that a run comes before those that need it
            if failed := [need for need in cell.needs if need in self.failed]:
                self.waiting.remove(cell)
                self.failed.add(cell.run)
                yield Outcome(cell, "failed", f"not run, since {failed[0]} failed")
            elif elsewhere := [need for need in cell.needs if need in self.elsewhere]:
                self.waiting.remove(cell)
                self.elsewhere.add(cell.run)
                yield Outcome(cell, "busy", f"not run, since {elsewhere[0]} is being run by another process")

    def ended(self, seconds: float) -> Iterator[Outcome]:
        """Wait for so long at most and return how cells ended; what fails while all is being stopped was stopped."""
        said = wait([worker.pipe for worker in self.busy], seconds)
        for worker in [worker for worker in self.busy if worker.pipe in said]:
            outcome = worker.outcome()
            if outcome.word == "failed" and self.stopping:
                outcome = replace(outcome, word="stopped")
            if outcome.word == "failed":
                self.failed.add(outcome.cell.run)
                note(outcome.cell, FAILED, error=outcome.text)
            elif outcome.word == "done":
                (outcome.cell.run / FAILED).unlink(missing_ok=True)  # of an earlier try
            elif outcome.word == "busy":
                self.elsewhere.add(outcome.cell.run)
            else:
                self.stop(0)
            yield outcome

    def stop(self, requests: int) -> None:
        """Begin nothing more and ask the workers to save and end; at the second request end them at once."""
        self.stopping = True
        self.waiting.clear()
        if requests > 1 or time.monotonic() - self._asked > AGAIN:
            self._asked = time.monotonic()
            for worker in self.busy:
                (worker.process.kill if requests > 1 else worker.process.terminate)()


def run_cells(cells: Sequence[Cell], jobs: int, run: Runner) -> Iterator[Outcome]:
    """Run cells in worker processes; yield how each one ended, as it ends.

    A cell begins once the runs that it needs are there. One that another process is running is left to it, and so are
    those that need it. A failing one writes `failed.json`, and the others go on; so they do where a worker process
    dies. After Ctrl-C or SIGTERM no cell begins, those in work save and end as "stopped"; a second signal ends them at
    once, and they continue from their last checkpoint. A worker that someone else stops stops the others too. After
    SIGUSR1, SLURM's warning before the end of the time, the job is put back into the queue, where it continues.

    There are `jobs` worker processes, each of which must be able to import `run`, which makes a run from its arguments.
    """
    pool = Pool(cells, jobs, run)
    try:
        with _stop_requests() as requests:
            while pool.waiting or pool.busy:
                if requests:  # those within a second count once: `timeout` signals a process and then its group
                    pool.stop(1 + sum(later - earlier > 1 for (_, earlier), (_, later) in pairwise(requests)))
                pool.begin()
                yield from pool.ended(0.5)
                yield from pool.given_up()
            warned = any(number == signal.SIGUSR1 for number, _ in requests)
            if warned and pool.stopping and "SLURM_JOB_ID" in os.environ:
                requeue(os.environ["SLURM_JOB_ID"])
    finally:
        for worker in pool.workers:  # a process ends when its pipe is closed, or at the next step of its run
            worker.pipe.close()
            if worker.cell is not None:
                worker.process.terminate()

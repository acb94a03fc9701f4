"""Worker processes that run the cells of a study one after another, each starting Python and torch once."""

import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal

from ddlight.core.errors import STOPPED, BusyError, DDLightError, FinishedError, MissingSetError
from ddlight.core.files import make_folder
from ddlight.core.result import FILE
from ddlight.studies.study import Cell, note_failure, note_start, note_success, read_result
from ddlight.train.callbacks.checkpoint import requeue

AGAIN = 5.0
"""Seconds after which workers are asked again to stop: a run hears it only while it trains."""

Runner = Callable[[list[str]], object]


@dataclass(frozen=True)
class Outcome:
    """How a cell ended.

    Args:
        cell: the cell.
        word: done, failed, stopped by a signal, or busy: another process is running it.
        text: accuracy and time, the error, or why it was not run.
    """

    cell: Cell
    word: Literal["done", "failed", "stopped", "busy"]
    text: str


def train(arguments: list[str], threads: int) -> None:
    """Run one command line of ddlight in this process; a condensed set that `fit` finds missing and long is made first.

    Args:
        arguments: command and options.
        threads: of torch and the numerical libraries, which read the environment when they are imported.
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
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(STOPPED)


def attempt(cell: Cell, run: Runner) -> Outcome:
    """Run a cell, its output in the folder's `log.txt`, and say how it ended, whatever it raises.

    A cell that another process has finished in the meantime is done; one that another is running is left to it.
    """
    start = time.perf_counter()
    write_to(cell.run / "log.txt")
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


def write_to(path: Path) -> None:
    """Let everything that this process writes from here on go to the end of a file."""
    make_folder(path.parent)
    sys.stdout.flush()
    sys.stderr.flush()
    with path.open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


# --- in the command ---


class Worker:
    """A process and what it works on.

    Args:
        run: what makes a run from its arguments; it must be importable.
    """

    def __init__(self, run: Runner) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, run))
        self.process.start()
        theirs.close()
        self.cell: Cell | None = None

    def start(self, cell: Cell) -> None:
        """Give it a cell."""
        note_start(cell)
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

    def end(self) -> None:
        """Let it go: its process ends when the pipe is closed, or at the next step of its run."""
        self.pipe.close()
        if self.cell is not None:
            self.process.terminate()


class Stopping:
    """Counts the requests to stop (Ctrl-C, SIGTERM, SIGUSR1) while it is entered, instead of ending the process.

    `warned` says whether SIGUSR1 was among them.

    Those within a second count once: `timeout` signals a process and then its group.
    """

    def __init__(self) -> None:
        self.count, self.warned = 0, False
        self._last = -1.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Stopping":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        self.warned |= number == signal.SIGUSR1
        self.count += self._last < 0 or now - self._last > 1
        self._last = now


class Pool:
    """Cells that wait, workers that run them.

    Args:
        cells: in the order in which they are begun.
        jobs: number of processes.
        run: as `Worker`.
    """

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
            self._free().start(cell)

    def _free(self) -> Worker:
        """A worker without a cell, started where there is none."""
        for worker in self.workers:
            if worker.cell is None and worker.process.is_alive():
                return worker
        self.workers.append(Worker(self.run))
        return self.workers[-1]

    def _ready(self) -> Cell | None:
        unmade = {cell.run for cell in self.waiting} | {w.cell.run for w in self.busy if w.cell is not None}
        return next((cell for cell in self.waiting if not unmade.intersection(cell.needs)), None)

    def given_up(self) -> Iterator[Outcome]:
        """Cells that wait for a run that has failed, or that another process is running; they are left as they are."""
        while cell := next((cell for cell in self.waiting if self._lost(cell)), None):
            self.waiting.remove(cell)
            lost = self._lost(cell)
            if lost in self.failed:
                self.failed.add(cell.run)
                yield Outcome(cell, "failed", f"not run, since {lost} failed")
            else:
                self.elsewhere.add(cell.run)
                yield Outcome(cell, "busy", f"not run, since {lost} is being run by another process")

    def _lost(self, cell: Cell) -> Path | None:
        """A run that a cell needs and that this command does not make; one that failed comes first."""
        lost = [need for runs in (self.failed, self.elsewhere) for need in cell.needs if need in runs]
        return lost[0] if lost else None

    def ended(self, seconds: float) -> Iterator[Outcome]:
        """Wait for so long at most and return how cells ended; what fails while all is being stopped was stopped."""
        said = wait([worker.pipe for worker in self.busy], seconds)
        for worker in [worker for worker in self.busy if worker.pipe in said]:
            outcome = worker.outcome()
            if outcome.word == "failed" and self.stopping:
                outcome = replace(outcome, word="stopped")
            self._note(outcome)
            yield outcome

    def _note(self, outcome: Outcome) -> None:
        if outcome.word == "failed":
            self.failed.add(outcome.cell.run)
            note_failure(outcome.cell, outcome.text)
        elif outcome.word == "done":
            note_success(outcome.cell)
        elif outcome.word == "busy":
            self.elsewhere.add(outcome.cell.run)
        else:
            self.stop(0)

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

    Args:
        cells: in the order in which they are begun.
        jobs: number of worker processes.
        run: makes a run from its arguments, in the worker process; it must be importable there.
    """
    pool = Pool(cells, jobs, run)
    try:
        with Stopping() as stopping:
            while pool.waiting or pool.busy:
                if stopping.count:
                    pool.stop(stopping.count)
                pool.begin()
                yield from pool.ended(0.5)
                yield from pool.given_up()
            if stopping.warned and pool.stopping and "SLURM_JOB_ID" in os.environ:
                requeue(os.environ["SLURM_JOB_ID"])
    finally:
        for worker in pool.workers:
            worker.end()

"""`ddlight grid STUDY.yaml`: run every cell of a study that has no result yet. `study.py` documents the file."""

import argparse
import io
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from ddlight.cli.configs import find_config
from ddlight.core.errors import STOPPED, DDLightError, UsageError, nearest
from ddlight.studies.emit import RUNS, TaskCommand, array, put, sweep
from ddlight.studies.slurm import Job, add_resources
from ddlight.studies.study import Cell, Study, check_unchanged, first_line, read_study, state
from ddlight.studies.workers import Outcome, Runner, run_cells, train

SMALL_STEP = 0.05
"""Seconds of a training step on all cores below which several runs at once are faster than one."""
RESOURCES = ("gpus", "cpus", "time", "partition", "account", "logs")
"""Options of a SLURM job."""
MOST_JOBS = 4
"""Worker processes that are started where nothing is said."""


def main(argv: Sequence[str]) -> int:
    """Run `ddlight grid` with the arguments after the command's name.

    Returns:
        0; 1 where a cell failed, or is left to another process that has not finished it; 143 where a signal stopped
            the command.

    Raises:
        DataError: the study is missing or damaged.
        UsageError: the study says something that cannot be, names a config that is missing or damaged, has changed
            since it was run, or no cell is chosen.
    """
    options = _parser().parse_args(list(argv))
    options.study = find_config(options.study, "studies")
    resources = {name: value for name, value in vars(options).items() if name in RESOURCES}
    _check(options, resources)
    cells = _chosen(options)
    check_unchanged(cells)
    if options.emit:
        only = tuple(options.only or [])
        task = TaskCommand(options.study, options.runs, options.tiny, only, options.wandb, options.out)
        job = Job(str(options.study), "grid", **resources)
        text = sweep(task, cells) if options.emit == "wandb" else array(task, cells, job, options.jobs)
        put(text, options.out)
        return 0
    if options.list:
        sys.stdout.write("\n".join(listing(cells)) + "\n")
        return 0
    todo = [cell for cell in cells if state(cell).word != "done"]
    jobs = options.jobs or (choose_jobs(todo) if not options.tiny else 1)
    if options.estimate:
        sys.stdout.write("\n".join(estimates(cells, jobs)) + "\n")
        return 0
    code = run_study(cells, todo, jobs, partial(train, threads=threads_of(jobs)))
    if code == STOPPED:
        sys.stdout.write(f"Stopped. The same command continues:\n  ddlight grid {shlex.join(argv)}\n")
    return code


def _check(options: argparse.Namespace, resources: dict[str, Any]) -> None:
    """Refuse options that do not go together. Raises UsageError."""
    if options.jobs is not None and options.jobs < 1:
        raise UsageError(f"--jobs is {options.jobs}; it takes 1 or more: --jobs 1")
    if (resources and options.emit != "slurm") or (options.out and not options.emit):
        given = f"--{next(iter(resources), 'out')}"
        raise UsageError(f"{given} is an option of --emit{' slurm' if resources else ''}: add that, or leave it out.")
    if options.list and (options.jobs is not None or options.wandb):
        given = f"--jobs {options.jobs}" if options.jobs is not None else f"--wandb {options.wandb}"
        raise UsageError(f"--list runs nothing and takes no {given}: leave out one of the two.")
    if options.emit and options.before:
        raise UsageError("What --emit writes begins with the runs that cells need: leave out --before.")
    if options.emit == "wandb" and options.jobs is not None:
        raise UsageError(
            f"--jobs is {options.jobs}; a sweep runs as many cells at once as it has agents: leave out --jobs, "
            "and start as many agents."
        )


def _chosen(options: argparse.Namespace) -> list[Cell]:
    """The runs that the command is about, those that others need first."""
    runs = options.runs / "tiny" if options.tiny else options.runs
    study = read_study(options.study, runs, options.tiny)
    cells = select(study, options.only or [])
    if options.before:
        cells = [cell for cell in cells if not cell.values]
    if not cells:
        raise UsageError(f"No cell of {study.name} needs a run before it: leave out --before.")
    if options.wandb:
        logged = f"--wandb={options.wandb}"
        cells = [replace(c, arguments=(*c.arguments, logged)) if c.values else c for c in cells]
    return cells


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ddlight grid",
        description="Run every cell of a study that has no result yet; a stopped one continues.",
        epilog="The form of a study: pydoc ddlight.studies.study",
        allow_abbrev=False,
    )
    parser.add_argument("study", type=Path, metavar="STUDY.yaml", help="the study")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="show where each cell stands, and stop")
    instead.add_argument("--estimate", action="store_true", help="show the time that is left, and stop")
    instead.add_argument("--emit", choices=["wandb", "slurm"], help="write a W&B sweep or a SLURM job array, and stop")
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="worker processes (chosen by the size of a step); with --emit slurm, tasks of the array at once (all)",
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="PATTERN",
        help="cells with this name or value, such as HL, ipc10 or 'HL-*-set0'; repeated: all must fit",
    )
    parser.add_argument("--before", action="store_true", help="only the runs that the chosen cells need")
    parser.add_argument("--wandb", metavar="PROJECT", help="W&B project that every cell logs to")
    parser.add_argument("--runs", type=Path, default=RUNS, metavar="FOLDER", help="folder of runs (runs)")
    parser.add_argument("--tiny", action="store_true", help="run every cell with --tiny, under FOLDER/tiny")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file that --emit writes (the terminal)")
    slurm = parser.add_argument_group("with --emit slurm")
    slurm.add_argument("--gpus", type=int, default=argparse.SUPPRESS, help="GPUs of a cell: 1, or 0 for a CPU job (1)")
    add_resources(slurm)
    return parser


def select(study: Study, patterns: Sequence[str]) -> list[Cell]:
    """Return the cells that fit all shell patterns, by their whole name or one of its words, and what they need.

    A pattern that is the whole name of a cell fits that cell alone.

    Raises:
        UsageError: none fits.
    """
    whole = {cell.name for cell in study.cells}
    chosen = [c for c in study.cells if all(_fits(c, pattern, pattern in whole) for pattern in patterns)]
    if not chosen:
        words = list(dict.fromkeys(word for cell in study.cells for word in cell.words))
        close = nearest(patterns[-1], words) if patterns else ""
        raise UsageError(
            f"No cell of {study.name} fits --only {' '.join(patterns)}.{close} Values: {', '.join(words)}."
        )
    needed = {run for cell in chosen for run in cell.needs}
    for cell in reversed(study.before):
        needed |= set(cell.needs) if cell.run in needed else set()
    return [*(c for c in study.before if c.run in needed or not patterns), *chosen]


def _fits(cell: Cell, pattern: str, whole: bool) -> bool:
    return cell.name == pattern if whole else any(fnmatchcase(text, pattern) for text in (cell.name, *cell.words))


def listing(cells: Sequence[Cell]) -> list[str]:
    """One line per cell with where it stands, and the number of cells per state."""
    states = [state(cell) for cell in cells]
    lines = []
    for cell, s in zip(cells, states, strict=True):
        acc = f"acc {s.acc:.1f} %" if s.word == "done" else ""
        lines.append(f"{s.word:<11}{acc:<13}{' '.join(cell.words)}{f': {s.note}' if s.note else ''}")
    words = [s.word for s in states]
    counts = [f"{words.count(word)} {word}" for word in dict.fromkeys(words)]
    return [*lines, f"{len(cells)} runs: {', '.join(counts)}"]


# --- running ---


def run_study(cells: Sequence[Cell], todo: Sequence[Cell], jobs: int, run: Runner) -> int:
    """Run what is left of a study, one line of progress for each finished cell; return the exit code.

    Args:
        cells: all cells that were chosen.
        todo: those without a result.
        jobs: worker processes.
        run: see `workers.run_cells`.
    """
    count = len(cells) - len(todo)
    jobs = min(jobs, max(1, len(todo)))
    _say(f"{len(cells)} runs: {count} done, {len(todo)} to go, {jobs} at a time")
    outcomes = []
    for outcome in run_cells(todo, jobs, run):
        outcomes.append(outcome)
        count += outcome.word != "stopped"
        _say(progress(outcome, count, len(cells)))
    if len(outcomes) < len(todo) or any(outcome.word == "stopped" for outcome in outcomes):
        return STOPPED
    left = [outcome.cell for outcome in outcomes if outcome.word == "busy"]
    failed = any(outcome.word == "failed" for outcome in outcomes)
    return 1 if failed or any(state(cell).word != "done" for cell in left) else 0


def progress(outcome: Outcome, count: int, total: int) -> str:
    """The line of a cell that ended: '12/36 HL ipc10 set2: acc 51.3 % (14 s)'."""
    name = f"{count}/{total} {' '.join(outcome.cell.words)}"
    if outcome.word != "failed":
        return f"{name}: {outcome.text or outcome.word}"
    log = outcome.cell.run / "log.txt"
    return f"{name}: failed: {first_line(outcome.text)}{f' (log: {log})' if log.exists() else ''}"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


# --- how many at once, and how long ---


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of(jobs: int) -> int:
    """Threads of each of `jobs` worker processes: its share of the cores, at most OMP_NUM_THREADS."""
    most = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores() // jobs, int(most) if most.isdigit() else cores()))


def default_jobs(cores: int, step_seconds: float | None, cuda: bool) -> int:
    """How many cells to run at once where `--jobs` does not say.

    Steps of small networks do not get faster with more threads, so that several runs of one thread each are done
    sooner; large ones use all cores by themselves, and a second one would only take memory.

    Args:
        cores: CPU cores.
        step_seconds: of a training step with one thread; None where it is not known.
        cuda: there is a GPU, which the cells would share; ask for it with `--jobs`.
    """
    if cuda or step_seconds is None or step_seconds / cores >= SMALL_STEP:
        return 1
    return min(cores, MOST_JOBS)


def choose_jobs(todo: Sequence[Cell]) -> int:
    """`default_jobs` for what is left of a study, by a step of its first cell."""
    if len(todo) < 2 or cores() == 1:
        return 1
    import torch

    cuda = torch.cuda.is_available()
    estimate = None if cuda else measure(next((cell for cell in todo if cell.values), todo[0]), threads=1)
    return default_jobs(cores(), estimate.step if estimate else None, cuda)


@dataclass(frozen=True)
class Estimate:
    """Estimated time of a run.

    Args:
        seconds: of training.
        step: seconds of one step.
    """

    seconds: float
    step: float


def measure(cell: Cell, threads: int) -> Estimate | None:
    """Estimate a run from one measured step (`dry_run.estimate`); None where it cannot be read or its size is open.

    The step is measured with one thread too, and the shorter time counts: on a busy machine threads wait for each
    other, and the measurement would say hours for minutes.

    Args:
        cell: the run.
        threads: of torch.
    """
    import torch

    from ddlight.cli import command_line
    from ddlight.cli.dry_run import estimate

    logging.disable(logging.INFO)
    try:
        with redirect_stdout(io.StringIO()):
            cli = command_line.run([*cell.arguments, "--dry-run"])
        model, data = cli.model, cli.datamodule
        images, full_images = data.expected_images, data.dataset.info.train
        if not images or not full_images:
            return None
        run = model.resolve_run(data, images, full_images)
        device, ranks, times = cli.trainer.strategy.root_device, cli.trainer.world_size, []
        for count in {1, threads}:
            torch.set_num_threads(count)
            times.append(estimate(run, model, data, device, ranks).seconds)
        return Estimate(min(times), min(times) / run.steps)
    except DDLightError:
        return None
    finally:
        logging.disable(logging.NOTSET)


def estimates(cells: Sequence[Cell], jobs: int) -> list[str]:
    """Lines with the time that every kind of cell takes, in all, and by worker process.

    Cells that differ in their set alone are one kind. Its time is the mean of those that are done, else estimated.

    Args:
        cells: all cells that were chosen.
        jobs: worker processes.
    """
    kinds: dict[str, list[Cell]] = {}
    for cell in cells:
        kinds.setdefault(cell.kind, []).append(cell)
    wide = max(map(len, kinds))
    lines = [f"{'':<{wide}}  {'left':>9}  {'each':>8}  {'together':>8}"]
    total, unknown = 0.0, False
    for name, members in kinds.items():
        left, seconds, source = _time_of(members, threads_of(jobs))
        total += left * (seconds or 0.0)
        unknown = unknown or seconds is None
        each, together = ("-", "-") if seconds is None else (_duration(seconds), _duration(left * seconds))
        times = f"{each:>8}  {together:>8}"
        lines.append(f"{name:<{wide}}  {f'{left} of {len(members)}':>9}  {times}  {source}")
    both = f"{_duration(total)} in all, {_duration(total / jobs)} for each of {jobs} jobs"
    if unknown:
        both += ", without what is not known ('ddlight fit ... --dry-run' says why)"
    return [*lines, f"{both}. Estimated is training alone, without teachers that are still to be trained."]


def _time_of(members: Sequence[Cell], threads: int) -> tuple[int, float | None, str]:
    """Cells of one kind that are left, seconds of each (None where they cannot be measured), and where that is from."""
    spent = [s.seconds for s in map(state, members) if s.word == "done"]
    left = len(members) - len(spent)
    if spent:
        return left, fmean(spent), f"measured in {len(spent)}"
    estimate = measure(members[0], threads)
    return (left, estimate.seconds, "estimated") if estimate else (left, None, "not known")


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))

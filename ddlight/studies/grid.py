"""`ddlight grid STUDY.yaml`: run every cell of a study that has no result yet. `study.py` documents the file."""

import argparse
import io
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from ddlight.cli.configs import find_config
from ddlight.core.errors import STOPPED, DDLightError, UsageError, nearest
from ddlight.studies.emit import RUNS, array, sweep
from ddlight.studies.slurm import Job, add_resources, put
from ddlight.studies.study import Cell, Study, check_unchanged, first_line, read_study, state
from ddlight.studies.workers import Runner, run_cells, train

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
    """
    options = _parser().parse_args(list(argv))
    options.study = find_config(options.study, "studies")
    resources = {name: value for name, value in vars(options).items() if name in RESOURCES}
    _check(options, resources)
    cells = _chosen(options)
    check_unchanged(cells)
    if options.emit:
        job = Job(str(options.study), "grid", **resources)
        text = sweep(options, cells) if options.emit == "wandb" else array(options, cells, job)
        if options.out is None:
            sys.stdout.write(text)
        else:
            put(text, options.out, "grid")
        return 0
    if options.list:
        _say(*listing(cells))
        return 0
    todo = [cell for cell in cells if state(cell).word != "done"]
    jobs = options.jobs or (choose_jobs(todo) if not options.tiny else 1)
    if options.estimate:
        _say(*estimates(cells, jobs))
        return 0
    code = run_study(cells, todo, jobs, partial(train, threads=threads_of(jobs)))
    if code == STOPPED:
        _say("Stopped. The same command continues:", f"  ddlight grid {shlex.join(argv)}")
    return code


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


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
    study = read_study(options.study, options.runs / "tiny" if options.tiny else options.runs, options.tiny)
    cells = select(study, options.only or [])
    if options.before:
        cells = [cell for cell in cells if not cell.values]
    if not cells:
        raise UsageError(f"No cell of {study.name} needs a run before it: leave out --before.")
    if options.root is not None:
        if not options.root.is_dir():
            raise UsageError(f"--root: there is no folder {options.root}. Name the one that holds the study's images.")
        cells = [replace(c, arguments=(*c.arguments, _root(c, options.root.absolute()))) for c in cells]
    if options.wandb:
        logged = f"--wandb={options.wandb}"
        cells = [replace(c, arguments=(*c.arguments, logged)) if c.values else c for c in cells]
    return cells


def _root(cell: Cell, folder: Path) -> str:
    """The option that says where a cell's images lie, which is no part of what it asks for."""
    dataset = cell.overrides.get("data.dataset")
    wrapped = isinstance(dataset, dict) and "dataset" in (dataset.get("init_args") or {})  # NoisyLabels of another
    return f"--data.dataset.{'dataset.' * wrapped}root={folder}"


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
    parser.add_argument(
        "--root",
        type=Path,
        metavar="FOLDER",
        help="folder of the real images: that of a dataset, or of several ($DDLIGHT_DATA)",
    )
    parser.add_argument("--runs", type=Path, default=RUNS, metavar="FOLDER", help="folder of runs (runs)")
    parser.add_argument("--tiny", action="store_true", help="run every cell with --tiny, under FOLDER/tiny")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file that --emit writes (the terminal)")
    slurm = parser.add_argument_group("with --emit slurm")
    slurm.add_argument("--gpus", type=int, default=argparse.SUPPRESS, help="GPUs of a cell: 1, or 0 for a CPU job (1)")
    add_resources(slurm)
    return parser


def select(study: Study, patterns: Sequence[str]) -> list[Cell]:
    """Return the cells that fit all shell patterns, by their whole name or one of its words, and what they need.

    A pattern that is the whole name of a cell fits that cell alone. Raises UsageError where none fits.
    """
    whole = {cell.name for cell in study.cells}

    def fits(cell: Cell, pattern: str) -> bool:
        return cell.name == pattern or (
            pattern not in whole and any(fnmatchcase(text, pattern) for text in (cell.name, *cell.words))
        )

    chosen = [cell for cell in study.cells if all(fits(cell, pattern) for pattern in patterns)]
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
    """Run those of the cells that have no result, with a line for each that ends: '12/36 HL ipc10 set2: acc 51.3 %'.

    Returns:
        The exit code.
    """
    count = len(cells) - len(todo)
    jobs = min(jobs, max(1, len(todo)))
    _say(f"{len(cells)} runs: {count} done, {len(todo)} to go, {jobs} at a time")
    outcomes = []
    for outcome in run_cells(todo, jobs, run):
        outcomes.append(outcome)
        count += outcome.word != "stopped"
        text, log = outcome.text or outcome.word, outcome.cell.run / "log.txt"
        if outcome.word == "failed":
            text = f"failed: {first_line(outcome.text)}{f' (log: {log})' if log.exists() else ''}"
        _say(f"{count}/{len(cells)} {' '.join(outcome.cell.words)}: {text}")
    if len(outcomes) < len(todo) or any(outcome.word == "stopped" for outcome in outcomes):
        return STOPPED
    left = [outcome.cell for outcome in outcomes if outcome.word == "busy"]
    failed = any(outcome.word == "failed" for outcome in outcomes)
    return 1 if failed or any(state(cell).word != "done" for cell in left) else 0


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
    sooner; large ones (by the seconds of a step with one thread, where these are known) use all cores by themselves,
    and a second one would only take memory. A GPU would be shared by the cells: ask for that with `--jobs`.
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
    times = None if cuda else measure(next((cell for cell in todo if cell.values), todo[0]), threads=1)
    return default_jobs(cores(), times[1] if times else None, cuda)


def measure(cell: Cell, threads: int) -> tuple[float, float] | None:
    """Estimate seconds of a run's training and of one step (`dry_run.estimate`); None where it cannot be read.

    None too where its size is open. The step is measured with one thread too, and the shorter time counts: on a busy
    machine threads wait for each other, and the measurement would say hours for minutes.
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
        return min(times), min(times) / run.steps
    except DDLightError:
        return None
    finally:
        logging.disable(logging.NOTSET)


def estimates(cells: Sequence[Cell], jobs: int) -> list[str]:
    """Lines with the time that every kind of cell takes, in all, and by worker process.

    Cells that differ in their set alone are one kind. Its time is the mean of those that are done, else estimated.
    """
    kinds: dict[str, list[Cell]] = {}
    for cell in cells:
        kinds.setdefault(cell.kind, []).append(cell)
    wide = max(map(len, kinds))
    lines = [f"{'':<{wide}}  {'left':>9}  {'each':>8}  {'together':>8}"]
    total, unknown = 0.0, False
    for name, members in kinds.items():
        spent = [s.seconds for s in map(state, members) if s.word == "done"]
        left, each, together, source = len(members) - len(spent), "-", "-", "not known"
        times = (fmean(spent), 0.0) if spent else measure(members[0], threads_of(jobs))
        if times:
            total += left * times[0]
            each, together = _duration(times[0]), _duration(left * times[0])
            source = f"measured in {len(spent)}" if spent else "estimated"
        unknown = unknown or times is None
        lines.append(f"{name:<{wide}}  {f'{left} of {len(members)}':>9}  {each:>8}  {together:>8}  {source}")
    both = f"{_duration(total)} in all, {_duration(total / jobs)} for each of {jobs} jobs"
    if unknown:
        both += ", without what is not known ('ddlight fit ... --dry-run' says why)"
    return [*lines, f"{both}. Estimated is training alone, without teachers that are still to be trained."]


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))

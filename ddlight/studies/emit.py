"""`ddlight grid STUDY.yaml --emit wandb|slurm`: a study's cells as a W&B sweep or as SLURM jobs, one cell a task.

A value of an axis sets several options, so that a sweep's product of options is not a study's product of axes: the
sweep has one parameter, the cell, and every task is `ddlight grid STUDY.yaml --only=CELL`. So it makes a set that takes
long before its run, and does nothing where the cell has its result.

Cells that failed or were stopped: a job array that is submitted again continues with them. A W&B grid sweep hands out
each value once and never again; a new sweep of the same file makes what is left, and skips cells with a result.
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from ddlight.core import files
from ddlight.core.errors import UsageError
from ddlight.studies.slurm import Job, check, launch, script
from ddlight.studies.study import Cell

MARK = "# Written by `ddlight grid`"
PROJECT, RUNS = "ddlight", Path("runs")
END = "END_OF_JOB"


@dataclass(frozen=True)
class TaskCommand:
    """The command line of a task, which repeats parts of the one that was typed.

    Args:
        study: the study file, as it was given.
        runs: folder of runs.
        tiny: `--tiny`.
        only: patterns of `--only`.
        wandb: W&B project of the cells; None logs to none.
        out: file that is written; None is the terminal.
    """

    study: Path
    runs: Path
    tiny: bool
    only: tuple[str, ...]
    wandb: str | None
    out: Path | None

    @property
    def file(self) -> str:
        """The file's name in a command."""
        return shlex.quote(str(self.out or "FILE"))

    @property
    def words(self) -> list[str]:
        """The command of a task but for what it runs, one cell at a time."""
        runs = [] if self.runs == RUNS else [f"--runs={self.runs}"]
        return ["ddlight", "grid", str(self.study), *runs, "--jobs=1", *(["--tiny"] if self.tiny else [])]

    @property
    def before(self) -> list[str]:
        """The command that makes the runs that cells need."""
        return [*self.words, "--before", *(f"--only={pattern}" for pattern in self.only)]

    @property
    def cell(self) -> list[str]:
        """The command that makes a cell, whose name follows as `--only`."""
        return [*self.words, *([f"--wandb={self.wandb}"] if self.wandb else [])]


def sweep(task: TaskCommand, cells: Sequence[Cell]) -> str:
    """Return a W&B sweep file: method grid over the names of the cells.

    Args:
        task: the command of a task; its project is "ddlight" where it names none.
        cells: those that were chosen, and the runs that they need.
    """
    task = replace(task, wandb=task.wandb or PROJECT)
    chosen, before = _parted(cells)
    first = [f"{shlex.join(task.before)}   first, once: the runs that cells need"] if before else []
    wait = "# Start agents when the first command has ended: each gives up after 3 failures in its first minute."
    commands = [
        *first,
        f"wandb sweep {task.file}   prints the line that starts an agent:",
        f"wandb agent ENTITY/{task.wandb}/SWEEP   one per GPU or job, each in the folder of this command",
    ]
    header = [
        f"{MARK}: {len(chosen)} cells of {task.study} as a W&B sweep.",
        "#",
        *(f"# {'' if n else 'Command:':<9} {line}" for n, line in enumerate(commands)),
        *([wait] if before else []),
        "# The sweep hands out each cell once, and none again that failed or was stopped: start a new sweep of this",
        "# file for those. A cell that has its result already ends at once, without a W&B run.",
    ]
    content = {
        "program": task.cell[0],
        "project": task.wandb,
        "name": chosen[0].run.parent.name,
        "method": "grid",
        "parameters": {"only": {"values": [cell.name for cell in chosen]}},
        "command": ["${env}", *task.cell, "${args}"],
    }
    return "\n".join(header) + "\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)


def array(task: TaskCommand, cells: Sequence[Cell], job: Job, at_once: int | None = None) -> str:
    """Return a bash script that submits a job array, a task a cell; and before it a job of the runs that cells need.

    The array waits until that job is done, and is dropped where it fails. Each task is a process on one device.

    Args:
        task: the command of a task.
        cells: those that were chosen, and the runs that they need.
        job: what each task asks for; its study is the job's configuration.
        at_once: tasks that may run at the same time; None leaves that to SLURM.

    Raises:
        UsageError: SLURM would refuse the job, or it requests several GPUs.
    """
    check(job)
    if job.gpus > 1:
        raise UsageError(
            f"--gpus is {job.gpus}; a cell of an array trains on one device: --gpus 1, or --gpus 0 for a CPU job. "
            "Several for one run: ddlight submit"
        )
    chosen, before = _parted(cells)
    lines = [
        "#!/bin/bash",
        f"{MARK}: {len(chosen)} cells of {task.study} as a SLURM job array.",
        f"# Command:  bash {task.file}   submits it, in the folder of this command; submitted again, it continues",
        "set -euo pipefail",
        f"mkdir -p {shlex.quote(job.logs)}",
    ]
    waits = ""
    if before:
        lines += [f"before=$(sbatch --parsable <<'{END}'", _job(job, task.before), END, ")"]
        waits = ' --dependency="afterok:${before%%;*}" --kill-on-invalid-dep=yes'
    names = [f"  {shlex.quote(cell.name)}" for cell in chosen]
    numbers = f"0-{len(chosen) - 1}{f'%{at_once}' if at_once else ''}"
    tasks = _job(replace(job, array=numbers), task.cell, names)
    return "\n".join([*lines, f"sbatch{waits} <<'{END}'", tasks, END]) + "\n"


def _job(job: Job, command: Sequence[str], names: Sequence[str] = ()) -> str:
    """The text of one sbatch file; with names of cells, the one that the task has the number of."""
    words = [launch(job), shlex.join(command), *(['--only="${cells[$SLURM_ARRAY_TASK_ID]}"'] if names else [])]
    if names:
        words[0] = "\n".join(["cells=(", *names, ")", words[0]])
    return script(job, words, f"{MARK}.").rstrip("\n")


def _parted(cells: Sequence[Cell]) -> tuple[list[Cell], list[Cell]]:
    """The cells, and the runs that they need."""
    return [cell for cell in cells if cell.values], [cell for cell in cells if not cell.values]


def put(text: str, out: Path | None) -> None:
    """Write the text to the file, or to the terminal.

    Raises:
        UsageError: the file exists and is not one of ours.
    """
    if out is None:
        sys.stdout.write(text)
        return
    if out.exists() and MARK not in out.read_text(errors="replace"):
        raise UsageError(f"{out} exists and was not written by `ddlight grid`. Move it: mv {out} {out}.old")
    files.write_bytes(out, text.encode())

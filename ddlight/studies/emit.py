"""`ddlight grid STUDY.yaml --emit wandb|slurm`: a study's cells as a W&B sweep or as SLURM jobs, one cell a task.

A value of an axis sets several options, so that a sweep's product of options is not a study's product of axes: the
sweep has one parameter, the cell, and every task is `ddlight grid STUDY.yaml --only=CELL`. So it makes a set that takes
long before its run, and does nothing where the cell has its result.

Cells that failed or were stopped: a job array that is submitted again continues with them. A W&B grid sweep hands out
each value once and never again; a new sweep of the same file makes what is left, and skips cells with a result.

Functions take the options of `ddlight grid`, whose command line every task repeats in part, and the cells that were
chosen, with the runs that they need.
"""

import shlex
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from ddlight.core.errors import UsageError
from ddlight.studies.slurm import MARK, Job, check, script
from ddlight.studies.study import Cell

PROJECT, RUNS = "ddlight", Path("runs")
END = "END_OF_JOB"


def sweep(options: Namespace, cells: Sequence[Cell]) -> str:
    """Return a W&B sweep file: method grid over the names of the cells."""
    names, before = _parted(cells)
    project = options.wandb or PROJECT
    first = [f"{_before(options)}   first, once: the runs that cells need"] if before else []
    wait = "# Start agents when the first command has ended: each gives up after 3 failures in its first minute."
    commands = [
        *first,
        f"wandb sweep {_file(options)}   prints the line that starts an agent:",
        f"wandb agent ENTITY/{project}/SWEEP   one per GPU or job, each in the folder of this command",
    ]
    header = [
        f"{MARK.format('grid')}: {len(names)} cells of {options.study} as a W&B sweep.",
        "#",
        *(f"# {'' if n else 'Command:':<9} {line}" for n, line in enumerate(commands)),
        *([wait] if before else []),
        "# The sweep hands out each cell once, and none again that failed or was stopped: start a new sweep of this",
        "# file for those. A cell that has its result already ends at once, without a W&B run.",
    ]
    command = [*_words(options), f"--wandb={project}"]
    content = {
        "program": command[0],
        "project": project,
        "name": cells[-1].run.parent.name,
        "method": "grid",
        "parameters": {"only": {"values": names}},
        "command": ["${env}", *command, "${args}"],
    }
    return "\n".join(header) + "\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)


def array(options: Namespace, cells: Sequence[Cell], job: Job) -> str:
    """Return a bash script that submits a job array, a task a cell; and before it a job of the runs that cells need.

    The array waits until that job is done, and is dropped where it fails. Each task is a process on one device.
    `--jobs` tasks may run at the same time; without it SLURM decides.

    Raises:
        UsageError: SLURM would refuse the job, or it requests several GPUs.
    """
    check(job)
    if job.gpus > 1:
        raise UsageError(
            f"--gpus is {job.gpus}; a cell of an array trains on one device: --gpus 1, or --gpus 0 for a CPU job. "
            "Several for one run: ddlight submit"
        )
    names, before = _parted(cells)
    lines = [
        "#!/bin/bash",
        f"{MARK.format('grid')}: {len(names)} cells of {options.study} as a SLURM job array.",
        f"# Command:  bash {_file(options)}   submits it, in the folder of this command; submitted again, it continues",
        "set -euo pipefail",
        f"mkdir -p {shlex.quote(job.logs)}",
    ]
    waits = ""
    if before:
        lines.append(f"before=$(sbatch --parsable <<'{END}'\n{script(job, [_before(options)], 'grid')}{END}\n)")
        waits = ' --dependency="afterok:${before%%;*}" --kill-on-invalid-dep=yes'
    job = replace(job, array=f"0-{len(names) - 1}{f'%{options.jobs}' if options.jobs else ''}")
    cell = shlex.join([*_words(options), *([f"--wandb={options.wandb}"] if options.wandb else [])])
    listed = ["cells=(", *(f"  {shlex.quote(name)}" for name in names), ")"]
    task = script(job, [cell, '--only="${cells[$SLURM_ARRAY_TASK_ID]}"'], "grid", listed)
    return "\n".join([*lines, f"sbatch{waits} <<'{END}'\n{task}{END}\n"])


def _parted(cells: Sequence[Cell]) -> tuple[list[str], bool]:
    """Names of the cells, and whether they need runs before them."""
    return [cell.name for cell in cells if cell.values], any(not cell.values for cell in cells)


def _file(options: Namespace) -> str:
    return shlex.quote(str(options.out or "FILE"))


def _words(options: Namespace) -> list[str]:
    """The command of a task but for what it runs, one cell at a time."""
    runs = [] if options.runs == RUNS else [f"--runs={options.runs}"]
    root = [] if options.root is None else [f"--root={options.root.absolute()}"]
    return ["ddlight", "grid", str(options.study), *root, *runs, "--jobs=1", *(["--tiny"] if options.tiny else [])]


def _before(options: Namespace) -> str:
    """The command that makes the runs that cells need."""
    return shlex.join([*_words(options), "--before", *(f"--only={pattern}" for pattern in options.only or [])])

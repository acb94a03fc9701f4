"""`ddlight submit`: one configuration as a SLURM job that saves and requeues itself before its time is up."""

import argparse
import logging
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ddlight.cli.configs import find_config
from ddlight.core.errors import DataError, UsageError
from ddlight.core.files import make_folder

log = logging.getLogger("ddlight")
MARK = "# Written by `ddlight submit`."
TIME = r"(\d+-\d+(:\d+){0,2}|\d+(:\d+){0,2})"
ARRAY = r"\d+(-\d+(:\d+)?)?(,\d+(-\d+(:\d+)?)?)*(%\d+)?"
WORD = r"[^\s#'\"\\]+"
OWN = {"--config": "--config", "--trainer.devices": "--gpus", "--trainer.num_nodes": "--nodes"}


@dataclass(frozen=True)
class Job:
    """What one job asks for.

    Attributes:
        config: configuration file, as the job's own working folder (the one it is submitted from) sees it.
        command: ddlight command that takes it: "fit" or "condense"; "grid", where it is a study.
        nodes: number of nodes.
        gpus: GPUs per node, one process each; 0 for one CPU process per node.
        cpus: CPU cores per process.
        time: time limit as SLURM writes it, such as "4:00:00" (hours) or "1-12" (days-hours).
        partition: partition, or None for the cluster's default.
        account: account to charge, or None for the user's default.
        array: seeds as SLURM writes them, such as "0-4", one task each; None for a single job.
        logs: folder of the job's output; it must exist when the job is submitted.
        extra: further arguments of the ddlight command.
    """

    config: str
    command: str = "fit"
    nodes: int = 1
    gpus: int = 1
    cpus: int = 8
    time: str = "4:00:00"
    partition: str | None = None
    account: str | None = None
    array: str | None = None
    logs: str = "runs/slurm"
    extra: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The configuration's name without what SLURM cannot carry.

        A job called "bash" or "interactive" would pass for a person at work, and Lightning would ignore SLURM.
        """
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(self.config).stem)
        return f"ddlight-{name}" if name in ("bash", "interactive") else name

    @property
    def tasks(self) -> int:
        """Processes per node."""
        return max(self.gpus, 1)


def render(job: Job) -> str:
    """Return the text of an sbatch file.

    SLURM signals the processes that srun started (not the batch shell: no `B:`) 120 s before the time limit; they
    save and ask to be requeued, and the requeued job finds its run folder again because nothing in that folder's
    name depends on the job. `--kill-on-bad-exit` ends the other ranks where one refuses to start.
    `--ntasks-per-node` is what Lightning needs, and `--cpus-per-task` is given to srun again since SLURM 22.05 no
    longer hands it on.

    Raises:
        UsageError: a field is out of range or not in SLURM's form.
    """
    check(job)
    return script(job, srun_words(job), MARK)


def script(job: Job, words: Sequence[str], mark: str) -> str:
    """Return an sbatch file that runs one command.

    Args:
        job: what it asks for.
        words: the command in shell words, quoted.
        mark: comment that says who wrote it.
    """
    lines = [
        "#!/bin/bash",
        mark,
        f"# The folder of its output must exist before it is submitted: mkdir -p {shlex.quote(job.logs)}",
        *(f"#SBATCH {shlex.quote(option)}" for option in sbatch_options(job)),
        "",
        f"export OMP_NUM_THREADS={job.cpus}",
        " \\\n  ".join(words),
    ]
    return "\n".join(lines) + "\n"


def sbatch_options(job: Job) -> list[str]:
    """Return the options of the `#SBATCH` lines, unquoted."""
    optional = {
        "--gpus-per-node": job.gpus or None,
        "--partition": job.partition,
        "--account": job.account,
        "--array": job.array,
    }
    return [
        f"--job-name={job.name}",
        f"--nodes={job.nodes}",
        f"--ntasks-per-node={job.tasks}",
        f"--cpus-per-task={job.cpus}",
        f"--time={job.time}",
        *(f"{option}={value}" for option, value in optional.items() if value is not None),
        "--signal=SIGUSR1@120",
        "--requeue",
        "--open-mode=append",
        f"--output={job.logs}/%x-{'%A_%a' if job.array else '%j'}.out",
    ]


def srun_words(job: Job) -> list[str]:
    """Return the job's one command in shell words, quoted, an option and its value in one word where it has any."""
    words = [
        launch(job),
        f"ddlight {job.command}",
        f"--config {shlex.quote(job.config)}",
        f"--trainer.num_nodes={job.nodes}",
        f"--trainer.devices={job.tasks}",
        f"--trainer.accelerator={'gpu' if job.gpus else 'cpu'}",
    ]
    if job.array is not None:
        words.append('--data.seed="$SLURM_ARRAY_TASK_ID"')
    return words + [shlex.quote(word) for word in job.extra]


def launch(job: Job) -> str:
    """The word that starts a command on every task of the job."""
    return f"srun --kill-on-bad-exit=1 --cpus-per-task={job.cpus}"


def check(job: Job) -> None:
    """Raise UsageError for a job that SLURM or Lightning would refuse, or take for another one."""
    for name, least in {"nodes": 1, "gpus": 0, "cpus": 1}.items():
        if getattr(job, name) < least:
            raise UsageError(f"--{name} is {getattr(job, name)}; it takes {least} or more: --{name} {max(least, 1)}")
    _match("time", job.time, TIME, "minutes, hours:minutes:seconds or days-hours", "4:00:00")
    _match("array", job.array, ARRAY, "seeds such as 0-4, 0,2,5 or 0-9%2 (two at a time)", "0-4")
    _match("partition", job.partition, WORD, "one word, or several separated by commas", "gpu")
    _match("account", job.account, WORD, "one word", "my-project")
    taken = OWN | ({"--data.seed": "--array"} if job.array else {})
    for word in job.extra:
        if (option := word.split("=")[0]) in taken:
            raise UsageError(f"'{word}' after -- contradicts what `ddlight submit` sets itself: use {taken[option]}.")


def _match(name: str, value: str | None, form: str, allowed: str, example: str) -> None:
    if value is not None and not re.fullmatch(form, value):
        raise UsageError(f"--{name} is '{value}'; it takes {allowed}: --{name} {example}")


def parse(argv: Sequence[str]) -> tuple[Job, argparse.Namespace]:
    """Read the arguments of `ddlight submit`; what follows `--` is passed on. Returns the job and all options."""
    parser = argparse.ArgumentParser(
        prog="ddlight submit",
        description="Write an sbatch file for one configuration, show it, and submit it.",
        epilog="Arguments after -- go to the ddlight command: ddlight submit --config X -- --data.ipc=10",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="configuration file")
    parser.add_argument("--command", default="fit", choices=["fit", "condense"], help="what to do with it (fit)")
    parser.add_argument("--nodes", type=int, default=1, help="nodes (1)")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs per node, 0 for a CPU job (1)")
    parser.add_argument("--array", metavar="SEEDS", help="one job per seed, such as 0-4, given on as --data.seed")
    add_resources(parser)
    parser.add_argument("--dry-run", action="store_true", help="write the text to the terminal and stop")
    parser.add_argument("--yes", action="store_true", help="submit without asking")
    words = list(argv)
    end = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:end])
    fields = {k: v for k, v in vars(options).items() if k not in ("dry_run", "yes")}
    return Job(**fields, extra=tuple(words[end + 1 :])), options


def add_resources(parser: argparse._ActionsContainer) -> None:
    """Add a job's options that `ddlight submit` and `ddlight grid` share; those not given take `Job`'s defaults."""
    add = partial(parser.add_argument, default=argparse.SUPPRESS)
    add("--cpus", type=int, help="CPU cores per GPU, or of the CPU job (8)")
    add("--time", help="time limit of one turn; the job requeues itself (4:00:00)")
    add("--partition", help="partition")
    add("--account", help="account")
    add("--logs", help="folder of the jobs' output (runs/slurm)")


def main(argv: Sequence[str]) -> int:
    """Run `ddlight submit`. Returns the exit code.

    Raises:
        DataError: there is no such configuration file.
        UsageError: an option is wrong, nobody is there to be asked, sbatch is missing or refuses the job.
    """
    job, options = parse(argv)
    if not find_config(job.config).is_file():
        raise DataError(f"There is no configuration {job.config} here ({Path.cwd()}). To see all: ddlight configs")
    text = render(job)
    sys.stdout.write(text)
    if options.dry_run:
        return 0
    if not options.yes and not _agreed():
        sys.stdout.write("Not submitted.\n")
        return 0
    sys.stdout.write(submit(job, text))
    return 0


def submit(job: Job, text: str) -> str:
    """Write `text` to `<config stem>.sbatch` in the current folder and give it to sbatch. Returns sbatch's answer.

    Raises:
        UsageError: the file exists and is not one of ours, sbatch is missing, or sbatch refuses the job.
    """
    file = Path(f"{Path(job.config).stem}.sbatch")
    if file.exists() and MARK not in file.read_text(errors="replace"):
        raise UsageError(f"{file} exists and was not written by `ddlight submit`. Move it: mv {file} {file}.old")
    make_folder(Path(job.logs))
    file.write_text(text)
    if shutil.which("sbatch") is None:
        raise UsageError(
            f"sbatch is not on this machine's PATH, so that nothing was submitted. The text above is in {file}; "
            f"where SLURM is: mkdir -p {shlex.quote(job.logs)} && sbatch {shlex.quote(str(file))}"
        )
    done = subprocess.run(["sbatch", str(file)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"sbatch refused {file}: {done.stderr.strip()}\nTo try again: sbatch {shlex.quote(str(file))}")
    return done.stdout


def _agreed() -> bool:
    """Ask on the terminal whether to submit."""
    if not sys.stdin.isatty():
        raise UsageError("Nobody is there to be asked (standard input is no terminal). To submit anyway: add --yes")
    sys.stdout.write("Submit this job? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")

"""`ddlight submit`: one configuration as a SLURM job that saves and requeues itself before its time is up."""

import argparse
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
from ddlight.core.files import make_folder, write_bytes

MARK = "# Written by `ddlight {}`"
TIME = r"(\d+-\d+(:\d+){0,2}|\d+(:\d+){0,2})"
ARRAY = r"\d+(-\d+(:\d+)?)?(,\d+(-\d+(:\d+)?)?)*(%\d+)?"
WORD = r"[^\s#'\"\\]+"
FORMS = {
    "time": (TIME, "minutes, hours:minutes:seconds or days-hours", "4:00:00"),
    "array": (ARRAY, "seeds such as 0-4, 0,2,5 or 0-9%2 (two at a time)", "0-4"),
    "partition": (WORD, "one word, or several separated by commas", "gpu"),
    "account": (WORD, "one word", "my-project"),
}
"""Regular expression of a field of `Job`, the same in words, and an example."""
OWN = {"--config": "--config", "--trainer.devices": "--gpus", "--trainer.num_nodes": "--nodes"}


@dataclass(frozen=True)
class Job:
    """What one job asks for: the options of `ddlight submit`, and as `extra` what follows `--` there.

    A path is seen from the folder that the job is submitted from, where `logs` must exist by then. `command` may be
    "grid" too, and `config` a study. `gpus` are per node, one process each; with none a node has one process. `time`
    and `array` are as SLURM writes them, such as "1-12" (days-hours) and "0-4" (seeds, one task each).
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


def render(job: Job) -> str:
    """Return the text of an sbatch file. Raises UsageError where a field is out of range or not in SLURM's form."""
    check(job)
    words = [
        f"ddlight {job.command}",
        f"--config {shlex.quote(job.config)}",
        f"--trainer.num_nodes={job.nodes}",
        f"--trainer.devices={max(job.gpus, 1)}",
        f"--trainer.accelerator={'gpu' if job.gpus else 'cpu'}",
    ]
    if job.array is not None:
        words.append('--data.seed="$SLURM_ARRAY_TASK_ID"')
    return script(job, words + [shlex.quote(word) for word in job.extra], "submit")


def script(job: Job, words: Sequence[str], author: str, before: Sequence[str] = ()) -> str:
    """Return an sbatch file that runs one command, of quoted shell words, on every task of the job.

    SLURM signals the processes that srun started (not the batch shell: no `B:`) 120 s before the time limit; they
    save and ask to be requeued, and the requeued job finds its run folder again because nothing in that folder's
    name depends on the job. `--kill-on-bad-exit` ends the other ranks where one refuses to start.
    `--ntasks-per-node` is what Lightning needs, and `--cpus-per-task` is given to srun again since SLURM 22.05 no
    longer hands it on. The file says that the command `author` of ddlight wrote it; lines of shell may come `before`.
    """
    # A job called "bash" or "interactive" would pass for a person at work, and Lightning would ignore SLURM.
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(job.config).stem)
    optional = {
        "--gpus-per-node": job.gpus or None,
        "--partition": job.partition,
        "--account": job.account,
        "--array": job.array,
    }
    options = [
        f"--job-name={'ddlight-' if stem in ('bash', 'interactive') else ''}{stem}",
        f"--nodes={job.nodes}",
        f"--ntasks-per-node={max(job.gpus, 1)}",
        f"--cpus-per-task={job.cpus}",
        f"--time={job.time}",
        *(f"{option}={value}" for option, value in optional.items() if value is not None),
        "--signal=SIGUSR1@120",
        "--requeue",
        "--open-mode=append",
        f"--output={job.logs}/%x-{'%A_%a' if job.array else '%j'}.out",
    ]
    lines = [
        "#!/bin/bash",
        f"{MARK.format(author)}.",
        f"# The folder of its output must exist before it is submitted: mkdir -p {shlex.quote(job.logs)}",
        *(f"#SBATCH {shlex.quote(option)}" for option in options),
        "",
        f"export OMP_NUM_THREADS={job.cpus}",
        *before,
        " \\\n  ".join([f"srun --kill-on-bad-exit=1 --cpus-per-task={job.cpus}", *words]),
    ]
    return "\n".join(lines) + "\n"


def check(job: Job) -> None:
    """Raise UsageError for a job that SLURM or Lightning would refuse, or take for another one."""
    for name, least in {"nodes": 1, "gpus": 0, "cpus": 1}.items():
        if getattr(job, name) < least:
            raise UsageError(f"--{name} is {getattr(job, name)}; it takes {least} or more: --{name} {max(least, 1)}")
    for name, (form, allowed, example) in FORMS.items():
        value = getattr(job, name)
        if value is not None and not re.fullmatch(form, value):
            raise UsageError(f"--{name} is '{value}'; it takes {allowed}: --{name} {example}")
    taken = OWN | ({"--data.seed": "--array"} if job.array else {})
    for word in job.extra:
        if (option := word.split("=")[0]) in taken:
            raise UsageError(f"'{word}' after -- contradicts what `ddlight submit` sets itself: use {taken[option]}.")


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
    """Show the job, ask, write it to `<config stem>.sbatch` in the current folder, give it to sbatch; return 0."""
    job, options = parse(argv)
    if not find_config(job.config).is_file():
        raise DataError(f"There is no configuration {job.config} here ({Path.cwd()}). To see all: ddlight configs")
    text = render(job)
    sys.stdout.write(text)
    if options.dry_run:
        return 0
    if not options.yes:
        if not sys.stdin.isatty():
            raise UsageError("Nobody is there to be asked (standard input is no terminal). To submit anyway: add --yes")
        sys.stdout.write("Submit this job? [y/N] ")
        sys.stdout.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            sys.stdout.write("Not submitted.\n")
            return 0
    file = Path(f"{Path(job.config).stem}.sbatch")
    put(text, file, "submit")
    make_folder(Path(job.logs))
    if shutil.which("sbatch") is None:
        raise UsageError(
            f"sbatch is not on this machine's PATH, so that nothing was submitted. The text above is in {file}; "
            f"where SLURM is: mkdir -p {shlex.quote(job.logs)} && sbatch {shlex.quote(str(file))}"
        )
    done = subprocess.run(["sbatch", str(file)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"sbatch refused {file}: {done.stderr.strip()}\nTo try again: sbatch {shlex.quote(str(file))}")
    sys.stdout.write(done.stdout)
    return 0


def put(text: str, file: Path, author: str) -> None:
    """Write a file. Raises UsageError where it exists and the command `author` of ddlight did not write it."""
    if file.exists() and MARK.format(author) not in file.read_text(errors="replace"):
        raise UsageError(f"{file} exists and was not written by `ddlight {author}`. Move it: mv {file} {file}.old")
    write_bytes(file, text.encode())

"""Fault harness: stops, damages, starves and races ddlight, and checks what it leaves behind.

    python tests/faults/harness.py stops --count 100 --seed 0 --json stops.json
    python tests/faults/harness.py corruptions --count 1000
    python tests/faults/harness.py disk --count 30        # needs the right to mount a tmpfs
    python tests/faults/harness.py races --count 20
    python tests/faults/harness.py stops disk races --count 10

What must hold: a finished artefact (sealed set, stored labels, run) is never lost or changed; an unfinished or damaged
one never passes as finished; the next start ends with the bytes of a run that nothing disturbed, or says in one message
what is wrong and what to do. Whatever breaks this is listed as a violation, and the exit code is 1.

Most commands are forked from one process that has imported torch, so that a trial takes a second; of the stops, one in
twenty starts Python anew.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import states
from corruptions import Subject, damage, subjects
from processes import Command, Ended, Strike, clean, must, run, warm
from scenarios import SCENARIOS, prepare

from ddlight.core.errors import DDLightError

BUSY = "Another process is writing the run"
FINISHED = "is finished (acc"


@dataclass
class Report:
    """What was done, and what broke an invariant.

    Args:
        kind: which of the harness's kinds.
        seed: of its random choices.
    """

    kind: str
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[dict[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    skipped: str = ""

    def violated(self, trial: str, what: str, text: str = "") -> None:
        """Note a broken invariant and the end of what was said."""
        self.violations.append({"trial": trial, "what": what, "said": text[-1500:]})

    def as_json(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return {**vars(self), "counts": dict(sorted(self.counts.items())), "seconds": round(self.seconds, 1)}


class Bench:
    """Working folders of trials, and how each scenario ends when nothing disturbs it.

    Args:
        folder: where they lie.
        names: of the scenarios.
        real: share of the stops that start Python anew.
    """

    def __init__(self, folder: Path, names: Sequence[str], real: float) -> None:
        self.folder, self.number, self.real = folder, 0, real
        self.template = prepare(folder / "trials" / "template")
        self.names = names
        self.expected: dict[str, dict[str, Any]] = {}
        self.operations: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        for name in names:
            self._measure(name)

    def home(self) -> Path:
        """A new copy of the prepared folder."""
        self.number += 1
        home = self.folder / "trials" / f"trial{self.number}"
        shutil.copytree(self.template, home)
        return home

    def _measure(self, name: str) -> None:
        home, strike = self.home(), Strike()
        must(run(SCENARIOS[name], home, strike))
        self.expected[name], self.operations[name] = states.contents(home), strike.count
        clean(home)
        home = self.home()
        self.seconds[name] = must(run(SCENARIOS[name], home)).seconds
        again = states.differences(states.contents(home), self.expected[name])
        if again:
            raise RuntimeError(f"{name} is not reproducible, so nothing can be compared: {again}")
        clean(home)


# --- what is checked ---


def check_kept(report: Report, trial: str, before: dict[str, str], home: Path) -> None:
    """Whatever was finished is as it was, and whatever is finished now can be read."""
    now = states.finished(home)
    for name in before:
        if now.get(name) != before[name]:
            report.violated(trial, f"finished, and then {'changed' if name in now else 'lost'}: {name}")
    for problem in states.problems(home):
        report.violated(trial, f"passes as finished: {problem}")


def check_spoken(report: Report, trial: str, ended: Ended) -> None:
    """No traceback and no hanging, however it ended."""
    if ended.code is None:
        report.violated(trial, "hung", ended.text)
    if "Traceback" in ended.text:
        report.violated(trial, "traceback", ended.text)


def check_end(report: Report, trial: str, ended: Ended, home: Path, expected: dict[str, Any]) -> None:
    """The last start, which nothing disturbed, ended well, with the right bytes and nothing left over."""
    check_spoken(report, trial, ended)
    if ended.code != 0 and not (ended.code == 2 and FINISHED in ended.text):
        report.violated(trial, f"ended with {ended.code}", ended.text)
        return
    for name in states.differences(states.contents(home), expected):
        report.violated(trial, f"other than undisturbed: {name}", ended.text)
    for name in states.leftovers(home):
        report.violated(trial, f"left over: {name}")


# --- stops ---


def stops(report: Report, bench: Bench, count: int, rng: random.Random) -> None:
    """Stop commands, once or several times in a row, until `count` of them were stopped; then let them end."""
    while report.counts["stops"] < count:
        number = report.counts["trials"]
        name = bench.names[number % len(bench.names)]
        home, trial = bench.home(), f"stops {number} {name}"
        real, had = rng.random() < bench.real, len(report.violations)
        for _ in range(rng.choice((1, 1, 2, 3))):
            before = states.finished(home)
            ended = stop_once(report, bench, name, home, rng, real)
            check_spoken(report, trial, ended)
            check_kept(report, trial, before, home)
            if ended.code == 0:
                break
        check_end(report, trial, run(SCENARIOS[name], home), home, bench.expected[name])
        report.counts["trials"] += 1
        if len(report.violations) == had:
            clean(home)


def stop_once(report: Report, bench: Bench, name: str, home: Path, rng: random.Random, real: bool) -> Ended:
    """Start a command and stop it at a random file operation, or at a random time."""
    number = rng.choice((signal.SIGTERM, signal.SIGKILL, signal.SIGKILL))
    label = f"{name}, {signal.Signals(number).name}"
    if not real and rng.random() < 0.6:
        strike = Strike(rng.randint(1, bench.operations[name]), number)
        ended = run(SCENARIOS[name], home, strike)
        stopped, how = strike.count >= strike.at, "at a file operation"
    else:
        imports = 5.0 if real else 0.0
        command = Command(SCENARIOS[name], home, real=real)
        time.sleep(imports * rng.random() + rng.random() * bench.seconds[name])
        stopped = command.stop(number, group=rng.random() < 0.5)
        ended, how = command.wait(), "at a time, a real process" if real else "at a time"
    if stopped:
        report.counts.update(["stops", label, how])
    return ended


# --- corruptions ---


def corruptions(report: Report, folder: Path, count: int, rng: random.Random) -> None:
    """Damage one file of an artefact and read the artefact, or continue the command that was making it."""
    found = subjects(folder)
    for number in range(count):
        subject = found[number % len(found)]
        trial = folder / "trials" / f"damaged{number}"
        shutil.copytree(subject.folder, trial)
        path = rng.choice(subject.files(trial))
        before = states.finished(trial)
        how = damage(path, subject.others(trial, path), rng)
        what = f"corruptions {number} {subject.name}: {path.relative_to(trial)} {how}"
        report.counts.update(["corruptions", how.split(" ")[0], outcome(report, subject, trial, path, what)])
        if subject.keeps:
            own = str(path.relative_to(trial))
            check_kept_beside(report, what, before, trial, own)
        clean(trial)


def check_kept_beside(report: Report, what: str, before: dict[str, str], trial: Path, own: str) -> None:
    """What lies beside the damaged file is as it was."""
    for name, digest in states.finished(trial).items():
        if name != own and name in before and before[name] != digest:
            report.violated(what, f"finished, and then changed: {name}")


def outcome(report: Report, subject: Subject, trial: Path, path: Path, what: str) -> str:
    """Read a damaged artefact and say how that went: refused, or the same content as before."""
    try:
        found = subject.read(trial)
    except DDLightError as error:
        named = any(part in str(error) for part in (path.name, path.parent.name, trial.name))
        if not named:
            report.violated(what, "the message does not name the file", str(error))
        return f"{subject.name}: refused"
    except Exception as error:
        report.violated(what, f"traceback: {type(error).__name__}", str(error))
        return f"{subject.name}: traceback"
    if states.same(found, subject.expected):
        return f"{subject.name}: the same content"
    report.violated(what, "passed as whole with other content")
    return f"{subject.name}: silent"


# --- a full disk ---


def disk(report: Report, bench: Bench, count: int, rng: random.Random) -> None:
    """Run commands on file systems that are too small, grow those, and let the commands end."""
    place = bench.folder / "mount"
    place.mkdir()
    need = _kilobytes(bench.template)
    for number in range(count):
        name = bench.names[number % len(bench.names)]
        home, trial = place / f"trial{number}", f"disk {number} {name}"
        room = need + rng.randint(0, 120)
        _mount(place, f"size={room}k")
        try:
            shutil.copytree(bench.template, home)
            before = states.finished(home)
            ended = run(SCENARIOS[name], home)
            report.counts.update(["trials", "did not fit" if ended.code else "fitted"])
            check_full(report, trial, ended)
            check_kept(report, trial, before, home)
            _mount(place, "remount,size=64m")
            check_end(report, trial, run(SCENARIOS[name], home), home, bench.expected[name])
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def check_full(report: Report, trial: str, ended: Ended) -> None:
    """A command that does not fit says that the disk is full."""
    check_spoken(report, trial, ended)
    if ended.code not in (0, 1, 3) or (ended.code and "disk is full" not in ended.text):
        report.violated(trial, f"ended with {ended.code} on a full disk", ended.text)


def _kilobytes(folder: Path) -> int:
    """Pages of 4 kB that a copy of a folder takes."""
    return sum(4 * -(-p.stat().st_size // 4096) for p in folder.rglob("*") if p.is_file()) + 4


def _mount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)


def cannot_mount() -> str:
    """Why no tmpfs can be mounted, or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, text=True)
        except OSError as error:
            return str(error)
        if found.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return found.stderr.strip() if found.returncode else ""


# --- races ---


def races(report: Report, bench: Bench, count: int, rng: random.Random) -> None:
    """Start a command twice at almost the same time, let one overtake or kill one, and look at the end."""
    for number in range(count):
        name = bench.names[number % len(bench.names)]
        home, trial = bench.home(), f"races {number} {name}"
        before, had = states.finished(home), len(report.violations)
        if rng.random() < 0.6:
            commands = overtaken(report, bench, name, home, rng)
        else:
            commands = side_by_side(report, bench, name, home, rng)
        for ended in [command.wait() for command in commands]:
            check_spoken(report, trial, ended)
            if not allowed_in_race(ended):
                report.violated(trial, f"ended with {ended.code}", ended.text)
            report.counts[f"ended with {ended.code}"] += 1
        check_kept(report, trial, before, home)
        between = states.finished(home)
        check_end(report, trial, run(SCENARIOS[name], home), home, bench.expected[name])
        check_kept(report, trial, between, home)
        report.counts.update(["trials", name])
        if len(report.violations) == had:
            clean(home)


def side_by_side(report: Report, bench: Bench, name: str, home: Path, rng: random.Random) -> list[Command]:
    """Two commands of which the second begins somewhat later; sometimes one of them is killed."""
    commands = []
    for _ in range(2):
        commands.append(Command(SCENARIOS[name], home))
        time.sleep(rng.choice((0.0, rng.random() * bench.seconds[name] * 1.2)))
    if rng.random() < 0.3 and rng.choice(commands).stop(signal.SIGKILL, group=True):
        report.counts["one killed"] += 1
    return commands


def overtaken(report: Report, bench: Bench, name: str, home: Path, rng: random.Random) -> list[Command]:
    """Two commands of which the first stands still at a file operation, until the other has ended or waits for it."""
    strike = Strike(rng.randint(1, bench.operations[name]), signal.SIGSTOP)
    first = Command(SCENARIOS[name], home, strike)
    first.ends_within(1.2 * bench.seconds[name])
    second = Command(SCENARIOS[name], home)
    second.ends_within(2 * bench.seconds[name])
    first.go_on()
    report.counts["overtaken at a file operation"] += strike.count >= strike.at
    return [first, second]


def allowed_in_race(ended: Ended) -> bool:
    """Done, killed, or left to the other one."""
    left = BUSY in ended.text or FINISHED in ended.text or "being run by another process" in ended.text
    return ended.code in (0, -signal.SIGKILL) or (ended.code in (1, 2) and left)


# --- the command ---


def main(argv: list[str]) -> int:
    """Run some kinds and write their reports. Returns 1 where an invariant was broken."""
    options = _parse(argv)
    warm()
    with tempfile.TemporaryDirectory(dir=options.folder, ignore_cleanup_errors=True) as folder:
        reports = [_run_kind(kind, options, Path(folder).resolve()) for kind in options.kinds]
        broken = any(report.violations for report in reports)
        if broken and options.keep:
            shutil.copytree(folder, options.keep, dirs_exist_ok=True)
    text = json.dumps({report.kind: report.as_json() for report in reports}, indent=1)
    if options.json:
        options.json.write_text(text + "\n")
    print(text)
    return 1 if broken else 0


def _run_kind(kind: str, options: argparse.Namespace, folder: Path) -> Report:
    report, rng, begun = Report(kind, options.seed), random.Random(options.seed), time.monotonic()
    if kind == "disk":
        report.skipped = cannot_mount()
    if kind == "corruptions":
        corruptions(report, folder, options.count, rng)
    elif not report.skipped:
        names = tuple(n for n in SCENARIOS if not options.only or any(word in n for word in options.only))
        disturb: Callable[..., None] = {"stops": stops, "disk": disk, "races": races}[kind]
        disturb(report, _bench(folder, names, options.real), options.count, rng)
    report.seconds = time.monotonic() - begun
    return report


@cache
def _bench(folder: Path, names: tuple[str, ...], real: float) -> Bench:
    """The bench that all kinds share."""
    return Bench(folder, names, real)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="+", choices=("stops", "corruptions", "disk", "races"))
    parser.add_argument(
        "--count", type=int, default=10, help="stops, damaged files, small disks, races: of each kind (10)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random choices (0)")
    parser.add_argument("--json", type=Path, help="write the report there too")
    parser.add_argument("--only", action="append", help="scenarios with this word; repeated: any of them")
    parser.add_argument("--real", type=float, default=0.05, help="share of stops that start Python anew (0.05)")
    parser.add_argument("--folder", type=Path, help="where the working folders lie (the system's temporary folder)")
    parser.add_argument("--keep", type=Path, help="copy the working folders of violations there")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

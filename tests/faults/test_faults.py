"""The short version of the fault harness: some stops, damaged files, full disks and races; `harness.py` does more."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("harness.py")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the harness asks Linux for its orphans")
FEW = ("--only=fit: stored", "--only=pictures")


COMMANDS = ("stops", "disk", "races")


def start(folder, kinds, *options):
    """Start the harness in a process of its own, which forks."""
    words = [sys.executable, HARNESS, *kinds, f"--json={folder / kinds[0]}.json", f"--folder={folder}", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / f"{kinds[0]}.log").open("w") as log:
        return subprocess.Popen(words, env=environment, stdout=log, stderr=log)


def reports(process, folder, kinds):
    """What the harness reports, by kind: nothing that breaks an invariant."""
    code = process.wait(3600)
    file = folder / f"{kinds[0]}.json"
    assert file.exists(), file.with_suffix(".log").read_text()
    found = json.loads(file.read_text())
    assert [violation for kind in kinds for violation in found[kind]["violations"]] == []
    assert code == 0
    return found


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    """Reports of the short version: harness("stops"); files are damaged while commands are disturbed."""
    folder = tmp_path_factory.mktemp("faults")
    kinds = {"corruptions": ("corruptions",), **dict.fromkeys(COMMANDS, COMMANDS)}
    commands = start(folder, COMMANDS, "--count=4", "--real=0", *FEW)
    begun = {"corruptions": start(folder, ("corruptions",), "--count=56"), **dict.fromkeys(COMMANDS, commands)}
    yield lambda kind: reports(begun[kind], folder, kinds[kind])[kind]
    for process in begun.values():
        process.kill()
        process.wait()


def test_stops(harness):
    report = harness("stops")
    assert report["counts"]["stops"] >= 4
    assert report["counts"]["at a file operation"] > 0


def test_corruptions(harness):
    counts = harness("corruptions")["counts"]
    assert counts["corruptions"] == 56
    refused = sum(number for name, number in counts.items() if name.endswith(": refused"))
    same = sum(number for name, number in counts.items() if name.endswith(": the same content"))
    assert refused + same == 56 and refused > 20


def test_full_disks(harness):
    report = harness("disk")
    if report["skipped"]:
        pytest.skip(f"no file system can be mounted: {report['skipped']}")
    assert report["counts"]["did not fit"] > 0


def test_races(harness):
    counts = harness("races")["counts"]
    assert counts["trials"] == 4
    assert counts["ended with 0"] >= 4


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("stops", 100), ("corruptions", 1000), ("disk", 30), ("races", 60)])
def test_at_length(tmp_path, kind, count):
    process = start(tmp_path, (kind,), f"--count={count}", "--seed=1")
    assert kind in reports(process, tmp_path, (kind,))

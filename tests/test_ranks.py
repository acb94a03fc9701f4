"""Two ranks: the same student as one, each test image once, the same condensed bytes, a signal that reaches all."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ddlight.result import Result

FIT = [
    "--data=Random",
    "--data.dataset=Digits",
    "--data.ipc=3",
    "--model=HardLabel",
    "--model.student=ConvNet",
    "--model.student.width=8",
    "--model.protocol=dvc_hard",
    "--model.recipe.batch=13",
    "--trainer.accelerator=cpu",
    "--trainer.progress=false",
]
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]
LIMIT = 240


def start(home, *words):
    environment = {**os.environ, "DDLIGHT_CACHE": str(home / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ddlight", *words]
    return subprocess.Popen(
        command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process, code=0):
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == code, output
    assert "Traceback" not in output, output
    return output


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_two_ranks_train_the_student_of_one(home):
    """30 images in batches of 13: parts of unequal size, CutMix partners on the other rank, a last batch of 4."""
    processes = [
        start(home, "fit", *FIT, "--model.budget.steps=15", "--trainer.run=one", "--trainer.devices=1"),
        start(home, "fit", *FIT, "--model.budget.steps=15", "--trainer.run=two", *TWO),
    ]
    for process in processes:
        finish(process)
    one, two = load_file(home / "one" / "student.safetensors"), load_file(home / "two" / "student.safetensors")
    for name in one:
        assert torch.allclose(one[name], two[name], atol=1e-5), name
    first, second = Result.read(home / "one"), Result.read(home / "two")
    assert (first.acc.test_images, second.acc.test_images) == (359, 359)  # an odd number: ranks have unequal shares
    assert (first.machine.ranks, second.machine.ranks) == (1, 2)
    assert second.acc.test == pytest.approx(first.acc.test, abs=0.3)
    assert second.budget == first.budget
    assert second.set.content_sha256 == first.set.content_sha256
    assert len(list(home.glob("**/result.json"))) == 2


def test_two_ranks_condense_the_same_bytes(home):
    condense = ["condense", "--data=Random", "--data.dataset=Digits", "--data.ipc=4", "--trainer.accelerator=cpu"]
    one = start(home, *condense, "--data.cache=first", "--trainer.devices=1")
    two = start(home, *condense, "--data.cache=second", *TWO)
    finish(one)
    finish(two)
    manifests = [json.loads(next((home / c).rglob("manifest.json")).read_text()) for c in ("first", "second")]
    assert manifests[0]["files"] == manifests[1]["files"]
    assert manifests[0]["content_sha256"] == manifests[1]["content_sha256"]
    assert not list(home.rglob("*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["rank 0", "rank 1", "all"])
def test_a_signal_to_any_rank_saves_on_all(home, target):
    steps = ["--model.budget.steps=100000", "--trainer.checkpoint_every=0"]
    process = start(home, "fit", *FIT, *steps, "--trainer.run=run", *TWO)
    until = time.monotonic() + LIMIT
    while not (home / "run" / "config.yaml").exists() and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(8)
    others = children(process.pid)
    receivers = {"rank 0": [process.pid], "rank 1": others[:1], "all": [process.pid, *others]}[target]
    for pid in receivers:
        os.kill(pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 143, output
    saved = torch.load(home / "run" / "last.ckpt", weights_only=True)
    assert saved["global_step"] > 0
    assert not (home / "run" / "result.json").exists()

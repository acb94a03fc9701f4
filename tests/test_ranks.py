"""Several ranks do what one does, and a signal to any of them stops all of them after saving."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from ddlight.__main__ import main
from ddlight.data import Digits
from ddlight.methods.scoring.table import read_table
from ddlight.networks.export import load_student

CPU = ["--trainer.accelerator=cpu", "--trainer.progress=false"]
RANDOM = ["--data=Random", "--data.dataset=Digits", "--data.dataset.size=8", "--data.ipc=3"]
STUDENT = ["--model=HardLabel", "--model.student=ConvNet", "--model.student.depth=1", "--model.student.width=4"]
RECIPE = ["--model.recipe.batch=7", "--model.recipe.mix=cutmix", "--model.recipe.ema=0.9", "--model.recipe.lr=0.05"]
TEST_IMAGES = len(Digits(size=8).split("test").labels)
"""An odd number."""


def fit_words(run, *more):
    return ["fit", *RANDOM, *STUDENT, *RECIPE, *CPU, f"--trainer.run={run}", *more]


def rank_main(folder, environment, words):
    """One rank, in a process of its own."""
    os.chdir(folder)
    os.environ.update(environment)
    torch.set_num_threads(1)
    sys.exit(main(words))


def start(processes, folder, ranks, *words):
    """Start `ranks` processes as SLURM or torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = [*words, f"--trainer.devices={ranks}", "--trainer.strategy=ddp"]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0", "DDLIGHT_CACHE": str(folder / "cache")}
    started = []
    for rank in range(ranks):
        environment = {**shared, "LOCAL_RANK": str(rank)}
        started.append(processes.Process(target=rank_main, args=(folder, environment, words), daemon=True))
        started[-1].start()
    return started


def codes(started, seconds=240):
    """Exit codes; None for what hangs, which is ended then."""
    end = time.monotonic() + seconds
    for process in started:
        process.join(max(0.1, end - time.monotonic()))
    found = [process.exitcode for process in started]
    for process in started:
        process.kill()
    return found


def one_rank(command, run, *more):
    """The same command on one rank, in this process."""
    found = command(*fit_words(run, *more, "--trainer.devices=1"))
    assert found.code == 0, found.err


def assert_same_run(home, one, other):
    """Weights, curve and result of two runs agree as far as sums in another order can."""
    a, b = (load_file(home / run / "student.safetensors") for run in (one, other))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-5)
    tables = [(home / run / "metrics.csv").read_text().split() for run in (one, other)]
    assert tables[0][0] == tables[1][0] and len(tables[0]) == len(tables[1])
    for left, right in zip(tables[0][1:], tables[1][1:], strict=True):
        assert [float(v) for v in left.split(",")] == pytest.approx([float(v) for v in right.split(",")], abs=1e-4)
    first, second = (json.loads((home / run / "result.json").read_text()) for run in (one, other))
    assert first["acc"]["test_images"] == second["acc"]["test_images"] == TEST_IMAGES
    assert second["acc"]["test"] == pytest.approx(first["acc"]["test"], abs=0.6)  # two images at a boundary
    assert second["nll"] == pytest.approx(first["nll"], abs=1e-4)
    assert second["ece"] == pytest.approx(first["ece"], abs=1e-2)
    for name in ("budget", "recipe", "augment", "set"):
        ours, theirs = ({k: v for k, v in r[name].items() if k != "path"} for r in (first, second))
        assert ours == theirs
    assert second["acc"]["test_reads"] == first["acc"]["test_reads"]
    assert second["machine"]["ranks"] != first["machine"]["ranks"] == 1


def test_two_ranks_that_the_command_starts_agree_with_one(home, command):
    words = [*fit_words("two", "--model.budget.epochs=4"), "--trainer.devices=2", "--trainer.strategy=ddp"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "ddlight", *words], env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("acc ") == 1 and "2 x cpu" in done.stderr
    assert "Warning" not in done.stderr and "recommended" not in done.stderr  # of Lightning to its users, not to ours
    one_rank(command, "one", "--model.budget.epochs=4")
    assert_same_run(home, "one", "two")
    assert sorted(p.name for p in (home / "two").iterdir()) == sorted(p.name for p in (home / "one").iterdir())
    assert not (home / "two" / "last.ckpt").exists()


def test_three_ranks_that_share_an_accumulated_batch_agree_with_one(home, command, processes):
    """Batches of 7 and 2 images in six parts: some parts are empty."""
    more = [
        "--model.budget.steps=13",
        "--model.test_curve=2",
        "--model.difficulty_curve=2",
        "--data.dataset.held_out=3",
        "--model.recipe.dsa=crop_flip",
    ]
    started = start(processes, home, 3, *fit_words("three", *more), "--trainer.accumulate_grad_batches=2")
    assert codes(started) == [0, 0, 0]
    one_rank(command, "one", *more)
    assert_same_run(home, "one", "three")
    curves = [(home / run / "difficulty.csv").read_text().replace("el2n", "0").split() for run in ("one", "three")]
    assert len(curves[0]) == 3
    for left, right in zip(curves[0][1:], curves[1][1:], strict=True):
        assert [float(v) for v in left.split(",")] == pytest.approx([float(v) for v in right.split(",")], abs=1e-4)
    results = [json.loads((home / run / "result.json").read_text())["acc"] for run in ("one", "three")]
    assert results[0]["test_reads"] == 3
    assert results[1]["held_out"] == pytest.approx(results[0]["held_out"], abs=4)
    assert results[1]["best_on_test"] == pytest.approx(results[0]["best_on_test"], abs=0.6)


def test_ranks_test_the_student_that_they_export(home, processes):
    """BatchNorm's statistics differ between ranks in training; one of them is exported, and is what is tested."""
    more = ["--model.student.norm=batch", "--model.budget.steps=12", "--data.dataset.held_out=3"]
    assert codes(start(processes, home, 2, *fit_words("run", *more))) == [0, 0]
    network, card = load_student(home / "run")
    test = Digits(size=8, held_out=3).split("test")
    images = (torch.tensor(test.images).float() / 255 - card.mean[0]) / card.std[0]
    with torch.no_grad():
        logits = network.eval()(images)
    result = json.loads((home / "run" / "result.json").read_text())
    assert result["nll"] == pytest.approx(float(cross_entropy(logits, torch.tensor(test.labels))), rel=1e-4)


def files_of(folder):
    """Bytes of a set's files by name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def without_times(found):
    (name,) = [name for name in found if name.endswith("manifest.json")]
    manifest = json.loads(found.pop(name))
    return found, {k: v for k, v in manifest.items() if k not in ("seconds", "peak_memory_bytes", "sha256")}


def test_two_ranks_condense_the_same_bytes(home, command, processes):
    assert codes(start(processes, home, 2, "condense", *RANDOM, *CPU)) == [0, 0]
    two = files_of(home / "cache")
    (home / "cache").rename(home / "moved")
    found = command("condense", *RANDOM, *CPU, "--trainer.devices=1")
    assert found.code == 0, found.err
    assert len(two) == 2  # the selection and its manifest; no claim, no unit is left
    assert without_times(files_of(home / "cache")) == without_times(two)


LONG = ["--model.budget.steps=20000", "--trainer.checkpoint_every=0"]


@pytest.mark.parametrize("receivers", [(1,), (0, 1)], ids=["rank 1", "all ranks"])
def test_a_signal_stops_all_ranks_after_saving(home, processes, receivers):
    started = start(processes, home, 2, *fit_words("run", *LONG))
    end = time.monotonic() + 240
    while not (home / "run" / "metrics.csv").exists():
        assert time.monotonic() < end and all(p.is_alive() for p in started)
        time.sleep(0.02)
    for rank in receivers:
        os.kill(started[rank].pid, signal.SIGTERM)
    assert codes(started, 120) == [143, 143]
    saved = torch.load(home / "run" / "last.ckpt", weights_only=True)
    assert 0 < saved["global_step"] < 20000
    assert not (home / "run" / "result.json").exists()


def test_a_run_that_breaks_down_ends_on_all_ranks(home, processes):
    words = fit_words("run", "--model.budget.steps=300", "--model.recipe.lr=1e20")
    assert codes(start(processes, home, 2, *words), 100) == [1, 1]
    assert not (home / "run" / "student.safetensors").exists()


@pytest.mark.slow
def test_a_signal_to_the_command_stops_the_ranks_it_started(home):
    words = [*fit_words("run", *LONG), "--trainer.devices=2", "--trainer.strategy=ddp"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "ddlight", *words], env=environment)
    try:
        end = time.monotonic() + 240
        while not (home / "run" / "metrics.csv").exists():
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.05)
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        process.terminate()
        assert process.wait(60) == 143
        assert (home / "run" / "last.ckpt").exists()
        end = time.monotonic() + 60
        while any(os.path.exists(f"/proc/{child}") for child in children):  # noqa: PTH110
            assert time.monotonic() < end
            time.sleep(0.1)
    finally:
        process.kill()


@pytest.mark.slow
def test_two_ranks_that_the_command_starts_condense_the_same_bytes(home, command):
    words = ["condense", *RANDOM, *CPU, "--trainer.devices=2", f"--data.cache={home / 'two'}"]
    done = subprocess.run([sys.executable, "-m", "ddlight", *words], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert command("condense", *RANDOM, *CPU, "--trainer.devices=1").code == 0
    assert without_times(files_of(home / "two")) == without_times(files_of(home / "cache"))


SCORE = ["score", "--data=AUM", "--data.dataset=Digits", "--data.dataset.size=16", *CPU]
SCORE += ["--data.scoring.student=ConvNet", "--data.scoring.student.depth=2", "--data.scoring.student.width=4"]
SCORE += ["--data.scoring.recipe.batch=301", "--data.scoring.recipe.lr=0.02", "--data.scoring.budget.epochs=3"]
SCORE += ["--data.scoring.ring=2", "--data.scoring.clean=3"]


def test_two_ranks_score_images_as_one_does(home, command, processes):
    """1,438 images in batches of 301: the last batch of a pass is short and odd, and no image is padded in twice."""
    started = start(processes, home, 2, *SCORE, "--trainer.run=two", "--data.cache=two_cache")
    assert codes(started) == [0, 0]
    assert command(*SCORE, "--trainer.devices=1", "--data.cache=one_cache").code == 0
    folders = [next((home / f"{name}_cache" / "Digits" / "scoring").iterdir()) for name in ("one", "two")]
    assert folders[0].name == folders[1].name
    one, two = (read_table(folder) for folder in folders)
    assert one.ids.tolist() == two.ids.tolist() == Digits(size=16).index("train").ids.tolist()
    assert one.columns.keys() == two.columns.keys()
    for name, values in one.columns.items():
        if name in ("train.forgetting", "train.learned"):  # an answer at a boundary may fall on either side
            assert (values != two.columns[name]).mean() < 0.01
        else:
            torch.testing.assert_close(torch.from_numpy(values), torch.from_numpy(two.columns[name]), rtol=0, atol=1e-4)
    assert two.columns["train.seen"].tolist() == [3.0] * 1438
    assert not list((home / "two_cache").rglob("*.partial"))

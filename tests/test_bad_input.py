"""What goes wrong gives one clear message and the right exit code, never a traceback, and loses nothing."""

import ctypes
import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ddlight.core import artefact
from ddlight.core.errors import UsageError

QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
CPU = ("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.progress=false")
SMALL = (*CPU, "--model.student.width=8", "--model.budget.steps=3")
FIT = ("fit", "--config", QUICKSTART, *SMALL)
DATA = {"class_path": "Random", "init_args": {"dataset": "Digits"}}
MODEL = {"class_path": "HardLabel", "init_args": {"student": "MLP"}}


def check(answer, code, *parts):
    """One message of ours with these parts, and this exit code."""
    assert answer.code == code, answer.err
    assert [line.startswith("ddlight: ") for line in answer.err.splitlines()].count(True) == 1
    assert "Traceback" not in answer.err
    for part in parts:
        assert part in answer.err


def contents(folder):
    """Every file below a folder with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- the command line ---

TEACHER = ("--model=TeacherLabel", "--model.teacher=RunTeacher")
BUDGET_LINE = "Write for example --model.budget.epochs=300"
WORDS = {
    "method": (["--data=Randon"], "Unknown method 'Randon'. Did you mean Random or GraNd?", "Allowed: ", "FullData"),
    "regime": (["--model=HardLabl"], "Unknown regime 'HardLabl'. Did you mean HardLabel", "MultiTeacherLabel"),
    "student": (["--model.student=ConvNt"], "Unknown student 'ConvNt'. Did you mean ConvNet?", "ResNetAP"),
    "dataset": (["--data.dataset=Digit"], "Unknown dataset 'Digit'. Did you mean Digits", "CIFAR10"),
    "teacher": ([TEACHER[0], "--model.teacher=RunTeachr"], "Unknown teacher 'RunTeachr'. Did you mean RunTeacher"),
    "family": (["--data=Digits"], "Unknown method 'Digits'.", "Allowed: "),
    "base of methods": (["--data=Selector"], "Unknown method 'Selector'.", "Allowed: ", "AUM, "),
    "half a method": (["--data=PatchSynthesiser"], "Unknown method 'PatchSynthesiser'.", "RDED"),
    "base of regimes": (["--model=Regime"], "Unknown regime 'Regime'.", "Allowed: ", "HardLabel, "),
    "flag": (["--tinny"], "Unknown option 'tinny'. Did you mean tiny"),
    "seed": (["--seed=3"], "Unknown option 'seed'. Did you mean data.seed or model.seed?"),
    "import path": (["--data=no.Such"], "Unknown method 'no.Such'.", "Allowed: "),
    "other class": (["--data=collections.OrderedDict"], "Unknown method 'collections.OrderedDict'.", "Allowed: "),
    "option": (["--trainer.device=1"], "Unknown option 'trainer.device'. Did you mean trainer.devices"),
    "no option": (["stray"], "Unexpected word 'stray': an option is written --name=value."),
    "data option": (["--data.icp=1"], "Random has no option 'icp'. Did you mean ipc? Its options: dataset, ipc, seed"),
    "recipe": (["--model.lr=0.1"], "HardLabel has no option 'lr'. Did you mean recipe.lr? Its options: student"),
    "budget": (["--model.epochs=3"], "HardLabel has no option 'epochs'. Did you mean budget.epochs?"),
    "study": (["--config", str(QUICKSTART.parent / "studies" / "my_photos.yaml")], "is a study", "ddlight grid "),
    "model option": (["--model.budgt.steps=1"], "HardLabel has no option 'budgt.steps'. Did you mean budget"),
    "nested": (["--model.student.widht=1"], "ConvNet has no option 'widht'. Did you mean width? Its options: depth"),
    "dataset option": (["--data.dataset.sise=8"], "Digits has no option 'sise'. Did you mean size?"),
    "unit": (["--model.budget.stesp=1"], "Budget has no option 'stesp'. Did you mean steps?"),
    "whole number": (["--data.ipc=ten"], "data.ipc: expected int; given: ten."),
    "fraction": (["--model.seed=1.5"], "model.seed: expected int; given: 1.5."),
    "number": (["--model.recipe.lr=fast"], "model.recipe.lr: expected float or set; given: fast."),
    "choice": (
        ["--model.recipe.optimizer=sdg"],
        "model.recipe.optimizer: expected one of sgd, adam, adamw; given: sdg.",
    ),
    "precision": (["--trainer.precision=8"], "trainer.precision: expected one of 32-true, ", "given: 8."),
    "two units": (
        ["--model.budget.epochs=4"],
        "exactly one unit; given: steps, epochs",
        "--model.budget=null --model.budget.steps=",
    ),
    "negative": (["--model.budget.steps=-3"], "The budget must be positive; given: steps=-3."),
    "max_epochs": (["--trainer.max_epochs=3"], "'trainer.max_epochs' is not an option here", BUDGET_LINE),
    "max_step": (["--trainer.max_step=3"], "'trainer.max_step' is not an option here", BUDGET_LINE),
    "max_time": (["--trainer.max_time=00:01:00:00"], "'trainer.max_time' is not an option here", BUDGET_LINE),
    "no teacher": (["--model=TeacherLabel"], "'model.teacher' is missing", "--model.teacher=", "TorchvisionTeacher"),
    "no run": ([*TEACHER], "'model.teacher.run' is missing", "--model.teacher.run="),
    "ipc": (["--data.ipc=0"], "ipc must be at least 1", "ipc=0"),
    "width": (["--model.student.width=0"], "ConvNet with width: 0. Allowed: 1 or more."),
    "accelerator": (["--trainer.accelerator=cpuu"], "The trainer's options cannot be used here", "cpuu"),
    "crowd": (["--trainer.devices=100000"], "devices is 100000, processes on ", "Allowed: 1 to "),
    "huge seed": (["--model.seed=99999999999999999999999"], "seed is 99999999999999999999999; it lies below 2**63"),
    "devices": (["--trainer.devices=2.5"], "The trainer's options cannot be used here", "int > 0"),
    "file": (["--config=nope.yaml"], "There is no config nope.yaml. 'ddlight configs' lists"),
    "fragment": (["--model.student=base/nope.yaml"], "model.student: there is no file base/nope.yaml."),
}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_a_wrong_word_is_named_with_what_is_allowed(command, home, words):
    given, *parts = words
    answer = command(*FIT, *given)
    check(answer, 2, *parts)
    assert len(answer.err.splitlines()) == 1
    assert contents(home) == {}


NESTED = {"class_path": "TorchvisionTeacher", "init_args": {"modl": "resnet18"}}
FILES = {
    "key": ({"dtaa": DATA, "model": MODEL}, "Unknown option 'dtaa'. Did you mean data?"),
    "length": (
        {"data": DATA, "model": MODEL, "trainer": {"max_epochs": 3}},
        "'trainer.max_epochs' is not",
        BUDGET_LINE,
    ),
    "trainer": (
        {"data": DATA, "model": MODEL, "trainer": {"devics": 3}},
        "'trainer.devics'. Did you mean trainer.devices",
    ),
    "in a list": (
        {
            "data": DATA,
            "model": {"class_path": "MultiTeacherLabel", "init_args": {"student": "MLP", "teachers": [NESTED]}},
        },
        "TorchvisionTeacher has no option 'modl'. Did you mean model?",
    ),
    "value": (
        {"data": {**DATA, "init_args": {"dataset": "Digits", "ipc": "many"}}, "model": MODEL},
        "data.ipc: expected int",
    ),
    "missing fragment": ({"data": DATA, "model": MODEL, "trainer": "base/none.yaml"}, "base/none.yaml cannot be read"),
    "missing base": ({"config": "none.yaml", "data": DATA, "model": MODEL}, "There is no config none.yaml"),
    "no method": ({"model": MODEL}, "There is no data: give --config, or --data with a class"),
    "no regime": ({"data": DATA}, "There is no model: give --config, or --model with a class"),
}


@pytest.mark.parametrize("case", FILES.values(), ids=FILES)
def test_a_wrong_word_in_a_file_is_named_too(command, home, case):
    content, *parts = case
    (home / "mine.yaml").write_text(yaml.safe_dump(content))
    check(command("fit", "--config", "mine.yaml", *CPU), 2, *parts)


@pytest.mark.parametrize("text", ["data: {class_path: Random\nmodel: [", "just words", "- a\n- list", ""])
def test_a_file_that_is_no_config(command, home, text):
    (home / "mine.yaml").write_text(text)
    check(command("fit", "--config", "mine.yaml"), 2, "mine.yaml is not ")


def test_nothing_given(command):
    check(command("fit"), 2, "There is no model: give --config")
    check(
        command("condense"), 2, "There is no data: give --config", "ddlight condense --config configs/quickstart.yaml"
    )


def test_a_run_folder_that_cannot_be_made(command, home):
    (home / "file").write_text("mine")
    check(command(*FIT, "--trainer.run=file/run"), 3, "The folder file/run cannot be made: Not a directory. Name one")
    assert (home / "file").read_text() == "mine"


def test_a_cache_that_cannot_be_made(command, home, monkeypatch):
    (home / "file").write_text("mine")
    monkeypatch.setenv("DDLIGHT_CACHE", str(home / "file" / "cache"))
    check(command("condense", "--data=Random", "--data.dataset=Digits", *CPU), 3, "file/cache", "cannot be made")


def test_debug_shows_where_it_happened(command, monkeypatch):
    monkeypatch.setenv("DDLIGHT_DEBUG", "1")
    with pytest.raises(UsageError, match="Randon"):
        command(*FIT, "--data=Randon")


# --- data, sets, teachers ---


def test_a_protocol_that_does_not_exist(command):
    check(command(*FIT, "--model.protocol=dcbnch"), 2, "Unknown protocol 'dcbnch'. Did you mean dcbench", "rethinkdc")


def test_a_dataset_that_is_not_there(command, home, monkeypatch):
    monkeypatch.setenv("DDLIGHT_DATA", str(home / "data"))
    tree = f"{home / 'data'}/cifar-10-batches-py/\n    data_batch_1"
    check(command(*FIT, "--data.dataset=CIFAR10"), 3, "CIFAR10 was not found", tree, "download=True", "DDLIGHT_DATA")


def test_a_folder_of_pictures_that_is_none(command, home):
    folder = ("--data.dataset=ImageFolder", "--data.dataset.root=photos")
    check(command(*FIT, *folder), 3, "ImageFolder was not found", "photos", "<root>/<class>/*.jpg")
    (home / "photos").mkdir()
    check(command(*FIT, *folder), 3, "photos has no class folders. Put the images of each class into")
    (home / "photos" / "cat").mkdir()
    (home / "photos" / "dog").mkdir()
    check(command(*FIT, *folder), 3, "photos has no images in 2 of its 2 class folders: cat, dog")
    check(command(*FIT, folder[0]), 2, "ImageFolder needs a folder: set the dataset's `root`.")


def test_more_images_than_a_class_has(command, home):
    answer = command(*FIT, "--data.ipc=1000")
    check(answer, 2, "ipc=1000 is more than class '8' of Digits has: 139 images. Use --data.ipc=139 or less.")
    assert not list(home.rglob("manifest.json"))


def test_a_batch_larger_than_the_set(command):
    words = ("--model.recipe.batch=1000", "--data.ipc=3")
    text = "The batch of 1000 is larger than the condensed set of 30 images. Use --model.recipe.batch=30 or less."
    check(command(*FIT, *words), 2, text)
    check(command(*FIT, *words, "--dry-run"), 2, text)
    assert "capped at the set's 30 images" in command(*FIT, "--data.ipc=3").err


def test_a_teacher_that_does_not_exist(command):
    check(
        command(*FIT, *TEACHER, "--model.teacher.run=nowhere"), 3, "There is no run at nowhere", "ddlight fit --config"
    )


def test_a_teacher_of_other_classes(command, home):
    assert command(*FIT, "--trainer.run=teacher").code == 0
    for name in ("cat", "dog", "owl"):
        (home / "photos" / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.full((32, 32, 3), 60 * number, np.uint8)
            Image.fromarray(pixels).save(home / "photos" / name / f"{number}.png")
    folder = ("--data.dataset=ImageFolder", "--data.dataset.root=photos", "--data.dataset.size=32", "--data.ipc=2")
    answer = command(*FIT, *folder, *TEACHER, "--model.teacher.run=teacher")
    check(answer, 2, "The teacher teacher has 10 classes; the dataset has 3. Give a teacher that was trained on this")


def beasts(place, names):
    """A dataset of photographs whose red is that of its class, whatever its classes are called."""
    for value, name in enumerate(names):
        (place / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.full((16, 16, 3), (80 * value, 10 * number, 0), np.uint8)
            Image.fromarray(pixels).save(place / name / f"{number}.png")
    return ("--data.dataset=ImageFolder", f"--data.dataset.root={place}", "--data.dataset.size=16", "--data.ipc=2")


@pytest.mark.parametrize("command_words", [("fit",), ("fit", "--dry-run"), ("test", "--trainer.run=teacher")])
def test_a_run_on_other_classes_is_named_wherever_it_is_used(command, home, command_words):
    """A teacher and a run that is tested again: as many classes, and other ones."""
    assert command(*FIT, *beasts(home / "one", ("ant", "bee", "cat")), "--trainer.run=teacher").code == 0
    other = beasts(home / "two", ("dog", "eel", "fox"))
    teacher = () if command_words[0] == "test" else (*TEACHER, "--model.teacher.run=teacher")
    answer = command(command_words[0], *FIT[1:], *other, *teacher, *command_words[1:])
    said = answer.err + answer.out
    assert (
        "trained on other classes than those of ImageFolder-two: ant, bee, cat; the dataset has dog, eel, fox" in said
    )
    assert "Traceback" not in said and answer.code in (0, 2)
    assert (answer.code == 0) == ("--dry-run" in command_words)


def test_weights_without_a_network(command, home, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(home / "torch"))
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    teacher = ("--model=TeacherLabel", "--model.teacher=TorchvisionTeacher", "--model.teacher.model=resnet18")
    answer = command(*FIT, *teacher)
    check(answer, 3, "The weights IMAGENET1K_V1 of torchvision's resnet18 could not be had", "curl -L", "`file:`")
    check(
        command(*FIT, *teacher[:2], "--model.teacher.model=resnt18"),
        2,
        "no classifier 'resnt18'. Did you mean resnet18",
    )


def test_a_loss_that_is_not_finite(command, home):
    words = ("--trainer.run=run", "--model.budget.steps=30")
    check(command(*FIT, *words, "--model.recipe.lr=1e30"), 1, "The loss became ", "Lower the learning rate")
    assert not (home / "run" / "result.json").exists()
    assert not (home / "run" / "last.ckpt").exists()
    assert list(home.rglob("manifest.json"))
    assert command(*FIT, *words).code == 0


# --- what is on disk ---


@pytest.fixture
def sealed(command, home):
    """A condensed set that quickstart uses."""
    assert command("condense", "--config", QUICKSTART, *CPU).code == 0
    return next((home / "cache").rglob("manifest.json")).parent


def test_a_set_that_was_changed(command, home, sealed):
    file = sealed / "selection.csv"
    content = bytearray(file.read_bytes())
    content[40] ^= 1
    file.write_bytes(content)
    before = contents(home / "cache")
    check(
        command(*FIT), 3, f"{sealed} is not what was sealed: selection.csv", "Move the folder away", "ddlight condense"
    )
    assert contents(home / "cache") == before


@pytest.mark.parametrize("keep", [0, 100])
def test_a_manifest_that_was_cut_off(command, home, sealed, keep):
    file = sealed / "manifest.json"
    file.write_bytes(file.read_bytes()[:keep])
    before = contents(home / "cache")
    check(command(*FIT), 3, f"{file} is damaged")
    assert contents(home / "cache") == before


def test_a_run_that_is_finished(command, home):
    assert command(*FIT, "--trainer.run=run").code == 0
    before = contents(home / "run")
    again = command(*FIT, "--trainer.run=run", "--model.seed=7")
    check(again, 2, "The run run is finished (acc ", "Give another folder with --trainer.run")
    assert contents(home / "run") == before


def test_a_run_that_another_process_writes(command, home):
    (home / "run").mkdir()
    with (home / "run" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        check(
            command(*FIT, "--trainer.run=run"), 2, "Another process is writing the run run. Give another --trainer.run."
        )
    assert command(*FIT, "--trainer.run=run").code == 0


def test_a_run_that_broke_down_is_free_again(command, home):
    words = (*FIT, "--trainer.run=run", "--data.ipc=3")
    check(command(*words, "--model.recipe.batch=1000"), 2, "larger than the condensed set")
    assert not (home / "run" / ".lock").exists()
    assert command(*words).code == 0


def test_reading_a_run_that_is_not_there(command):
    check(command("test", "--config", QUICKSTART, *CPU, "--trainer.run=none"), 3, "There is no run at none")


# --- a full disk ---


def test_a_disk_that_fills_up_while_a_set_is_made(command, home, monkeypatch):
    fsync, calls = os.fsync, []

    def full(number):
        calls.append(number)
        if len(calls) > 8:  # of each unit its checksum and its file
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(number)

    words = ("condense", "--config", QUICKSTART, *CPU)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        check(command(*words), 3, "The disk is full", "run the same command again: it continues")
    assert not list(home.rglob("manifest.json"))
    assert not list(home.rglob("*.part"))
    assert len(list(home.rglob("*.partial/*.safetensors"))) == 4
    assert command(*words).code == 0
    folder = next(home.rglob("manifest.json")).parent
    assert artefact.verify(folder)["images"] == 100
    assert not list(home.rglob("*.partial"))


@pytest.fixture
def small_disk(home):
    """A real file system, resized by resize("64k"); needs the right to mount one."""
    place = home / "disk"
    place.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(size, flags=0):
        options = f"size={size}".encode()
        return libc.mount(b"tmpfs", str(place).encode(), b"tmpfs", ctypes.c_ulong(flags), options)

    if mount("12k") != 0:
        pytest.skip(f"no right to mount a file system: {os.strerror(ctypes.get_errno())}")
    yield place, lambda size: mount(size, 32)
    libc.umount2(str(place).encode(), 2)


def test_a_disk_that_is_really_full(command, small_disk):
    place, resize = small_disk
    words = ("condense", "--config", QUICKSTART, *CPU, f"--data.cache={place}")
    check(command(*words), 3, "The disk is full", str(place))
    assert not list(place.rglob("manifest.json"))
    assert resize("4m") == 0
    assert command(*words).code == 0
    assert artefact.verify(next(place.rglob("manifest.json")).parent)["images"] == 100


@pytest.mark.parametrize(("size", "file"), [("8k", "metrics.csv"), ("60k", "last.ckpt"), ("76k", "student")])
def test_a_disk_that_is_full_when_a_run_saves(command, home, small_disk, monkeypatch, size, file):
    monkeypatch.setattr("ddlight.train.callbacks.curve.WRITE_SECONDS", 0.0)
    place, resize = small_disk
    assert resize(size) == 0
    words = (*FIT, "--model.budget.steps=20")
    check(command(*words, f"--trainer.run={place / 'run'}"), 3, "The disk is full", f"{place / 'run'}/", file)
    assert not list(place.rglob("result.json"))
    assert not list(place.rglob("last.part"))
    assert resize("4m") == 0
    again = command(*words, f"--trainer.run={place / 'run'}")
    assert again.code == 0
    assert ("continuing from" in again.err) == (size != "8k")
    assert command(*words, "--trainer.run=other").code == 0
    student = "student.safetensors"
    assert (place / "run" / student).read_bytes() == (home / "other" / student).read_bytes()


# --- W&B without a login ---


def test_wandb_without_a_login_goes_on_offline(command, home, monkeypatch):
    wandb = pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    answer = command(*FIT, "--wandb=project", "--trainer.run=runs/a", "--data.dataset.held_out=5")
    wandb.finish()
    wandb.teardown()
    assert answer.code == 0, answer.err
    assert "W&B has no login here: logging offline to runs/a" in answer.err
    assert [p.parent.parent.name for p in home.rglob("offline-run-*")] == ["a"]
    assert not (home / "wandb").exists()
    log = next((home / "runs" / "a" / "wandb").glob("offline-run-*/*.wandb")).read_bytes()
    for word in (b"dcbench", b"train/loss", b"val/acc", b"test/acc"):
        assert word in log
    assert yaml.safe_load((home / "runs" / "a" / "config.yaml").read_text())["wandb"] == "project"


# --- several processes ---


def start(*words, **variables):
    """Start a command of ours in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-m", "ddlight", *map(str, words)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process, seconds=120):
    """Wait until something is true, while a process lives."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def test_sigterm_saves_and_the_run_goes_on_as_if_nothing_had_happened(command, home):
    words = (*FIT, "--model.budget.steps=200", "--trainer.checkpoint_every=0")
    process = start(*words, "--trainer.run=run")
    wait_for((home / "run" / "metrics.csv").exists, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Traceback" not in err
    assert (home / "run" / "last.ckpt").exists()
    assert not (home / "run" / "result.json").exists()
    stopped = torch.load(home / "run" / "last.ckpt", weights_only=True)["global_step"]
    assert 0 < stopped < 200
    again = command(*words, "--trainer.run=run")
    assert again.code == 0
    assert "continuing from run/last.ckpt" in again.err
    assert not (home / "run" / "last.ckpt").exists()
    assert command(*words, "--trainer.run=other").code == 0
    for name in ("student.safetensors", "metrics.csv"):
        assert (home / "run" / name).read_bytes() == (home / "other" / name).read_bytes()
    one, other = (json.loads((home / name / "result.json").read_text()) for name in ("run", "other"))
    assert one["acc"] == other["acc"]
    assert one["budget"] == other["budget"]


SLOW = '''
"""Slow: a random subset that takes its time, made only when two processes are there."""

import os
import time
from pathlib import Path

from ddlight.data.base import RealDataset
from ddlight.methods.baselines.random import Random


class Slow(Random):
    """A random subset that takes its time.

    Paper: none.
    """

    def __init__(self, dataset: RealDataset, ipc: int = 10, seed: int = 0, cache: str | None = None) -> None:
        super().__init__(dataset, ipc, seed, cache)

    def make(self, unit):
        here = Path("arrived")
        here.mkdir(exist_ok=True)
        (here / str(os.getpid())).touch()
        end = time.monotonic() + 120
        while len(list(here.iterdir())) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.05)
        with Path("made").open("a") as file:
            file.write(f"{os.getpid()} {unit.number}\\n")
        return super().make(unit)
'''


def test_two_processes_make_one_set_together(command, home):
    (home / "methods").mkdir()
    (home / "methods" / "slow.py").write_text(SLOW)
    words = ("condense", "--data=Slow", "--data.dataset=Digits", "--data.ipc=3", *CPU[:2])
    processes = [start(*words, DDLIGHT_METHODS=str(home / "methods")) for _ in range(2)]
    for process in processes:
        _, err = process.communicate(timeout=180)
        assert process.returncode == 0, err
        assert "condensed set: " in err
    made = [line.split() for line in (home / "made").read_text().splitlines()]
    assert len({pid for pid, _ in made}) == 2
    assert sorted(int(unit) for _, unit in made) == list(range(10))
    folder = next(home.rglob("manifest.json")).parent
    assert not list(home.rglob("*.partial"))
    assert not list(home.rglob("*.claim"))
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]
    alone = command("condense", "--data=Random", "--data.dataset=Digits", "--data.ipc=3", *CPU[:2])
    assert alone.code == 0
    random = next((home / "cache" / "Digits" / "Random").rglob("manifest.json")).parent
    assert artefact.verify(folder)["content_sha256"] == artefact.verify(random)["content_sha256"]


def test_the_line_that_drops_a_config_s_budget_works_as_it_is_written(command, home):
    refused = command(*FIT, "--model.budget.epochs=4")
    words = re.search(r"(--model\.budget=null) (--model\.budget\.steps=\d+) drops", refused.err)
    assert words is not None, refused.err
    done = command(*FIT, *words.groups(), "--dry-run")
    assert done.code == 0, done.err


# --- what the machine says ---

CAUSES = {
    "closed file": (PermissionError(errno.EACCES, "Permission denied", "set/selection.csv"), 3, "'set/selection.csv'"),
    "dying disk": (
        OSError(errno.EIO, "Input/output error", "cache/x"),
        3,
        "'cache/x' cannot be read or written: Input",
    ),
    "other disk": (OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b"), 3, "'a' and 'b' cannot"),
    "stale": (OSError(errno.ESTALE, "Stale file handle"), 3, "A file cannot be read or written: Stale file handle"),
    "long name": (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), 3, "File name too long"),
    "text": (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 3, "is not UTF-8 text"),
    "self": (RecursionError("maximum recursion depth exceeded"), 2, "refers to itself"),
    "memory": (MemoryError(), 1, "more memory than there is"),
    "torch": (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 4e12 bytes"), 1, "more memory"),
    "Ctrl-C": (KeyboardInterrupt(), 130, "Interrupted. Nothing finished was lost: the same command goes on"),
}


@pytest.mark.parametrize("case", CAUSES)
def test_what_the_machine_or_a_person_causes_is_one_line(command, monkeypatch, case):
    error, code, text = CAUSES[case]

    def fail(argv):
        raise error

    monkeypatch.setattr("ddlight.cli.start.main", fail)
    answer = command(*FIT)
    check(answer, code, text)
    assert len(answer.err.splitlines()) == 1


def test_a_mistake_of_the_program_keeps_its_traceback(command, monkeypatch):
    def fail(argv):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("ddlight.cli.start.main", fail)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        command(*FIT)


def test_a_network_that_no_machine_holds(command):
    check(command(*FIT, "--model.student=ConvNet", "--model.student.width=1000000"), 1, "more memory than there is")


def test_ctrl_c_in_a_run_says_what_goes_on(home):
    words = [sys.executable, "-m", "ddlight", *map(str, FIT), "--model.budget.steps=100000", "--trainer.run=run"]
    listens = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
    with subprocess.Popen(
        words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, preexec_fn=listens
    ) as process:
        try:
            end = time.monotonic() + 60
            while not (home / "run" / "config.yaml").exists():
                assert time.monotonic() < end and process.poll() is None
                time.sleep(0.1)
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            err = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert (process.returncode, "Traceback" in err) == (130, False), err
    assert "ddlight: Interrupted. Nothing finished was lost: the same command goes on from what was saved." in err


def test_a_card_imports_nothing(command, home):
    """A module in the working folder would run, if `student.json` were believed."""
    assert command(*FIT, "--trainer.run=teacher").code == 0
    (home / "evil.py").write_text("open('ran', 'w').close()\nclass Student: pass\n")
    card = home / "teacher" / "student.json"
    content = {k: v for k, v in json.loads(card.read_text()).items() if k != "sha256"}
    for name in ("evil.Student", "os.system", "subprocess.Popen"):
        card.write_text(json.dumps({**content, "class": name}))
        check(
            command(*FIT, *TEACHER, "--model.teacher.run=teacher"), 3, "student.json is damaged or of another version"
        )
    assert not (home / "ran").exists()


@pytest.mark.parametrize("option", ["data.path", "model.teacher.file"])
def test_a_pipe_is_not_waited_for(command, home, option):
    os.mkfifo(home / "pipe.pt")
    words = (
        ("--data=Released", "--data.path=pipe.pt")
        if option == "data.path"
        else (
            "--model=TeacherLabel",
            "--model.teacher=FileTeacher",
            "--model.teacher.student=MLP",
            "--model.teacher.file=pipe.pt",
            "--model.teacher.mean=[0.5]",
            "--model.teacher.std=[0.5]",
            "--model.teacher.size=32",
        )
    )
    base = tuple(word for word in FIT if "ipc" not in str(word))
    check(command(*base, *words), 3, "pipe.pt")

"""ddlight from Python: names, choosing, opening, judging; the same as the commands do."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

import ddlight
from ddlight.cli import stub
from ddlight.core import discover
from ddlight.core.errors import DataError, UsageError
from ddlight.core.result import Result
from ddlight.sets import store

LIGHT = """
import sys
import ddlight
assert ddlight.list_methods("*kmeans*") == ["KMeans"]
assert len(dir(ddlight)) > 60
try:
    ddlight.Hording
except AttributeError as error:
    assert "Hording" in str(error)
else:
    raise AssertionError
loaded = [name for name in ("torch", "numpy", "lightning") if name in sys.modules]
assert not loaded, loaded
"""


@pytest.fixture
def digits():
    """Images and labels of 8 x 8 digits."""
    split = ddlight.Digits(size=8).split("train")
    return split.images, split.labels


@pytest.fixture
def sealed(command):
    """Folder of a random subset of the digits, made by the command."""
    words = ("--data=Random", "--data.dataset=Digits", "--data.ipc=3", "--trainer.accelerator=cpu")
    made = command("condense", *words, "--trainer.devices=1")
    return made.err.split("condensed set: ")[1].strip()


def test_importing_is_light():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_method_regime_student_teacher_and_dataset_goes_by_its_name():
    names = [e.name for e in (*discover.methods(), *discover.regimes())]
    names += ["ConvNet", "MLP", "ResNetAP", "RunTeacher", "TorchvisionTeacher", "Digits", "ImageFolder", "CIFAR10"]
    for name in names:
        assert getattr(ddlight, name).__name__ == name
        assert name in dir(ddlight)
    for name in ddlight.OTHERS:
        assert getattr(ddlight, name).__name__ == name


def test_the_stub_says_what_there_is():
    assert stub.FILE.read_text() == stub.text(), "write it anew: python -m ddlight.cli.stub"


def test_methods_are_listed_by_name_kind_or_family():
    assert "Herding" in ddlight.list_methods("select") and "Herding" not in ddlight.list_methods("synthesise")
    assert ddlight.list_methods("nothing_of_the_kind") == []
    assert len(ddlight.list_methods()) == len(discover.methods())


# --- select ---


def test_arrays_tensors_and_a_torch_dataset_give_the_same_positions(home, digits):
    images, labels = digits
    chosen = ddlight.select(images, labels, ipc=4, method="Random", seed=1)
    assert np.bincount(labels[chosen]).tolist() == [4] * 10
    tensors = torch.from_numpy(images.copy()), torch.from_numpy(labels.copy())
    assert (ddlight.select(*tensors, ipc=4, method=ddlight.Random, seed=1) == chosen).all()
    floats = TensorDataset(tensors[0] / 255, tensors[1])
    assert (ddlight.select(floats, ipc=4, method="Random", seed=1) == chosen).all()
    assert (ddlight.select(images, labels, ipc=4, method="Random", seed=2) != chosen).any()


def test_a_dataset_gives_what_its_set_holds(home):
    chosen = ddlight.select(ddlight.Digits(size=8), ipc=2, method="Random")
    data = ddlight.Random(ddlight.Digits(size=8), ipc=2)
    assert (store.read_selection(data.condense())[0] == chosen).all()


def test_a_method_with_a_scoring_run_chooses_from_arrays(home, digits):
    images, labels = digits
    scoring = discover_scoring()
    chosen = ddlight.select(images, labels, ipc=2, method="Herding", scoring=scoring)
    assert np.bincount(labels[chosen]).tolist() == [2] * 10


def discover_scoring():
    from ddlight.methods.scoring.run import Scoring

    return Scoring(ddlight.MLP(8, 2), budget=ddlight.Budget(steps=3), ring=2, clean=2)


def test_a_folder_of_pictures(home):
    for name in ("cat", "dog"):
        (home / "photos" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (12, 12), (20 * number, 9, 9)).save(home / "photos" / name / f"{number}.png")
    chosen = ddlight.select(home / "photos", ipc=2, method="Random")
    ids = ddlight.ImageFolder(str(home / "photos")).index("train").ids[chosen]
    assert [str(one).split("/")[0] for one in ids] == ["cat", "cat", "dog", "dog"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x.astype(np.float32), y), "uint8 array of shape N x C x H x W"),
        (lambda x, y: (x[:, 0], y), "uint8 array"),
        (lambda x, y: (x, y + 1), "whole numbers from 0"),
        (lambda x, y: (x, y[:-1]), "Labels are"),
        (lambda x, y: (x, None), "Images need their labels"),
        (
            lambda x, y: (TensorDataset(torch.from_numpy(x) / 255 - 0.5, torch.from_numpy(y.copy())), None),
            "before they",
        ),
    ],
)
def test_what_cannot_be_chosen_from(home, digits, change, message):
    with pytest.raises(UsageError, match=message):
        ddlight.select(*change(*digits), ipc=1, method="Random")


def test_a_method_that_does_not_exist(home, digits):
    with pytest.raises(UsageError, match=r"no class 'Hording'.*Herding"):
        ddlight.select(*digits, ipc=1, method="Hording")


# --- load ---


def test_a_set_a_run_and_a_config_are_loaded(home, sealed, command):
    one = ddlight.load(sealed)
    assert len(one) == 30 and one.classes == [str(k) for k in range(10)]
    image, label = one[7]
    assert image.shape == (1, 32, 32) and image.dtype == torch.float32 and 0 <= image.min() < image.max() <= 1
    assert label == one.labels[7] and label.dtype == torch.int64
    same = ddlight.load(ddlight.Random(ddlight.Digits(), ipc=3))
    assert all((a[0] == b[0]).all() and a[1] == b[1] for a, b in zip(one, same, strict=False))
    batch, labels = next(iter(torch.utils.data.DataLoader(one, batch_size=5)))
    assert batch.shape == (5, 1, 32, 32) and labels.shape == (5,)
    run = ("fit", "--config", "quickstart", "--data.ipc=3", "--model.budget.steps=2", "--trainer.run=run")
    assert command(*run, "--trainer.accelerator=cpu", "--trainer.progress=false").code == 0
    assert (ddlight.load("run").images == one.images).all()
    assert (ddlight.load("quickstart", "--data.ipc=3").images == one.images).all()


def test_a_set_that_was_changed_is_not_loaded(sealed):
    from pathlib import Path

    file = Path(sealed) / "selection.csv"
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(DataError, match="not what was sealed"):
        ddlight.load(sealed)
    with pytest.raises(DataError, match="does not exist"):
        ddlight.load("nowhere/at/all")


# --- judge ---


def test_a_judgement_is_the_run_of_the_command(home, sealed, command):
    options = {"student": ddlight.ConvNet(width=8), "budget": ddlight.Budget(steps=5), "seed": 3}
    result = ddlight.judge(sealed, **options, run="mine")
    words = ("--config", "quickstart", "--data.ipc=3", "--model.student.width=8")
    words += ("--model.budget.steps=5", "--model.seed=3", "--trainer.run=theirs")
    fitted = command("fit", *words, "--trainer.accelerator=cpu", "--trainer.progress=false")
    assert fitted.code == 0, fitted.err
    theirs, ours = Result.read(home / "theirs"), Result.read(home / "mine")
    assert ours.acc.test == pytest.approx(result.acc.test)
    result = ours
    assert (result.acc, result.recipe, result.augment) == (theirs.acc, theirs.recipe, theirs.augment)
    assert (result.set.content_sha256, result.set.path) == (theirs.set.content_sha256, sealed)
    assert (home / "mine" / "student.safetensors").read_bytes() == (
        home / "theirs" / "student.safetensors"
    ).read_bytes()
    assert ddlight.judge(ddlight.load(sealed), **options).acc.test == pytest.approx(ours.acc.test)


def test_the_regime_follows_from_the_protocol(home, sealed):
    budget = ddlight.Budget(steps=2)
    ddlight.judge(sealed, student="MLP", budget=budget, run="teacher")
    teacher = ddlight.RunTeacher("teacher")
    result = ddlight.judge(sealed, student="MLP", protocol="rded", budget=budget, teacher=teacher)
    assert (result.regime, result.protocol) == ("TeacherLabel", "rded")
    assert (
        ddlight.judge(sealed, student="MLP", regime="HardLabel", protocol="rded", budget=budget).regime == "HardLabel"
    )


def test_a_set_of_data_without_test_images_is_not_judged(home, digits):
    data = ddlight.Random(ddlight.InMemory(*digits), ipc=2)
    assert len(ddlight.load(data)) == 20
    with pytest.raises(UsageError, match="InMemory has no test images"):
        ddlight.judge(data)

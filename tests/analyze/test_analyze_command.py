"""`ddlight analyze` on sealed sets of the Digits and on runs: its columns, its files, and what it says is wrong."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ddlight.analyze import distances
from ddlight.analyze.command import as_classes, networks
from ddlight.core.artefact import seal
from ddlight.data import Digits
from ddlight.networks.export import StudentCard, load_student, save_student
from ddlight.networks.students import ConvNet
from ddlight.sets.store import Selection, Synthesis, write_set

DATA = Digits(size=16)
CPU = ("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.progress=false")
FIT = ("--model.student=MLP", "--model.budget.steps=4", "--data=Random", "--data.ipc=2", *CPU)
DIGITS = ("--data.dataset=Digits", "--data.dataset.size=16")


def teacher(folder, classes=10, names=DATA.info.classes, channels=1):
    """A run's folder with an untrained network, and that network."""
    torch.manual_seed(0)
    student = ConvNet(2, 8)
    network = student.build(classes, channels, 16)
    grey = (0.5,) * channels
    save_student(folder, network, StudentCard(student, classes, channels, 16, grey, grey, tuple(names)))
    return network.eval()


@pytest.fixture
def run(home):
    """The folder of a network whose features are taken."""
    teacher(home / "net")
    return home / "net"


@pytest.fixture
def sealed(home):
    """Seal a set of the Digits: sealed(made, name="set", **manifest) gives its folder."""

    def write(made, name="set", **changes):
        split = DATA.split("train")
        manifest = {
            "method": "Maker",
            "args": {},
            "what": "condensed set",
            "fingerprint": "f00d",
            "dataset": "Digits",
            "dataset_identity": DATA.identity(),
            "classes": list(DATA.info.classes),
            "ipc": 2,
            "seed": 3,
            "space": "pixel",
            "labels": "hard",
            "seconds": 4.0,
            **changes,
        }

        def files(place):
            return write_set(place, made, split.ids, split.labels, manifest["classes"])

        return seal(home / name, files, manifest)

    return write


def first_of_each(count):
    labels = DATA.index("train").labels
    return Selection(np.concatenate([np.flatnonzero(labels == c)[:count] for c in range(10)]))


def planted():
    """Two test images of each class, the second with a pixel changed, then two training images; and their ids."""
    test, train = DATA.split("test"), DATA.split("train")
    rows = np.concatenate([np.flatnonzero(test.labels == c)[:2] for c in range(10)])
    images = test.images[rows].copy()
    images[1::2, 0, 0, 0] ^= 1
    real = first_of_each(2).indices
    labels = np.concatenate([test.labels[rows], train.labels[real]])
    return Synthesis(np.concatenate([images, train.images[real]]), labels), test.ids[rows]


def rows(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def unit(network, images):
    """Penultimate features of length 1: what the linear layer of a ConvNet is given."""
    caught = []
    linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear)][-1]
    hook = linear.register_forward_pre_hook(lambda _, given: caught.append(given[0].detach()))
    network((torch.tensor(images) / 255 - 0.5) / 0.5)
    hook.remove()
    found = caught[0].flatten(1).double().numpy()
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_every_column_of_a_selection(command, run, sealed):
    answer = command("analyze", sealed(first_of_each(3)), "--features", run, "--out", "a.csv")
    assert answer.code == 0, answer.err
    (row,) = rows("a.csv")
    network, test, train = load_student(run)[0].eval(), DATA.split("test"), DATA.split("train")
    chosen = first_of_each(3).indices
    own, real = unit(network, train.images[chosen]), unit(network, test.images)
    across, within = own @ real.T, (own @ own.T)[~np.eye(30, dtype=bool)]
    pooled = {
        "rep_minimax_pooled": across.max(1).min(),
        "div_minimax_pooled": 1 - within.max(),
        "rep_cov_pooled": across.max(0).mean(),
        "div_mean_pooled": 1 - within.mean(),
    }
    classes = [(train.labels[chosen] == c, test.labels == c) for c in range(10)]
    each = {
        "rep_minimax": np.mean([across[np.ix_(a, b)].max(1).min() for a, b in classes]),
        "rep_cov": np.mean([across[np.ix_(a, b)].max(0).mean() for a, b in classes]),
        "div_minimax": np.mean([1 - (own[a] @ own[a].T)[~np.eye(3, dtype=bool)].max() for a, _ in classes]),
        "div_mean": np.mean([1 - (own[a] @ own[a].T)[~np.eye(3, dtype=bool)].mean() for a, _ in classes]),
    }
    for name, value in {**pooled, **each}.items():
        assert float(row[name]) == pytest.approx(value, abs=1e-5), name
    assert (row["dataset"], row["method"], row["ipc"], row["seed"], row["n_images"]) == (
        "Digits",
        "Maker",
        "2",
        "3",
        "30",
    )
    assert (row["split"], row["features"], row["fid_features"]) == ("test", "net", "net")
    assert (row["fid_n"], row["fid_real_n"]) == ("30", str(len(train)))
    assert float(row["fid"]) > 0 and math.isfinite(float(row["kid"]))
    assert (row["label_entropy"], row["exact_duplicates"]) == ("0.0", "0")
    assert (row["bytes_pixels"], row["bytes_labels"]) == (str(30 * 256), "0")
    assert (row["seconds"], row["seconds_networks"], row["flops"]) == ("4.0", "4.0", "0.0")
    assert "30 images in" in row["notes"]
    assert "features of net (weights " in answer.out


def test_the_training_split_is_at_no_distance_from_itself(command, run, sealed, monkeypatch):
    monkeypatch.setattr(distances, "SUBSETS", 2)
    whole = Selection(np.arange(len(DATA.index("train"))))
    command("analyze", sealed(whole), "--features", run, "--out=a.csv")
    (row,) = rows("a.csv")
    assert float(row["fid"]) == pytest.approx(0, abs=1e-4)


def test_planted_test_images_are_found(command, run, sealed):
    made, ids = planted()
    answer = command("analyze", sealed(made), f"--features={run}", "--out=a.csv", "--pairs=p.csv", "--threshold=0.9999")
    assert answer.code == 0, answer.err
    (row,) = rows("a.csv")
    assert row["exact_duplicates"] == "10"
    assert int(row["near_duplicates"]) >= 20
    pairs = {int(p["image"]): p for p in rows("p.csv") if p["image"].isdecimal() and int(p["image"]) < 20}
    assert [pairs[i]["test_id"] for i in range(20)] == ids.tolist()
    assert [pairs[i]["exact"] for i in range(20)] == ["True", "False"] * 10
    assert all(float(p["cosine"]) >= 0.9999 for p in pairs.values())


def test_without_a_network_the_rest_is_said(command, sealed):
    made, _ = planted()
    answer = command("analyze", sealed(made), "--out=a.csv")
    assert answer.code == 0 and "need --features" in answer.out
    (row,) = rows("a.csv")
    assert row["exact_duplicates"] == "10"
    assert (row["rep_minimax"], row["fid"], row["near_duplicates"], row["features"]) == ("", "", "", "")


def test_soft_labels_and_classes_with_one_image(command, run, sealed):
    logits = np.zeros((3, 10), np.float32)
    logits[[0, 1, 2], [0, 0, 4]] = math.log(9)
    images = DATA.split("train").images[:3].astype(np.float32) / 255
    folder = sealed(Synthesis(images, logits), labels="logits")
    answer = command("analyze", folder, "--features", run, "--out=a.csv")
    (row,) = rows("a.csv")
    assert float(row["label_entropy"]) == pytest.approx(0.5 + 0.5 * math.log2(18))
    assert row["bytes_labels"] == "120" and row["bytes_pixels"] == str(4 * 3 * 256)
    assert "1 of 10 classes have one image, of which diversity is undefined" in answer.out
    assert "8 of 10 classes have no image in the set" in row["notes"]


def test_one_image_a_class_has_no_diversity(command, run, sealed):
    command("analyze", sealed(first_of_each(1)), "--features", run, "--out=a.csv")
    (row,) = rows("a.csv")
    assert (row["div_minimax"], row["div_mean"]) == ("nan", "nan")
    assert float(row["rep_minimax"]) <= 1 and float(row["div_mean_pooled"]) > 0


def test_sets_below_a_folder_and_one_that_is_damaged(command, home, sealed):
    good, bad = sealed(first_of_each(2), "all/a"), sealed(first_of_each(3), "all/b")
    (bad / "selection.csv").write_text("index,label,id\n")
    answer = command("analyze", home / "all", good, "--out=a.csv")
    assert answer.code == 3 and "left out" in answer.err and str(bad) in answer.err
    assert [row["path"] for row in rows("a.csv")] == [str(good)]
    assert command("analyze", bad).err.startswith("ddlight: The condensed set")


# --- the labels of runs ---


def entropy(logits, temperature):
    p = torch.softmax(torch.tensor(np.asarray(logits, np.float64)) / temperature, 1).numpy()
    return float(-(p * np.log2(p)).sum(1).mean())


def test_labels_that_runs_keep(command, home, run):
    soft = ("--model=SoftLabel", "--model.teacher=RunTeacher", f"--model.teacher.run={run}")
    stored = home / "teachers.yaml"
    given = {"class_path": "StoredLabel", "init_args": {"student": "MLP", "labels_per_image": 2}}
    given["init_args"] |= {"teachers": [{"class_path": "RunTeacher", "init_args": {"run": str(run)}}]}
    stored.write_text(yaml.safe_dump({"model": given}))
    for name, more in {"hard": ["--model=HardLabel"], "soft": soft, "stored": [f"--config={stored}"]}.items():
        answer = command("fit", *more, *DIGITS, *FIT, f"--trainer.run={home / 'runs' / name}")
        assert answer.code == 0, answer.err
    answer = command("analyze", home / "runs", "--out=a.csv")
    assert answer.code == 0, answer.err
    found = {row["regime"]: row for row in rows("a.csv")}
    assert found["HardLabel"]["label_entropy"] == "0.0"
    indices = np.array([int(line.split(",")[0]) for line in next(home.rglob("selection.csv")).read_text().split()[1:]])
    network = load_student(run)[0].eval()
    with torch.no_grad():
        logits = network((torch.tensor(DATA.split("train").images[indices]) / 255 - 0.5) / 0.5).numpy()
    temperature = json.loads((home / "runs/soft/result.json").read_text())["recipe"]["temperature"]
    assert float(found["SoftLabel"]["label_entropy"]) == pytest.approx(entropy(logits, temperature), abs=1e-5)
    kept = np.concatenate([np.load(path) for path in sorted((home / "cache/labels").rglob("*.npy"))])
    assert len(kept) == 40
    temperature = json.loads((home / "runs/stored/result.json").read_text())["recipe"]["temperature"]
    assert float(found["StoredLabel(M=2)"]["label_entropy"]) == pytest.approx(entropy(kept, temperature), abs=1e-5)
    assert found["StoredLabel(M=2)"]["bytes_labels"] == str(40 * 10 * 2)


# --- what is wrong ---


def test_mistakes_are_named(command, home, run, sealed):
    folder = sealed(first_of_each(2))
    (home / "empty").mkdir()
    said = {
        (): "Give one or more folders",
        ("nowhere",): "nowhere does not exist",
        ("empty",): "holds no condensed set and no finished run",
        (folder, "--features=no/run"): "There is no folder no/run",
        (folder, "--features", folder): "is no folder of a finished run",
        (folder, "--features=RunTeachr"): "Did you mean RunTeacher",
        (folder, "--thresold=1"): "Did you mean threshold",
        (folder, "--threshold=2"): "threshold is a cosine",
        (folder, "--out=a.txt"): "--out=a.csv",
    }
    for words, part in said.items():
        answer = command("analyze", *words)
        assert answer.code in (2, 3) and part in answer.err, answer.err
        assert answer.err.startswith("ddlight: ") and "Traceback" not in answer.err
    assert not (home / "a.csv").exists()


def test_a_set_of_other_data_is_refused(command, sealed):
    other = [f"class {c}" for c in range(10)]
    assert (
        "The set is of 10 classes (class 0, class 1, class 2, ...)"
        in command("analyze", sealed(first_of_each(2), "a", classes=other)).err
    )
    unknown = {"name": "Elsewhere", "held_out": 0, "files": []}
    assert (
        "made from Elsewhere"
        in command("analyze", sealed(first_of_each(2), "b", dataset="Elsewhere", dataset_identity=unknown)).err
    )
    made = Synthesis(DATA.split("train").images[:2], np.array([0, 1]))
    changed = {**DATA.identity(), "files": [["sklearn/digits", 1, 2]]}
    answer = command("analyze", sealed(made, "c", dataset_identity=changed))
    assert answer.code == 0 and "made from other files of Digits" in answer.out


def test_networks_that_are_strangers_are_said_to_be(command, home, sealed):
    folder = sealed(first_of_each(2))
    teacher(home / "three", 7, (), channels=3)
    answer = command("analyze", folder, f"--features={home / 'three'}")
    assert answer.code == 0 and "trained on 7 other classes" in answer.out
    assert "images resized from 16 to" not in answer.out
    larger = sealed(first_of_each(2), "larger", dataset_identity=Digits(size=24).identity())
    answer = command("analyze", larger, f"--features={home / 'three'}")
    assert answer.code == 0 and "images resized from 24 to 16 pixels" in answer.out


def test_an_empty_set_and_other_artefacts(command, home, sealed):
    empty = sealed(Selection(np.empty(0, np.int64)))
    assert "holds no images" in command("analyze", empty).err
    scoring = home / "scoring"
    scoring.mkdir()
    (scoring / "manifest.json").write_text(
        json.dumps({"schema": 2, "what": "scoring run", "fingerprint": "f00d", "files": {}})
    )
    answer = command("analyze", scoring)
    assert answer.code == 2 and "is no condensed set but: scoring run" in answer.err


def test_a_run_whose_set_is_gone(command, home):
    assert command("fit", "--model=HardLabel", *DIGITS, *FIT, f"--trainer.run={home / 'run'}").code == 0
    (home / "cache").rename(home / "moved")
    answer = command("analyze", home / "run")
    assert answer.code == 3 and "is there no more" in answer.err and "ddlight condense --config" in answer.err


def test_a_folder_stands_for_the_class_that_opens_it(run):
    wanted = ["a", "--features", "RunTeacher", f"--features.run={run}"]
    assert as_classes(["a", f"--features={run}"]) == as_classes(["a", "--features", str(run)]) == wanted
    assert as_classes(["a", "--features=TimmTeacher"]) == ["a", "--features=TimmTeacher"]


def test_nothing_is_downloaded_for_the_default_networks(monkeypatch, home):
    monkeypatch.setenv("TORCH_HOME", str(home))
    assert networks(None, None) == (None, None)
    (home / "hub/checkpoints").mkdir(parents=True)
    for name in ("resnet18-f37072fd.pth", "inception_v3_google-0cc3c7bd.pth"):
        (home / "hub/checkpoints" / name).touch()
    first, second = networks(None, None)
    assert (first.name, second.name) == ("resnet18", "inception_v3")
    assert networks(first, None) == (first, first)

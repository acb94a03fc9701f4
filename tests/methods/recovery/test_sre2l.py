"""SRe2L, and what every recovered method does: published numbers, blocks, prefixes, resuming, errors, what is shown."""

import logging
import os
import signal
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from ddlight import data as datasets
from ddlight.__main__ import main
from ddlight.core import artefact
from ddlight.core.errors import DataError, UsageError
from ddlight.data import Digits
from ddlight.methods.recovery.cda import CDA
from ddlight.methods.recovery.dwa import DWA
from ddlight.methods.recovery.engine.options import RecoveryOverride
from ddlight.methods.recovery.sre2l import SRe2L
from ddlight.methods.scoring.run import Scoring
from ddlight.methods.watch import PICTURE, IterationBar, described
from ddlight.networks.students import ConvNet
from ddlight.networks.teachers import Input, RunTeacher, Teacher, TorchvisionTeacher
from ddlight.recipes.budget import Budget
from ddlight.sets import store


class Made(Teacher):
    """A network with the weights that it began with, or others."""

    def __init__(self, norm="batch", weight=None):
        super().__init__()
        self.norm, self.weight = norm, weight

    @property
    def _title(self):
        return "made"

    def _open(self, num_classes):
        network = ConvNet(2, 4, self.norm).build(num_classes, 1, 8)
        if self.weight is not None:
            network.classifier.weight.data.fill_(self.weight)
        return network, Input((0.3,), (0.35,), 8)


def of_dataset(method, name, **options):
    """A method on a dataset of the table of which there are no files here."""
    return method(getattr(datasets, name)(), **options)


# --- numbers ---

PUBLISHED = [
    (SRe2L, "ImageNet1K", (4000, 0.25, 100, 0.01, 10, 1, 0.08, (0, 32))),
    (SRe2L, "TinyImageNet", (4000, 0.1, 100, 1.0, 10, 1, 0.08, (-4, 4))),
    (SRe2L, "FashionMNIST", (4000, 0.1, 100, 1.0, 10, 1, 0.08, (-4, 4))),
    (SRe2L, "CIFAR100", (1000, 0.25, 100, 0.01, 10, 1, 0.0, (0, 4))),
    (CDA, "ImageNet1K", (4000, 0.25, 100, 0.01, 10, 1, 0.08, (0, 32))),
    (CDA, "TinyImageNet", (4000, 0.4, 100, 0.05, 10, 1, 0.08, (0, 4))),
    (DWA, "ImageNet1K", (2000, 0.25, 100, 0.01, 10, 2, 0.08, (0, 32))),
    (DWA, "TinyImageNet", (2000, 0.1, 200, 0.01, 10, 11, 0.08, (0, 4))),
    (DWA, "CIFAR10", (1000, 0.25, 100, 0.01, 10, 11, 0.0, (0, 4))),
    (DWA, "FashionMNIST", (1000, 0.25, 100, 0.01, 10, 11, 0.0, (0, 4))),
    (SRe2L, "ImageNette", (4000, 0.25, 100, 0.01, 10, 1, 0.08, (0, 32))),
]


@pytest.mark.parametrize(("method", "dataset", "expected"), PUBLISHED, ids=lambda v: getattr(v, "__name__", str(v)))
def test_published_numbers_are_the_defaults(method, dataset, expected):
    n = of_dataset(method, dataset).numbers
    found = (n.iterations, n.lr, n.batch, n.stat_weight, n.first_weight, n.var_weight, n.min_crop, n.shifts)
    assert found == expected
    assert (n.betas, n.precision) == ((0.5, 0.9), "fp32")
    assert n.flip == (dataset not in ("CIFAR10", "CIFAR100"))


def test_a_block_is_distinct_consecutive_classes_at_one_ipc_index():
    data = of_dataset(SRe2L, "ImageNet1K", ipc=3)
    units = data.units()
    assert [u.number for u in units] == list(range(30))
    assert units[0].classes == tuple(range(100)) and units[0].images == (0,)
    assert units[9].classes == tuple(range(900, 1000)) and units[10].images == (1,)
    small = of_dataset(SRe2L, "ImageNette", ipc=2).units()
    assert [(u.classes, u.images) for u in small] == [(tuple(range(10)), (0,)), (tuple(range(10)), (1,))]
    assert len(of_dataset(DWA, "ImageNet1K", ipc=3, carry_state=True).units()) == 3


def test_teachers_are_torchvisions_for_imagenet_and_trained_elsewhere(teacher):
    data = of_dataset(SRe2L, "ImageNet1K")
    assert [(type(t), t.model, t.weights) for t in data.networks.ready_made] == [
        (TorchvisionTeacher, "resnet18", "IMAGENET1K_V1")
    ]
    assert data.scoring_runs == []
    other = of_dataset(SRe2L, "CIFAR10")
    assert other.networks.ready_made == []
    (run,) = other.scoring_runs
    assert (type(run.student).__name__, run.student.depth, run.student.norm) == ("ResNet", 18, "batch")
    assert of_dataset(SRe2L, "CIFAR10", teacher=teacher).networks.ready_made == [teacher]


# --- sets ---


def test_images_are_bytes_in_class_folders_and_a_smaller_set_is_a_prefix(make):
    small, large = (store.load(make(SRe2L, ipc=ipc).condense()) for ipc in (1, 3))
    assert large.images.dtype == np.uint8 and large.images.shape == (30, 1, 8, 8)
    assert large.labels.tolist() == list(range(10)) * 3
    np.testing.assert_array_equal(large.images[:10], small.images)
    assert not np.array_equal(large.images[10:20], small.images)
    m = large.manifest
    assert (m["space"], m["source_images"], m["recovery"]["iterations"]) == ("pixel", 0, 4)
    assert len(m["teachers"]) == 1 and m["flops_synthesis"] > 0


def test_blocks_of_the_same_classes_see_views_and_noise_of_their_own(make, monkeypatch):
    data = make(SRe2L, ipc=2)
    first, second = data.blocks()
    assert first.classes == second.classes
    assert not torch.equal(data.initial(first), data.initial(second))
    monkeypatch.setattr(data, "initial", lambda block: torch.zeros(10, 1, 8, 8))
    assert (data.make(first).images != data.make(second).images).any()


def test_recovering_makes_the_teacher_sure_of_the_class(make, teacher):
    numbers = {"stat_weight": 0.01, "lr": 0.1, "min_crop": 0.3}
    right = []
    for iterations in (1, 150):
        stored = store.load(make(SRe2L, ipc=2, iterations=iterations, numbers=numbers).condense())
        logits = teacher.logits(torch.from_numpy(stored.images).float() / 255)
        right.append(float((logits.argmax(1).numpy() == stored.labels).mean()))
    assert right[0] < 0.4 < 0.7 < right[1]


def test_views_are_mirrored_only_where_dataset_and_numbers_allow_it(home, teacher):
    class Faces(Digits):
        @property
        def info(self):
            return replace(super().info, flip=True)

    def images(dataset, flip):
        numbers = RecoveryOverride(iterations=6, roll=0, min_crop=0.0, flip=flip)
        data = SRe2L(dataset(size=8), 1, 0, str(home / "cache"), teacher=teacher, recovery=numbers)
        return data.make(data.blocks()[0]).images

    digits, still, mirrored = images(Digits, True), images(Faces, False), images(Faces, True)
    np.testing.assert_array_equal(still, digits)
    assert (mirrored != digits).any()


def test_real_images_can_be_the_beginning(make):
    data = make(SRe2L, init="real", ipc=3)
    train = data.dataset.split("train")
    rows = np.concatenate([data.start.rows(data.places(block)) for block in data.blocks()])
    assert train.labels[rows].tolist() == list(range(10)) * 3
    assert len(set(rows.tolist())) == 30
    first = data.pixels.leave(data.initial(data.blocks()[0])).astype(int)
    assert np.abs(first - train.images[rows[:10]].astype(int)).max() <= 1
    assert artefact.read_manifest(data.condense())["source_images"] == 30
    with pytest.raises(UsageError, match="ipc=1000 is more than class"):
        make(SRe2L, init="real", ipc=1000).condense()


def test_the_teacher_is_trained_where_none_is_given(make, home):
    squeeze = Scoring(student=ConvNet(1, 4, "batch"), budget=Budget(steps=3), clean=0)
    data = make(SRe2L, teacher=None, squeeze=squeeze)
    folder = data.condense()
    (run,) = data.scoring_runs
    assert run.exists
    manifest = artefact.read_manifest(folder)
    trained = RunTeacher(str(run.folder))
    trained.load(10, 1, 8)
    assert manifest["teachers"] == [{"name": trained.name, "fingerprint": trained.fingerprint()}]
    assert manifest["scoring"] == [run.fingerprint] and manifest["flops_scoring"] > 0


# --- resuming ---


def condense_until_killed(folder, arguments):
    """A process that condenses with one thread."""
    os.chdir(folder)
    os.environ["DDLIGHT_CACHE"] = str(folder / "killed")
    torch.set_num_threads(1)
    sys.exit(main(arguments))


def test_a_set_that_was_killed_anywhere_comes_out_the_same(processes, home, teacher, monkeypatch):
    words = ["condense", "--data=SRe2L", "--data.dataset=Digits", "--data.dataset.size=8", "--data.ipc=3"]
    words += ["--data.recovery.iterations=60", "--data.recovery.roll=1", "--data.teacher=RunTeacher"]
    words += [f"--data.teacher.run={teacher.run}", "--trainer.accelerator=cpu", "--trainer.devices=1"]
    for wait in (0.0, 0.15, 0.4):
        process = processes.Process(target=condense_until_killed, args=(home, words), daemon=True)
        process.start()
        end = time.monotonic() + 60
        while not list(home.glob("killed/**/*.claim")) and process.is_alive() and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(wait)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join(60)
    hashes = []
    for cache in ("killed", "alone"):
        monkeypatch.setenv("DDLIGHT_CACHE", str(home / cache))
        torch.set_num_threads(1)
        assert main(words) == 0
        (manifest,) = (home / cache).rglob("manifest.json")
        assert not list((home / cache).rglob("*.partial"))
        hashes.append(artefact.verify(manifest.parent)["content_sha256"])
    assert hashes[0] == hashes[1]


# --- errors and what is shown ---


def test_a_teacher_without_batch_norm_is_refused(make):
    with pytest.raises(UsageError, match=r"SRe2L matches .* BatchNorm layers, and made has none.*norm: batch"):
        make(SRe2L, teacher=Made("instance")).condense()
    assert make(SRe2L, teacher=Made("instance"), numbers={"stat_weight": 0.0}).condense().exists()


def test_a_teacher_at_chance_is_warned_of_and_a_good_one_is_not(make, caplog):
    logging.getLogger("ddlight").propagate = True
    with caplog.at_level(logging.WARNING, "ddlight"):
        make(SRe2L).prepare()
        assert not caplog.records
        make(SRe2L, teacher=Made()).prepare()
    assert "The teacher made gets" in caplog.text and "may be chance" in caplog.text


def test_weights_that_are_not_finite_are_an_error(make):
    with pytest.raises(DataError, match="Pixels are not finite"):
        make(SRe2L, teacher=Made(weight=float("nan"))).condense()


def test_a_roll_wider_than_the_images_is_refused(make):
    with pytest.raises(UsageError, match="roll is 8 pixels, and the images have 8"):
        make(SRe2L, numbers={"roll": 8}).condense()


def test_a_picture_and_the_terms_of_the_loss_are_shown_while_it_works(make, caplog, monkeypatch):
    data, seen = make(SRe2L, ipc=1), []
    picture = IterationBar.picture

    def watching(bar, images):
        picture(bar, images)
        seen.append((bar.folder / PICTURE).stat().st_size)

    monkeypatch.setattr(IterationBar, "picture", watching)
    with caplog.at_level(logging.INFO, "ddlight"):
        logging.getLogger("ddlight").propagate = True
        data.condense()
    assert seen and seen[0] > 100
    assert "recovering block 1 of 1: ce " in caplog.text and "statistics " in caplog.text


def test_a_picture_that_cannot_be_written_costs_nothing_else(make, tmp_path):
    bar = IterationBar("x", 1, make(SRe2L).pixels.unit, tmp_path / "nowhere")
    bar.picture(torch.zeros(2, 1, 8, 8))
    assert not (tmp_path / "nowhere").exists()
    assert described({"ce": torch.tensor(0.5), "own": torch.tensor(1234.5)}) == "ce 0.5, own 1.23e+03"


def test_the_estimate_counts_iterations_and_images(make):
    short, long = (make(SRe2L, iterations=n).estimate_seconds() for n in (10, 1000))
    assert long == pytest.approx(100 * short)
    assert make(SRe2L, iterations=10, ipc=4).estimate_seconds() == pytest.approx(2 * short)
    assert of_dataset(SRe2L, "ImageNet1K").estimate_seconds() > 3600


def test_numbers_name_the_set(make):
    names = {make(SRe2L).fingerprint, make(SRe2L, iterations=5).fingerprint, make(SRe2L, init="real").fingerprint}
    assert len(names) == 3
    assert make(SRe2L).fingerprint in names

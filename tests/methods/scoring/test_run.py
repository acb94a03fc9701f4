"""Scoring runs end to end: one run shared by all, the same after a kill, named by what shapes it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ddlight.core import artefact
from ddlight.core.errors import DataError, UsageError
from ddlight.data import Digits
from ddlight.methods.scores.aum import AUM
from ddlight.methods.scores.cad_prune import CADPrune, cad
from ddlight.methods.scores.entropy import Entropy
from ddlight.methods.scoring.recorder import Recorder
from ddlight.methods.scoring.run import Scoring, ScoringRun
from ddlight.methods.scoring.table import read_table
from ddlight.networks.students import MLP, ConvNet
from ddlight.networks.teachers import RunTeacher
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.sets import store

TINY = Scoring(ConvNet(3, 8), recipe=Override(batch=400), budget=Budget(steps=9), ring=2, dual=2, clean=3)


@pytest.fixture
def data():
    torch.set_num_threads(1)
    return Digits(size=32)


def run_of(data, home, scoring=TINY, seed=0, ipc=2, cache="cache"):
    return ScoringRun(scoring, data, ipc, seed, home / cache)


def columns(run):
    return {name: value.tobytes() for name, value in read_table(run.make()).columns.items()}


def test_one_run_feeds_every_method_that_asks_for_it(data, home):
    methods = [kind(data, ipc=2, cache=str(home / "cache"), scoring=TINY) for kind in (AUM, Entropy)]
    for method in methods:
        method.condense()
    assert methods[0].run.folder == methods[1].run.folder
    assert len(list((home / "cache" / "Digits" / "scoring").iterdir())) == 1
    manifest = artefact.read_manifest(methods[1].folder)
    assert manifest["scoring"] == [methods[0].run.fingerprint]
    assert manifest["scoring_images"] == methods[0].run.images + 3 * 1438
    assert manifest["flops_scoring"] > 0


def test_clean_readings_are_those_of_the_network_on_images_as_they_are(data, home):
    run = run_of(data, home)
    found = read_table(run.make())
    teacher = RunTeacher(str(run.folder))
    teacher.load(10, 1, 32)
    train = data.split("train")
    logits = teacher.logits(torch.from_numpy(train.images.copy()).float() / 255)
    p = logits.double().softmax(1).numpy()
    own = np.eye(10)[train.labels]
    np.testing.assert_allclose(found["clean.el2n"][-1], np.sqrt(((p - own) ** 2).sum(1)), atol=1e-5)
    np.testing.assert_allclose(found["clean.entropy"], -(p * np.log(p)).sum(1), atol=1e-5)
    assert found.columns["clean.el2n"].shape == (3, 1438)
    assert found.facts["readings"] == 3
    assert found["train.seen"].sum() == run.images


def test_a_run_stopped_in_the_middle_of_a_pass_ends_with_the_same_table(data, home, monkeypatch):
    whole = columns(run_of(data, home, cache="whole"))
    observe, calls = Recorder.observe, []

    def stopping(self, *arguments):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        observe(self, *arguments)

    monkeypatch.setattr(Recorder, "observe", stopping)
    with pytest.raises(BaseException):  # noqa: B017  Lightning ends the process in its own way
        run_of(data, home, cache="cut").make()
    assert not run_of(data, home, cache="cut").exists
    assert list((home / "cut").rglob("last.ckpt"))
    monkeypatch.setattr(Recorder, "observe", observe)
    assert columns(run_of(data, home, cache="cut")) == whole


def test_the_name_follows_what_shapes_the_run(data, home):
    own = run_of(data, home).fingerprint
    assert run_of(data, home, cache="elsewhere").fingerprint == own
    assert run_of(data, home, ipc=50).fingerprint == own
    others = [
        replace(TINY, student=MLP(8, 3)),
        replace(TINY, student=ConvNet(3, 8, "batch")),
        replace(TINY, budget=Budget(steps=10)),
        replace(TINY, recipe=Override(batch=400, lr=0.01)),
        replace(TINY, seed=1),
        replace(TINY, clean=4),
        replace(TINY, early=3),
        replace(TINY, protocol="ht_small_hard", recipe=Override(batch=400)),
    ]
    names = [run_of(data, home, scoring).fingerprint for scoring in others] + [run_of(data, home, seed=2).fingerprint]
    assert len({own, *names}) == len(names) + 1
    assert run_of(data, home, replace(TINY, seed=5), seed=1).fingerprint == (
        run_of(data, home, replace(TINY, seed=5), seed=2).fingerprint
    )


def test_a_recipe_that_mixes_images_is_refused(data, home):
    with pytest.raises(UsageError, match="mixes images"):
        run_of(data, home, replace(TINY, protocol="rded")).make()


def test_a_table_of_other_data_is_refused(data, home):
    run = run_of(data, home)
    run.make()
    run.dataset = Digits(size=32, held_out=3)
    with pytest.raises(DataError, match="of other data"):
        read_table(run_of(data, home).folder).require_ids(run.dataset.index("train").ids, "Digits")


def test_a_changed_table_is_noticed(data, home):
    run = run_of(data, home)
    file = run.make() / "scores.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"not what was sealed: scores\.safetensors"):
        run.table()


def test_a_run_with_a_teacher_records_el2n_sl(data, home):
    first = run_of(data, home)
    first.make()
    soft = replace(TINY, protocol="ht_small_soft", teacher=RunTeacher(str(first.folder)), recipe=Override(batch=400))
    found = read_table(run_of(data, home, soft).make())
    assert found["train.el2n_sl"].shape == (1438,)
    assert 0 < found["train.el2n_sl"].max() < np.sqrt(2) / 20
    assert "train.el2n_sl" not in read_table(first.folder).columns


def test_recording_adds_no_forward_pass(data, home, monkeypatch):
    from ddlight.networks.convnet import ConvNetwork

    forward, counted = ConvNetwork.forward, []

    def counting(self, images):
        if images.device.type != "meta":
            counted.append((self.training, len(images)))
        return forward(self, images)

    monkeypatch.setattr(ConvNetwork, "forward", counting)
    run = run_of(data, home, replace(TINY, clean=1))
    run.make()
    trained = [n for training, n in counted if training]
    assert (len(trained), sum(trained)) == (run.steps, run.images)
    assert sum(n for training, n in counted if not training) == 1438


def test_the_student_of_the_same_seed_trains_alike_with_and_without_a_recorder(data, home, fit):
    from safetensors.torch import load_file

    from ddlight.methods.baselines.full import FullData
    from ddlight.regimes.hard_label import HardLabel

    run = run_of(data, home)
    run.make()
    model = HardLabel(TINY.student, "ccs", recipe=TINY.recipe, budget=TINY.budget, seed=0)
    fit(model, FullData(data, cache=str(home / "cache")), test=False)
    plain, scored = load_file(home / "run" / "student.safetensors"), load_file(run.folder / "student.safetensors")
    assert all(torch.equal(plain[name], scored[name]) for name in plain)


# --- CAD-Prune's compute-matched run ---


@pytest.mark.parametrize(
    ("options", "expected"),
    [  # Digits has 1,438 training images; 300 epochs of 20 x 10 images are 60,000, 41.7 full epochs
        ({}, (9, 6, 2, 60000)),
        ({"k": 20}, (20, 6, 2, 60000)),
        ({"k_mode": "exact"}, (42, 6, 2, 60000)),
        ({"k_mode": "exact", "j_mode": "span"}, (42, 40, 2, 60000)),
        ({"k_mode": "exact", "budget": Budget(epochs=30)}, (4, 2, 2, 6000)),
        ({"k_mode": "floor", "budget": Budget(epochs=30)}, (8, 6, 2, 8 * 1438)),
        ({"k_mode": "fixed", "k": 12}, (12, 6, 2, 12 * 1438)),
        ({"k_mode": "fixed", "k": 8}, (8, 6, 2, 8 * 1438)),  # the paper's J and W at the K that they need
        ({"k_mode": "fixed", "k": 7}, (7, 5, 2, 7 * 1438)),
        ({"k_mode": "fixed", "k": 7, "include_last_epoch": True}, (7, 6, 2, 7 * 1438)),
        ({"k_mode": "fixed", "k": 3}, (3, 2, 1, 3 * 1438)),
        ({"budget": Budget(full_epochs=2)}, (9, 6, 2, 2876)),
    ],
)
def test_budget_gives_k_j_and_w(data, options, expected):
    method = CADPrune(data, ipc=20, **options)
    asked = method.required_scoring
    assert (method.readings, method.window, method.last) == expected[:3]
    assert asked.clean == expected[0]
    history = np.zeros((method.readings, 3))
    assert cad(history, method.window, method.last, method.include_last_epoch).shape == (3,)
    assert asked.budget.images == pytest.approx(expected[3], abs=256)


def test_cad_prune_takes_the_largest_after_those_that_it_passes_over(data, home):
    own = {"scoring": replace(TINY, budget=None), "budget": Budget(epochs=60), "j": 2, "w": 1, "cache": str(home / "c")}
    plain = CADPrune(data, ipc=5, **own)
    indices, _ = store.read_selection(plain.condense())
    labels, cad = data.index("train").labels, plain.scores
    for c in range(10):
        rows = np.flatnonzero(labels == c)
        assert set(indices[labels[indices] == c]) == set(rows[np.argsort(-cad[rows])[:5]])
    guarded = CADPrune(data, ipc=5, exclude_top=0.1, **own)
    indices, _ = store.read_selection(guarded.condense())
    rows = np.flatnonzero(labels == 3)
    passed = int(0.1 * len(rows))
    assert set(indices[labels[indices] == 3]) == set(rows[np.argsort(-cad[rows])[passed : passed + 5]])
    assert guarded.run.folder == plain.run.folder


def test_the_manifest_says_what_was_open(data, home):
    own = {"scoring": replace(TINY, budget=None), "budget": Budget(epochs=120), "cache": str(home / "c")}
    manifest = json.loads((CADPrune(data, ipc=3, **own).condense() / "manifest.json").read_text())
    assert manifest["cad"] == {"K": 9, "J": 6, "W": 2, "student_images": 3600}


def test_more_readings_than_steps_are_refused(data, home):
    own = {"scoring": replace(TINY, budget=None), "budget": Budget(steps=6), "cache": str(home / "c")}
    with pytest.raises(UsageError, match="1 steps of the scoring run, too few"):
        CADPrune(data, ipc=3, **own).condense()

"""What every matching method does: stops and resumes, beginnings, errors, learned rates, unrolled steps."""

import logging

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from ddlight.core import discover
from ddlight.core.errors import DataError, UsageError
from ddlight.methods.matching.cafe import CAFE
from ddlight.methods.matching.dc import DC
from ddlight.methods.matching.dd import DD
from ddlight.methods.matching.dm import DM
from ddlight.methods.matching.dsa import DSA
from ddlight.methods.matching.engine import Augmentation, LearnedRate, Parametrisation, sweep, unroll
from ddlight.methods.matching.engine.matched import MatchingSynthesiser
from ddlight.methods.matching.frepo import FRePo
from ddlight.methods.matching.idc import IDC
from ddlight.networks.students import ConvNet
from ddlight.sets import store

METHODS = {
    DM: {"batch_real": 6},
    DC: {"batch_real": 6, "outer": 2, "inner": 1},
    DSA: {"batch_real": 6, "outer": 2, "inner": 1},
    IDC: {"batch_real": 6, "inner": 1, "real_images": 20},
    CAFE: {"batch_real": 6, "most_outer": 2, "most_inner": 1},
    DD: {"batch_real": 20, "passes": 2},
    FRePo: {"batch_real": 20, "pool": 2, "most_steps": 2},
}
"""Methods with options that take little."""


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.__name__)
def test_a_set_that_was_killed_in_any_iteration_is_the_same(make, killed, kind):
    whole = store.load(make(kind, cache="whole", **METHODS[kind]).condense())
    for at in (0, 1, 2):
        data = killed(make(kind, cache=f"killed{at}", **METHODS[kind]), at)
        kept = data.load_progress(data.units()[0])
        assert (kept is None) if at == 0 else (int(kept["iteration"]) == at)
        stored = store.load(make(kind, cache=f"killed{at}", **METHODS[kind]).condense())
        np.testing.assert_array_equal(stored.images, whole.images)
        np.testing.assert_array_equal(stored.labels, whole.labels)


def test_a_resumed_set_does_not_begin_anew(make, killed, monkeypatch):
    killed(make(DM), 2)
    resumed, asked = make(DM), []
    step = resumed.step
    monkeypatch.setattr(resumed, "step", lambda learned, t: asked.append(t) or step(learned, t))
    resumed.condense()
    assert asked == [2]


def test_images_begin_as_noise_or_as_different_real_ones(make):
    noise = make(DM, init="noise", ipc=20).initial()
    assert noise.shape == (200, 1, 8, 8)
    assert abs(float(noise.mean())) < 0.05 and float(noise.std()) == pytest.approx(1, abs=0.05)
    data = make(DM, ipc=20)
    real, split, info = data.initial().numpy(), data.dataset.split("train"), data.dataset.info
    every = (split.images / np.float32(255) - np.float32(info.mean[0])) / np.float32(info.std[0])
    for c in range(10):
        distance = np.abs(real[20 * c : 20 * c + 20, None] - every[split.labels == c][None]).max((2, 3, 4))
        assert (distance.min(1) < 1e-5).all()
        assert len(set(distance.argmin(1))) == 20


def test_more_images_than_a_class_has_are_refused_unless_they_begin_as_noise(make):
    with pytest.raises(UsageError, match=r"ipc=500 is more than class '\d' of Digits has"):
        make(DM, ipc=500).condense()
    make(DM, ipc=500, init="noise").prepare()


@pytest.mark.parametrize("wrong", [{"iterations": 0}, {"lr": -1.0}, {"batch_real": 0}])
def test_numbers_that_are_not_above_0_are_refused(make, wrong):
    with pytest.raises(UsageError, match=r"allowed: above 0"):
        make(DM, **wrong)


def test_a_learning_rate_that_runs_away_is_one_line(make):
    with pytest.raises(DataError, match=r"not finite after iteration \d+ of DM. Give a lower --data.lr; it is 1e\+30"):
        make(DM, lr=1e30, iterations=30).condense()


def test_a_line_says_how_far_it_is_where_there_is_no_bar(make, monkeypatch, caplog):
    monkeypatch.setattr("ddlight.methods.watch.LINE_SECONDS", -1.0)
    with caplog.at_level(logging.INFO, "ddlight"):
        logging.getLogger("ddlight").propagate = True
        make(DM).condense()
    assert "DM of Digits: 1 of 3, loss " in caplog.text and "s left, " in caplog.text


def test_the_time_grows_with_iterations_and_images(make):
    one, twice = make(DM), make(DM, iterations=6)
    assert twice.estimate_seconds() == pytest.approx(2 * one.estimate_seconds())
    assert make(DM, ipc=50).estimate_seconds() > 1.3 * one.estimate_seconds()
    assert make(DM, ipc=100).estimate_memory() == pytest.approx(2 * make(DM, ipc=50).estimate_memory())


def test_every_method_of_the_family_runs_in_one_unit_of_all_classes():
    import importlib

    entries = [e for e in discover.methods() if e.module.startswith("ddlight.methods.matching.")]
    kinds = [getattr(importlib.import_module(e.module), e.name) for e in entries]
    assert set(METHODS) <= set(kinds) and all(issubclass(k, MatchingSynthesiser) and k.one_unit for k in kinds)


def test_siamese_draws_are_one_operation_with_one_parameter():
    augment, images = Augmentation("color_crop_cutout_flip_scale_rotate", 8, 0), torch.rand(6, 3, 8, 8)
    for index in range(12):
        view = augment.siamese(index, 3)
        torch.testing.assert_close(view(images), torch.cat([view(images[:2]), view(images[2:])]))
    seen = {str(np.round(augment._draw("matching siamese", 1, 0, c)[1], 3)) for c in range(10)}
    assert len(seen) > 5  # each class has its own


def test_a_learned_rate_begins_where_it_is_told_and_never_gets_negative():
    for rate in (1e-6, 0.02, 3.0):
        assert LearnedRate(torch.tensor(rate, dtype=torch.float64))().item() == pytest.approx(rate, rel=1e-9)
    learned = LearnedRate(torch.tensor([0.02]))
    for _ in range(50):
        learned().sum().backward()
        torch.optim.SGD(learned.parameters(), lr=10.0).step()
    assert (learned() >= 0).all() and torch.isfinite(learned()).all()


class Scaled(Parametrisation):
    """Two images for each row: the row, and twice the row."""

    views = 2

    def __init__(self, rows):
        super().__init__()
        self.rows = nn.Parameter(rows)

    def __len__(self):
        return len(self.rows)

    def forward(self, rows=slice(None)):
        part = self.rows[rows]
        return torch.stack([part, 2 * part], 1).flatten(0, 1)

    def kept(self):
        return self.rows.detach()


@pytest.mark.parametrize("chunk", [None, 1, 2])
def test_gradients_are_pulled_back_in_chunks(chunk):
    images = Scaled(torch.rand(5, 1, 2, 2))
    images.chunk = chunk
    leaf = images.leaf(slice(1, 4))
    weights = torch.rand(6, 1, 2, 2)
    (leaf * weights).sum().backward()
    images.pull(leaf, slice(1, 4))
    expected = torch.zeros(5, 1, 2, 2)
    expected[1:4] = weights[0::2] + 2 * weights[1::2]
    torch.testing.assert_close(images.rows.grad, expected)


def test_swept_gradients_are_those_of_the_whole_graph():
    torch.manual_seed(0)
    network = ConvNet(1, 3).build(3, 1, 8).double()
    names = [name for name, _ in network.named_parameters()]
    start = tuple(p.detach() for p in network.parameters())
    images = torch.randn(6, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    rates = torch.tensor([0.3, 0.1, 0.2, 0.4], dtype=torch.float64, requires_grad=True)

    def loss(n, weights):
        rows = [[0, 1, 2], [3, 4, 5]][n % 2]
        out = functional_call(network, dict(zip(names, weights, strict=True)), (images[rows],))
        return cross_entropy(out, logits[rows].softmax(1))

    weights = tuple(w.clone().requires_grad_(True) for w in start)
    first = weights
    for n in range(4):
        gradients = torch.autograd.grad(loss(n, weights), weights, create_graph=True)
        weights = tuple(w - rates[n] * g for w, g in zip(weights, gradients, strict=True))
    whole = torch.stack([w.square().sum() for w in weights]).sum()
    expected = torch.autograd.grad(whole, [images, logits, rates, *first])

    path = unroll(loss, start, list(rates))
    end = [2 * w for w in path[-1]]
    swept = sweep(loss, path, list(rates), end, [images, logits])
    got = [*swept.inputs, swept.rates, *swept.weights]
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)

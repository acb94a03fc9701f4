"""DWA: the weights' ascent against one written out, and what is carried from block to block."""

import numpy as np
import pytest
import torch
from torch.func import functional_call, grad
from torch.nn.functional import cross_entropy

from ddlight.core import artefact
from ddlight.core.errors import UsageError
from ddlight.core.files import sha256
from ddlight.data import CIFAR10, ImageNet1K
from ddlight.methods.recovery import dwa
from ddlight.methods.recovery.dwa import DWA, ascend
from ddlight.methods.recovery.engine.observer import Observer
from ddlight.sets import store


@pytest.fixture
def seen(make):
    """An observer of the teacher, real images as it sees them, their labels."""
    data = make(DWA)
    block = data.blocks()[0]
    data.prepare()
    return data.observers(block)[0], data.initial(block), torch.from_numpy(data.labels(block))


def weights_of(observer):
    return {name: p.detach().clone() for name, p in observer.network.named_parameters()}


def distance(before, after):
    return float(torch.sqrt(sum((after[name].double() - before[name].double()).square().sum() for name in before)))


def written_out(network, weights, views, labels, steps, rho):
    """The same ascent with functional gradients in float64."""
    buffers = {name: b.double() if b.is_floating_point() else b for name, b in network.named_buffers()}
    weights = {name: w.double() for name, w in weights.items()}

    def loss(w):
        return cross_entropy(functional_call(network, {**w, **buffers}, (views.double(),)), labels)

    for _ in range(steps):
        g = grad(loss)(weights)
        norm = torch.sqrt(sum(part.square().sum() for part in g.values()))
        weights = {name: weights[name] + rho / steps * g[name] / norm for name in weights}
    return weights


@pytest.mark.parametrize(("steps", "rho"), [(1, 0.015), (12, 0.015), (15, 0.3), (3, 0.05)])
def test_the_ascent_is_normalised_and_ends_within_rho(seen, steps, rho):
    observer, views, labels = seen
    before, buffers = weights_of(observer), {k: b.clone() for k, b in observer.network.named_buffers()}
    expected = written_out(observer.network, before, views, labels, steps, rho)
    ascend(observer, views, labels, steps, rho)
    after = weights_of(observer)
    for name, weight in after.items():
        torch.testing.assert_close(weight.double(), expected[name], rtol=0, atol=1e-6)
    moved = distance(before, after)
    assert 0.3 * rho < moved <= rho * (1 + 1e-4)
    assert all(torch.equal(b, buffers[k]) for k, b in observer.network.named_buffers())
    assert not any(p.requires_grad for p in observer.network.parameters())


def test_the_ascent_raises_the_loss(seen):
    observer, views, labels = seen
    before = cross_entropy(observer(views)[0], labels)
    ascend(observer, views, labels, 12, 0.3)
    assert cross_entropy(observer(views)[0], labels) > before


def watched(monkeypatch):
    """Let every ascent note the weights before and after."""
    noted = []

    def noting(observer, *rest):
        before = weights_of(observer)
        ascend(observer, *rest)
        noted.append((before, weights_of(observer), rest))

    monkeypatch.setattr(dwa, "ascend", noting)
    return noted


def test_each_block_begins_with_the_teacher_as_it_was_trained(make, monkeypatch, teacher):
    noted = watched(monkeypatch)
    data = make(DWA, ipc=2, numbers={"batch": 5})
    data.condense()
    trained = dict(teacher.network.named_parameters())
    assert len(noted) == 4
    for before, after, (_, _, steps, rho) in noted:
        assert all(torch.equal(before[name], trained[name]) for name in trained)
        assert (steps, rho) == (12, 0.015)
        assert 0 < distance(before, after) <= 0.015 * (1 + 1e-4)


def test_the_moves_of_one_ipc_index_add_up_where_state_is_carried(make, monkeypatch, teacher):
    noted = watched(monkeypatch)
    data = make(DWA, ipc=2, numbers={"batch": 4}, carry_state=True)
    assert [(u.number, u.classes, u.images) for u in data.units()] == [
        (0, tuple(range(10)), (0,)),
        (1, tuple(range(10)), (1,)),
    ]
    carried = store.load(data.condense())
    trained = dict(teacher.network.named_parameters())
    assert len(noted) == 6
    for k, (before, _, _) in enumerate(noted):
        expected = trained if k % 3 == 0 else noted[k - 1][1]
        assert all(torch.equal(before[name], expected[name]) for name in expected)
    reset = store.load(make(DWA, ipc=2, numbers={"batch": 4}).condense())
    np.testing.assert_array_equal(carried.labels, reset.labels)
    np.testing.assert_array_equal(carried.images[:4], reset.images[:4])  # the first block of an ipc index
    assert (carried.images[4:10] != reset.images[4:10]).any()


@pytest.mark.parametrize("damaged", [False, True])
def test_a_long_unit_goes_on_after_its_last_block(make, stop_at, damaged):
    options = {"ipc": 2, "numbers": {"batch": 3}, "carry_state": True}
    alone = make(DWA, cache="alone", **options).condense()
    killed = make(DWA, cache="killed", **options)
    first = stop_at(killed, 6)  # of 0..3 | 4..7
    with pytest.raises(stop_at.Stop):
        killed.condense()
    assert first == [0, 1, 2, 3, 4, 5]
    (progress,) = (p for p in killed.working.glob("*.progress") if p.name == "000001.progress")
    if damaged:
        progress.write_bytes(progress.read_bytes()[:-1] + b"?")
    resumed = make(DWA, cache="killed", **options)
    rest = stop_at(resumed, None)
    folder = resumed.condense()
    assert rest == ([4, 5, 6, 7] if damaged else [6, 7])
    assert artefact.verify(folder)["content_sha256"] == artefact.verify(alone)["content_sha256"]
    images = [sorted(sha256(p) for p in place.rglob("*.png")) for place in (folder, alone)]
    assert images[0] == images[1] and not killed.working.exists()


def test_moves_are_published_by_size_and_can_be_none(make):
    assert (DWA(ImageNet1K()).moves, DWA(CIFAR10()).moves, DWA(CIFAR10(), steps=3).moves) == (15, 12, 3)
    plain, moved = (make(DWA, ipc=1, **more).condense() for more in ({"steps": 0}, {}))
    assert artefact.verify(plain)["content_sha256"] != artefact.verify(moved)["content_sha256"]
    with pytest.raises(UsageError, match="steps and rho are 0 or more"):
        make(DWA, rho=-1.0)


def test_an_observer_of_another_block_is_another_network(make):
    data = make(DWA)
    data.prepare()
    first, second = (data.observers(block)[0] for block in data.blocks())
    assert isinstance(first, Observer) and first.network is not second.network

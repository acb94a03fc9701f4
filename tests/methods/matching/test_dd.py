"""DD: the gradient through a whole training, batches in order, rates of their own."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from ddlight.core.errors import UsageError
from ddlight.methods.matching.dd import DD
from ddlight.methods.matching.dm import DM
from ddlight.networks.students import ConvNet
from ddlight.recipes.budget import Budget
from ddlight.regimes.hard_label import HardLabel
from ddlight.regimes.stored_label import StoredLabel
from ddlight.sets import store
from ddlight.views.loader import RunLoader

FEW = {"passes": 2, "batch_real": 30, "iterations": 1}


def trained(network, batches, labels, rates, order):
    """Train a network's weights by plain gradient descent, in float64, on batches in an order."""
    for n, place in enumerate(order):
        loss = cross_entropy(network(batches[place]), labels)
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for weight, gradient in zip(network.parameters(), gradients, strict=True):
                weight -= rates[n] * gradient
    return network


def test_gradients_in_images_and_rates_are_finite_differences_of_whole_trainings(make, monkeypatch, slope):
    data = make(DD, ipc=2, rate=0.3, **FEW)
    fresh, real = data.fresh, data._real
    monkeypatch.setattr(data, "fresh", lambda *index: fresh(*index).double())
    monkeypatch.setattr(data, "_real", lambda t: (real(t)[0].double(), real(t)[1]))
    learned = data.begin().double()
    leaves = {}
    monkeypatch.setattr(learned, "move", lambda leaf: leaves.update(images=leaf, raw=learned.rates.raw.grad.clone()))
    loss = data.step(learned, 0)["loss"]

    images, raw = learned.images.pixels.detach(), learned.rates.raw.detach()
    labels, (x, y) = torch.arange(10), data._real(0)

    def outcome(images, raw):
        batches = [images.view(10, 2, 1, 8, 8)[:, s] for s in range(2)]
        network = trained(data.fresh(0), batches, labels, torch.nn.functional.softplus(raw), [0, 1, 0, 1])
        return cross_entropy(network(x), y).item()

    assert outcome(images, raw) == pytest.approx(loss.item(), rel=1e-10)
    torch.manual_seed(0)
    direction = torch.randn_like(images)
    measured = slope(lambda z: outcome(z, raw), images, direction, 1e-5)
    assert measured == pytest.approx((leaves["images"].grad * direction).sum().item(), rel=1e-3)
    for n in range(4):
        measured = slope(lambda z: outcome(images, z), raw, torch.eye(4, dtype=torch.float64)[n], 1e-5)
        assert measured == pytest.approx(leaves["raw"][n].item(), rel=1e-3)


def test_batches_have_the_classes_in_order(make):
    assert make(DD, ipc=2).batches.tolist() == [list(range(0, 20, 2)), list(range(1, 20, 2))]
    two = make(DD, ipc=4, images_per_step=2).batches
    assert two.shape == (2, 20) and two[1, :4].tolist() == [2, 3, 6, 7]
    with pytest.raises(UsageError, match="ipc=3 is no multiple of images_per_step=2"):
        make(DD, ipc=3, images_per_step=2)


def test_the_loss_falls_and_rates_move_and_stay_positive(make):
    data = make(DD, ipc=1, iterations=30, passes=2, batch_real=150, lr=0.1, rate=0.5)
    learned, losses = data.begin(), []
    for t in range(30):
        losses.append(float(data.step(learned, t)["loss"]))
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.05
    rates = learned.rates().detach()
    assert rates.shape == (2,) and (rates > 0).all() and not torch.allclose(rates, torch.full((2,), 0.5), atol=0.05)


def test_a_pass_visits_each_real_image_once(make):
    data = make(DD, batch_real=500)
    count = len(data.dataset.index("train"))
    seen = [len(data._real(t)[1]) for t in range(3)]
    assert seen == [500, 500, count - 1000]
    labels = torch.cat([data._real(t)[1] for t in range(3)])
    assert torch.equal(labels.bincount(), torch.from_numpy(np.bincount(data.dataset.index("train").labels)))


def test_adams_rate_is_halved_every_forty_passes(make):
    data = make(DD, iterations=20, passes=1, batch_real=10)
    learned, rates = data.begin(), []
    for t in (0, 1, 2, 10, 19):
        data.step(learned, t)
        rates.append(learned.optimizers["adam"].param_groups[0]["lr"])
    assert rates == [0.01, 0.01, 0.005, 0.01 / 32, 0.01 / 512]
    assert make(DD, iterations=None, batch_real=1024).numbers.iterations == 800  # 1,438 digits


def test_networks_with_batch_norm_are_refused(make):
    with pytest.raises(UsageError, match="give a student without"):
        make(DD, student=ConvNet(1, 4, "batch")).prepare()


def test_sets_are_of_noise_and_none_of_their_images_are_real(make):
    manifest = store.load(make(DD, **FEW).condense()).manifest
    assert manifest["source_images"] == 0 and manifest["matching"]["init"] == "noise"


def test_a_set_keeps_its_steps(make):
    data = make(DD, **FEW)
    stored = store.load(data.condense())
    assert data.own_steps == (4, 10) and stored.manifest["steps"] == 4
    assert stored.steps.batches.tolist() == [*data.batches.tolist()] * 2
    assert stored.steps.rates.shape == (4,) and (stored.steps.rates > 0).all()


def test_protocol_own_is_the_training_that_was_learned(make, fit):
    data = make(DD, passes=2, batch_real=30, iterations=4, lr=0.1, rate=0.5)
    trainer = fit(HardLabel(ConvNet(1, 4), protocol="own", seed=3), data)
    stored, model = data.require(), trainer.lightning_module
    torch.manual_seed(3)
    network = ConvNet(1, 4).build(10, 1, 8)
    batches = [torch.from_numpy(stored.images[rows]) for rows in data.batches]
    trained(network, batches, torch.arange(10), stored.steps.rates.tolist(), [0, 1, 0, 1])
    assert trainer.global_step == 4 and len(set(stored.steps.rates.tolist())) == 4
    for weight, expected in zip(model.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-6)


def test_a_longer_budget_repeats_the_steps_and_a_resumed_loader_goes_on_with_them(make):
    data = make(DD, **FEW)
    run = HardLabel(ConvNet(1, 4), protocol="own", budget=Budget(steps=6)).resolve_run(data, 20, 1438)
    assert (run.steps, run.batch, run.own, run.plan.recipe.lr) == (6, 10, None, "set")  # the set is not made yet
    loader = RunLoader(20, 10, 6, seed=0, batches=np.tile(data.batches, (2, 1))[:3])
    loader.load_state_dict({"handed_out": 2})
    assert [batch.ids.tolist() for batch in loader] == [data.batches[k].tolist() for k in (0, 0, 1, 0)]


def test_sets_that_learned_no_steps_are_told(make):
    with pytest.raises(
        UsageError, match="Protocol own repeats the steps that a set was learned with, and DM learns none"
    ):
        HardLabel(ConvNet(1, 4), protocol="own").resolve_run(make(DM), 20, 1438)
    with pytest.raises(UsageError, match="StoredLabel draws its batches"):
        StoredLabel(ConvNet(1, 4), published="labels", protocol="own").resolve_run(make(DD), 20, 1438)

"""DM: means of features, published numbers."""

import numpy as np
import pytest
import torch

from ddlight.methods.matching.dm import DM, class_means
from ddlight.networks.students import ConvNet
from ddlight.sets import store


@pytest.fixture
def network():
    torch.manual_seed(1)
    return ConvNet(2, 4).build(3, 1, 8).double()


def loss_of(network, batches, images):
    """DM's loss of images (3 n, 1, 8, 8), class after class, by plain loops."""
    total = 0.0
    for batch, part in zip(batches, images.chunk(3), strict=True):
        real, own = (
            torch.stack([network.features(x[None])[0].flatten() for x in some]).mean(0) for some in (batch, part)
        )
        total = total + ((real - own) ** 2).sum()
    return total


def test_the_loss_and_its_gradient_are_those_of_plain_loops_and_finite_differences(network, slope):
    torch.manual_seed(2)
    batches = [torch.randn(n, 1, 8, 8, dtype=torch.float64) for n in (4, 5, 3)]
    images = torch.randn(6, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    loss = (class_means(network, batches) - class_means(network, images.chunk(3))).square().sum()
    torch.testing.assert_close(loss, loss_of(network, batches, images))
    (gradient,) = torch.autograd.grad(loss, images)
    direction = torch.randn_like(gradient)
    measured = slope(lambda x: loss_of(network, batches, x), images, direction)
    assert measured == pytest.approx(float((gradient * direction).sum()), rel=1e-6)


def test_batches_that_pass_together_or_apart_have_the_same_means(network, monkeypatch):
    batches = [torch.randn(4, 1, 8, 8, dtype=torch.float64) for _ in range(5)]
    together = class_means(network, batches)
    monkeypatch.setattr("ddlight.methods.matching.engine.real.TOGETHER", 8)
    torch.testing.assert_close(class_means(network, batches), together)
    normed = ConvNet(1, 4, "batch").build(3, 1, 8).double()  # its statistics are of all classes, whatever TOGETHER is
    torch.testing.assert_close(
        class_means(normed, batches), normed.features(torch.cat(batches)).flatten(1).view(5, 4, -1).mean(1)
    )


def test_copies_of_the_real_batch_have_no_loss_and_the_network_gets_no_gradient(make, monkeypatch):
    data = make(DM, ipc=2, batch_real=2)
    network = data.fresh(0)
    monkeypatch.setattr(data, "fresh", lambda *index: network)
    learned = data.begin()
    with torch.no_grad():
        learned.images.pixels.copy_(torch.cat([data.real_batch(2, c, 0) for c in range(10)]))
    before = learned.images.pixels.clone()
    assert float(data.step(learned, 0)["loss"]) < 1e-10
    torch.testing.assert_close(learned.images.pixels, before, rtol=0, atol=1e-6)
    assert all(p.grad is None for p in network.parameters())


def test_images_come_nearer_to_the_real_means(make):
    data = make(DM, ipc=3, iterations=40, init="noise", batch_real=50, dsa="none")
    images = torch.from_numpy(store.load(data.condense()).images)
    network = data.fresh(1000)
    goal = class_means(network, [data.real_batch(100, c, 1000) for c in range(10)])
    far, near = ((class_means(network, x.chunk(10)) - goal).square().sum() for x in (data.initial(), images))
    assert near < 0.3 * far


def test_numbers_are_published(make):
    assert make(DM, iterations=None).numbers.iterations == 20_001
    assert [make(DM, ipc=ipc).numbers.lr for ipc in (1, 50, 100)] == [1.0, 1.0, 10.0]
    assert make(DM, lr=0.1).numbers.lr == 0.1
    assert make(DM).augment.strategy.ops == ("color", "crop", "cutout", "scale", "rotate")  # digits are not mirrored


def test_sets_keep_images_as_they_are_and_say_so(make):
    stored = store.load(make(DM, lr=100.0).condense())
    assert stored.images.dtype == np.float32 and stored.manifest["space"] == "normalised"
    assert np.abs(stored.images).max() > 4  # nothing is clamped to what pixels can show
    assert stored.manifest["matching"] == {"iterations": 3, "lr": 100.0, "init": "real"}

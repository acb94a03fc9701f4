"""CAFE: maps of all layers, when its loops end, its published numbers."""

import pytest
import torch
from torch import nn

from ddlight.core.errors import UsageError
from ddlight.methods.matching import cafe
from ddlight.methods.matching.cafe import CAFE, cafe_loss, feature_maps, mean_maps, spread
from ddlight.networks.students import MLP, ConvNet


@pytest.fixture
def network():
    torch.manual_seed(1)
    return ConvNet(3, 4).build(3, 1, 8).double()


def loss_of(network, batches, images):
    """CAFE's loss by plain loops over images; weights 0.1, 0.1, 1, 1, and 1 for the flat features of the last."""
    layers = {"relu1": 2, "relu2": 6, "relu3": 10, "pool3": 11}

    def maps(x):
        return [network.features[: place + 1](x[None])[0] for place in layers.values()]

    def mean(some):
        each = [maps(x) for x in some]
        return [sum(layer) / len(each) for layer in zip(*each, strict=True)]

    own, real, total = [mean(part) for part in images.chunk(3)], [mean(batch) for batch in batches], 0.0
    for c in range(3):
        for weight, a, b in zip((0.1, 0.1, 1.0, 2.0), own[c], real[c], strict=True):
            total = total + weight * ((a - b) ** 2).sum()
        for x in batches[c]:
            logits = torch.stack([maps(x)[-1].flatten() @ own[k][-1].flatten() for k in range(3)])
            total = total - 0.01 * logits.log_softmax(0)[c]
    return total


def test_loss_and_gradient_are_those_of_plain_loops_and_finite_differences(network, slope):
    torch.manual_seed(2)
    batches = [torch.randn(n, 1, 8, 8, dtype=torch.float64) for n in (4, 3, 5)]
    images = torch.randn(6, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        real, features = mean_maps(network, batches)
    loss = cafe_loss(real, features, mean_maps(network, images.chunk(3))[0])
    torch.testing.assert_close(loss, loss_of(network, batches, images))
    (gradient,) = torch.autograd.grad(loss, images)
    direction = torch.randn_like(gradient)
    measured = slope(lambda x: loss_of(network, batches, x), images, direction)
    assert measured == pytest.approx(float((gradient * direction).sum()), rel=1e-6)


def test_copies_of_the_real_images_differ_in_nothing_but_how_they_tell_classes_apart(network):
    batches = list(torch.randn(3, 4, 1, 8, 8, dtype=torch.float64))
    real, features = mean_maps(network, batches)
    only = cafe_loss([layer * 0 for layer in real], features, [layer * 0 for layer in real])  # equal logits
    assert only.item() == pytest.approx(0.01 * 12 * torch.tensor(3.0).log().item())
    labels = torch.arange(3).repeat_interleave(4)
    told = nn.functional.cross_entropy(torch.cat(features) @ real[-1].flatten(1).T, labels, reduction="sum")
    assert cafe_loss(real, features, real).item() == pytest.approx(0.01 * told.item())


def test_grey_images_of_28_pixels_have_maps_of_32():
    network = ConvNet(3, 4).build(10, 1, 28)
    sides = [tuple(layer.shape[1:]) for layer in feature_maps(network, torch.randn(1, 1, 28, 28))]
    assert sides == [(4, 32, 32), (4, 16, 16), (4, 8, 8), (4, 4, 4)]


def test_ten_accuracies_are_compared_and_the_oldest_is_forgotten():
    window, still, low = [], [0.5 + 0.002 * k for k in range(10)], 0.1
    apart = [spread(window, accuracy, -1.0) for accuracy in [low, *still]]
    assert apart == [-1.0] * 9 + [pytest.approx(0.416), pytest.approx(0.018)]


def test_a_network_that_learns_nothing_ends_after_ten_image_steps_of_the_most_epochs(make, monkeypatch):
    data, epochs = make(CAFE, iterations=1, batch_real=2, most_inner=12), []
    monkeypatch.setattr(data, "_accuracy", lambda *_: 0.25)
    monkeypatch.setattr(data, "train_epoch", lambda *index: epochs.append(index[-2:]))
    monkeypatch.setattr(data, "_move", lambda *_: torch.tensor(1.0))
    taken = data.step(data.begin(), 0)
    assert (int(taken["steps"]), int(taken["epochs"])) == (10, 9 * 12)
    assert epochs == [(outer, epoch) for outer in range(9) for epoch in range(12)]


def test_epochs_end_when_ten_accuracies_have_changed(make, monkeypatch):
    data, read = make(CAFE, most_outer=2), iter([0.3, *[0.4] * 9, 0.44, *[0.5] * 9])
    monkeypatch.setattr(data, "_accuracy", lambda *_: next(read))
    monkeypatch.setattr(data, "train_epoch", lambda *_: None)
    monkeypatch.setattr(data, "_move", lambda *_: torch.tensor(1.0))
    assert int(data.step(data.begin(), 0)["epochs"]) == 10  # 0.4 nine times, then 0.44


def test_accuracy_is_read_as_it_is(make):
    data = make(CAFE)
    network = data.fresh(0).requires_grad_(False)
    first = data._accuracy(network, 0)
    assert data._accuracy(network, 0) == first  # nothing of an earlier reading is added
    batches = [data.real_batch(128, c, 0, 0) for c in range(10)]
    known = [float((network(batch).argmax(1) == c).float().mean()) for c, batch in enumerate(batches)]
    assert first == pytest.approx(sum(known) / 10)


def test_the_learning_rate_is_halved_three_times(make, monkeypatch):
    data = make(CAFE, iterations=1, batch_real=2, most_outer=1)
    learned = data.begin()
    rates = []
    for iteration in (0, 1199, 1200, 1600, 1800):
        data.step(learned, iteration)
        rates.append(learned.optimizers["images"].param_groups[0]["lr"])
    assert rates == [0.1, 0.1, 0.05, 0.025, 0.0125]
    assert cafe.HALVED == (1200, 1600, 1800)


def test_networks_without_blocks_are_refused(make):
    with pytest.raises(UsageError, match="CAFE matches the maps of a ConvNet's blocks, and the student is MLP"):
        make(CAFE, student=MLP())

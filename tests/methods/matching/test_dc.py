"""DC: distances of gradients, loops."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from ddlight.methods.matching.dc import DC, gradient_distance, gradients, published_loops
from ddlight.networks.students import ConvNet


@pytest.fixture
def network():
    torch.manual_seed(1)
    return ConvNet(2, 4).build(3, 1, 8).double()


def distance_by_rows(network, one, other, label):
    """DC's distance of two batches of a class, one output channel after another."""
    total, both = 0.0, []
    for images in (one, other):
        network.zero_grad()
        cross_entropy(network(images), torch.full((len(images),), label)).backward()
        both.append([p.grad.clone() for p in network.parameters()])
    for a, b in zip(*both, strict=True):
        if a.dim() == 1:
            continue
        for row, against in zip(a.numpy(), b.numpy(), strict=True):
            x, y = row.ravel(), against.ravel()
            total += 1 - x @ y / (np.linalg.norm(x) * np.linalg.norm(y) + 1e-6)
    return total


def test_distance_and_gradient_are_those_of_plain_loops_and_finite_differences(network, slope):
    torch.manual_seed(2)
    real = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    goal = gradients(network, real, 1)
    distance = gradient_distance(gradients(network, images, 1, graph=True), goal)
    assert distance.item() == pytest.approx(distance_by_rows(network, images.detach(), real, 1), rel=1e-9)
    (gradient,) = torch.autograd.grad(distance, images)
    direction = torch.randn_like(gradient)
    measured = slope(lambda x: distance_by_rows(network, x, real, 1), images, direction)
    assert measured == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


def test_equal_batches_have_no_distance_and_vectors_count_nothing(network):
    images = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    same = gradients(network, images, 0)
    assert abs(float(gradient_distance(same, same))) < 1e-3  # 1e-6 beside the norms of small rows
    changed = [g + 1 if g.dim() == 1 else g for g in same]
    assert float(gradient_distance(changed, same)) == float(gradient_distance(same, same))


def test_loops_are_published_and_one_image_a_class_never_trains(make, monkeypatch):
    assert [published_loops(ipc) for ipc in (1, 5, 10, 25, 50, 200)] == [(1, 1)] * 2 + [(10, 50), (20, 25)] + [
        (50, 10)
    ] * 2
    assert make(DC, iterations=None).numbers.iterations == 1001
    data = make(DC, ipc=1, iterations=2)
    monkeypatch.setattr(data.matching, "_train", lambda *_: pytest.fail("a network was trained"))
    data.condense()


def test_image_steps_and_epochs_follow_one_another(make, monkeypatch):
    data = make(DC, ipc=2, iterations=1, outer=3, inner=2, batch_real=4)
    moves, steps = [], []
    move, train = data.matching._move, data.matching._train
    monkeypatch.setattr(data.matching, "_move", lambda *a: moves.append(a[2:]) or move(*a))
    monkeypatch.setattr(data.matching, "_train", lambda *a: steps.append(a[3:]) or train(*a))
    data.step(data.begin(), 0)
    assert (moves, steps) == (
        [(0, 0), (0, 1), (0, 2)],
        [(0, 0), (0, 1)],
    )  # nothing is trained after the last image step


def test_classes_one_after_another_move_images_as_all_at_once(make):
    data = make(DC, ipc=2, iterations=1, outer=1, batch_real=4)
    learned, network = data.begin(), data.fresh(0)
    leaf = learned.images.pixels.detach().clone().requires_grad_(True)
    total = sum(
        gradient_distance(
            gradients(network, leaf[2 * c : 2 * c + 2], c, graph=True),
            gradients(network, data.real_batch(4, c, 0, 0), c),
        )
        for c in range(10)
    )
    (gradient,) = torch.autograd.grad(total, leaf)
    assert float(data.step(learned, 0)["distance"]) == pytest.approx(float(total), rel=1e-5)
    torch.testing.assert_close(learned.images.pixels.detach(), leaf.detach() - 0.1 * gradient)


def test_batch_norm_keeps_statistics_of_real_images_during_an_image_step(make):
    data = make(DC, iterations=1, outer=1, student=ConvNet(1, 4, "batch"), batch_real=4)
    network = data.fresh(0)
    data.matching._freeze_statistics(network, 0, 0)
    norm = network.features[1]
    assert not norm.training and network.training
    assert float(norm.num_batches_tracked) == 1

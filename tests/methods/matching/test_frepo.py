"""FRePo: ridge regression, LAMB, the pool of networks, learned labels."""

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss

from ddlight.data import CIFAR10, CIFAR100, FashionMNIST
from ddlight.methods.matching.frepo import RIDGE, FRePo, Lamb, margin, ridge_regression
from ddlight.networks.layers import embed_with_logits
from ddlight.networks.students import ConvNet
from ddlight.sets import store

FEW = {"pool": 3, "most_steps": 4, "batch_real": 20}


def test_regression_and_its_gradient_are_those_of_normal_equations_and_finite_differences(slope):
    torch.manual_seed(0)
    network = ConvNet(1, 3).build(3, 1, 8).double()
    images = torch.randn(6, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    labels = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    x, y = torch.randn(4, 1, 8, 8, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    real = embed_with_logits(network, x)[0].detach()

    def outcome(images, labels):
        own = network.features(images).flatten(1).detach().numpy()
        ridge = RIDGE * np.trace(own @ own.T) / len(own)
        weights = np.linalg.solve(own.T @ own + ridge * np.eye(own.shape[1]), own.T @ labels.detach().numpy())
        return float(((real.numpy() @ weights - y.numpy()) ** 2).sum(1).mean() / 2)

    loss = (ridge_regression(embed_with_logits(network, images)[0], labels, real) - y).square().sum(1).mean() / 2
    assert loss.item() == pytest.approx(outcome(images, labels), rel=1e-6)
    gradients = torch.autograd.grad(loss, [images, labels])
    direction = torch.randn_like(images)
    measured = slope(lambda z: outcome(z, labels), images, direction)
    assert measured == pytest.approx((gradients[0] * direction).sum().item(), rel=1e-4)
    direction = torch.randn_like(labels)
    measured = slope(lambda z: outcome(images, z), labels, direction)
    assert measured == pytest.approx((gradients[1] * direction).sum().item(), rel=1e-4)


def test_margins_count_up_to_one_over_the_classes():
    labels = torch.tensor([[0.9, -0.1, -0.1, -0.1], [0.3, 0.2, 0.0, 0.0]])  # 1.0 above, cut to 1/4; 0.1 above
    assert margin(labels).item() == pytest.approx(-(0.25 + 0.1) / 2)


def test_lamb_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal((2, 3)), rng.standard_normal((4, 2, 3))
    parameter = torch.nn.Parameter(torch.from_numpy(start))
    optimizer = Lamb([parameter], lr=0.1)
    x, m, v = start.copy(), 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        parameter.grad = torch.from_numpy(g.copy())
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        update = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6)
        x = x - 0.1 * np.linalg.norm(x) / np.linalg.norm(update) * update
        np.testing.assert_allclose(parameter.detach().numpy(), x, rtol=1e-10)


def test_networks_of_the_pool_end_one_by_one_and_begin_anew(make, monkeypatch):
    data = make(FRePo, iterations=20, pool=2, most_steps=6, batch_real=8)
    learned, built = data.begin(), []
    assert learned.steps.tolist() == [0, 3]
    fresh = data.fresh
    monkeypatch.setattr(data, "fresh", lambda *index: built.append(index) or fresh(*index))
    steps, expected, taken = [0, 3], [], []
    for t in range(20):
        before = learned.steps.clone()
        data.step(learned, t)
        which = int((learned.steps != before).nonzero())
        taken.append(which)
        steps[which] += 1
        if steps[which] == 6:
            steps[which] = 0
            expected.append((t + 1, which))
        assert learned.steps.tolist() == steps
    assert built == expected and len(built) == 3 and set(taken) == {0, 1}
    last = built[-1][1]
    assert len(learned.inner[str(last)].state) in (0, len(list(learned.networks[0].parameters())))


def test_a_network_learns_the_labels_from_the_images(make):
    data = make(FRePo, **FEW)
    learned = data.begin()
    network = learned.networks[0]

    def distance():
        return mse_loss(network(learned.images()), learned.labels).item()

    before = distance()
    for _ in range(50):
        data._train(learned, network, learned.inner["0"], np.random.default_rng(0))
    assert distance() < 0.8 * before


def test_labels_are_learned_and_kept(make):
    data = make(FRePo, iterations=8, lr=0.05, **FEW)
    stored = store.load(data.condense())
    first = data.targets(data.labels(20))
    assert first[0].tolist() == pytest.approx([0.9] + [-0.1] * 9)
    assert stored.manifest["labels"] == "centred" and stored.labels.shape == (20, 10)
    assert not np.allclose(stored.labels, first, atol=1e-3) and (stored.labels.argmax(1) == data.labels(20)).all()


def test_numbers_are_published(home):
    grey, colour = FRePo(FashionMNIST()), FRePo(CIFAR10(), ipc=50)
    many = [FRePo(CIFAR100(), ipc=ipc).mirrors for ipc in (1, 10)]
    assert (grey.mirrors, colour.mirrors, many) == (False, True, [True, False])
    assert (grey.space, colour.space) == ("normalised", "zca_frepo")
    assert (grey.network.norm, grey.numbers.iterations, grey.numbers.lr) == ("batch", 500_000, 3e-4)

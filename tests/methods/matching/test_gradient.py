"""Gradients through inner steps, against full unrolling, finite differences and TESLA's own formula, in float64."""

import weakref

import pytest
import torch
from torch.nn import functional as F

from ddlight.methods.matching.tesla import published_gradient, tesla_gradient
from ddlight.methods.matching.trajectory.gradient import exact_gradient
from ddlight.networks.students import ConvNet

STEPS, IMAGES, CLASSES = 4, 6, 3


@pytest.fixture
def problem():
    """A small ConvNet in float64 that learns soft labels of a third of the images at each step, in turn."""
    torch.manual_seed(0)
    network = ConvNet(depth=2, width=4).build(CLASSES, 1, 8).double()
    shapes = {name: p.shape for name, p in network.named_parameters()}
    sizes = [shape.numel() for shape in shapes.values()]
    start = torch.cat([p.detach().flatten() for p in network.parameters()])
    target = start + 0.05 * torch.randn_like(start)
    images = torch.randn(IMAGES, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    labels = torch.randn(IMAGES, CLASSES, dtype=torch.float64, requires_grad=True)

    def inner(n, weights, images=images, labels=labels):
        parts = weights[0].split(sizes)
        named = {k: part.view(shape) for (k, shape), part in zip(shapes.items(), parts, strict=True)}
        rows = (torch.arange(2) + 2 * n) % IMAGES
        logits = torch.func.functional_call(network, named, ((images * (1 + 0.1 * n))[rows],))
        return F.cross_entropy(logits, labels[rows].softmax(1))

    return inner, images, labels, start, target


def unrolled(inner, learned, rate, start, target):
    """The same loss with every step's graph kept, and its gradients by autograd."""
    weights = start.clone().requires_grad_()
    for n in range(STEPS):
        (slope,) = torch.autograd.grad(inner(n, (weights,), *learned), weights, create_graph=True)
        weights = weights - rate * slope
    loss = (weights - target).square().sum() / (start - target).square().sum()
    return loss, torch.autograd.grad(loss, [*learned, rate])


def test_the_exact_gradient_is_that_of_full_unrolling(problem):
    inner, images, labels, start, target = problem
    rate = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    found = exact_gradient(inner, [images, labels], rate, start, target, STEPS)
    loss, expected = unrolled(inner, [images, labels], rate, start, target)
    assert found.loss.item() == pytest.approx(loss.item(), rel=1e-14)
    for one, other in zip([*found.gradients, found.rate_gradient], expected, strict=True):
        assert (one - other).norm() / other.norm() < 1e-10
    assert not found.loss.requires_grad


def test_the_exact_gradient_is_that_of_finite_differences(problem):
    inner, images, labels, start, target = problem
    rate = torch.tensor(0.3, dtype=torch.float64)
    found = exact_gradient(inner, [images, labels], rate, start, target, STEPS)

    def loss_at(images, labels, rate):
        def moved(n, weights):
            return inner(n, weights, images, labels)

        leaves = [images.detach().requires_grad_(), labels.detach().requires_grad_()]
        return exact_gradient(moved, leaves, rate, start, target, STEPS).loss.item()

    place = [images.detach(), labels.detach(), rate]
    for k, gradient in enumerate([*found.gradients, found.rate_gradient]):
        way = torch.randn(place[k].shape, dtype=torch.float64)
        ends = [[value + side * 1e-5 * way if k == j else value for j, value in enumerate(place)] for side in (1, -1)]
        slope = (loss_at(*ends[0]) - loss_at(*ends[1])) / 2e-5
        assert slope == pytest.approx((gradient * way).sum().item(), rel=1e-5)


def test_teslas_gradient_is_its_formula_and_near_the_exact_one(problem):
    inner, images, labels, start, target = problem
    rate = torch.tensor(0.3, dtype=torch.float64)
    found = tesla_gradient(inner, [images, labels], rate, start, target, STEPS)
    exact = exact_gradient(inner, [images, labels], rate, start, target, STEPS)
    weights, slopes, passed = start, [], []
    for n in range(STEPS):
        theta = weights.clone().requires_grad_()
        slopes.append(torch.autograd.grad(inner(n, (theta,)), theta, create_graph=True)[0])
        passed.append(theta)
        weights = weights - rate * slopes[-1].detach()
    total, distance = sum(slope.detach() for slope in slopes), (start - target).square().sum()
    direction = rate * (target - start) + rate**2 * total
    expected = [torch.zeros_like(images), torch.zeros_like(labels)]
    for slope in slopes:
        parts = torch.autograd.grad(2 / distance * (direction @ slope), [images, labels])
        expected = [a + b for a, b in zip(expected, parts, strict=True)]
    for one, other in zip(found.gradients, expected, strict=True):
        assert (one - other).norm() / other.norm() < 1e-12
    alpha = rate.clone().requires_grad_()
    loss = (start - alpha * total - target).square().sum() / distance
    assert found.rate_gradient.item() == pytest.approx(torch.autograd.grad(loss, alpha)[0].item(), rel=1e-12)
    assert found.loss.item() == pytest.approx(exact.loss.item(), rel=1e-14)
    halved = published_gradient(inner, [images, labels], rate, start, target, STEPS)
    assert torch.equal(2 * halved.gradients[0], found.gradients[0])  # the factor that the code loses
    assert halved.rate_gradient == found.rate_gradient
    one, other = found.gradients[0].flatten(), exact.gradients[0].flatten()
    assert 0.8 < F.cosine_similarity(one, other, dim=0) < 0.99999  # near, and not the same


def test_one_step_is_the_same_for_both(problem):
    inner, images, labels, start, target = problem
    rate = torch.tensor(0.3, dtype=torch.float64)
    one, other = (f(inner, [images, labels], rate, start, target, 1) for f in (exact_gradient, tesla_gradient))
    for a, b in zip([*one.gradients, one.rate_gradient], [*other.gradients, other.rate_gradient], strict=True):
        assert (a - b).norm() / b.norm() < 1e-12


@pytest.mark.parametrize("gradient", [exact_gradient, tesla_gradient])
def test_graphs_do_not_add_up_over_the_steps(problem, gradient):
    inner, images, labels, start, target = problem
    rate = torch.tensor(0.3, dtype=torch.float64)

    def most_alive(compute):
        """Most graphs of other steps that are alive when a step begins: each holds on to a factor of its images."""
        seen, most = [], [0]

        def watched(n, weights, images=images, labels=labels):
            most[0] = max(most[0], sum(ref() is not None for ref in seen))
            factor = torch.ones_like(images)
            seen.append(weakref.ref(factor))
            return inner(n, weights, images * factor, labels)

        compute(watched)
        assert not any(ref() is not None for ref in seen)
        return most[0]

    few, many = (
        most_alive(lambda inner, steps=steps: gradient(inner, [images, labels], rate, start, target, steps))
        for steps in (2, 12)
    )
    assert few == many <= 1
    leaf = rate.clone().requires_grad_()
    assert most_alive(lambda inner: unrolled(inner, [images, labels], leaf, start, target)) == STEPS - 1

"""ManifoldGD: the tree's leaves, neighbourhoods, tangent spaces, the code's term and the paper's projection."""

import math

import numpy as np
import pytest
import torch

from ddlight.core.errors import UsageError
from ddlight.data import Digits
from ddlight.methods.generative.engine.schedule import Step
from ddlight.methods.generative.manifold_gd import ManifoldGD, bisected, correction, neighbourhood, radius, tangent
from ddlight.methods.generative.mgd3 import mode_pull


@pytest.mark.parametrize("count", [1, 2, 7, 20])
def test_a_tree_has_exactly_as_many_leaves_as_are_asked_for(count):
    points = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    leaves = bisected(points, count, np.random.RandomState(0))
    assert leaves.shape == (count, 3) and np.isfinite(leaves).all()
    assert len(np.unique(leaves, axis=0)) == count


def test_the_leaf_with_the_largest_error_is_split():
    far, near = np.array([[0.0, 0], [0, 100]]), np.array([[500.0, 0], [500, 1]])
    leaves = bisected(np.concatenate([far, near]).astype(np.float32), 3, np.random.RandomState(0))
    assert {tuple(row) for row in leaves.round(3).tolist()} == {(0, 0), (0, 100), (500, 0.5)}


def test_equal_points_are_split_in_halves():
    leaves = bisected(np.ones((6, 2), np.float32), 4, np.random.RandomState(0))
    np.testing.assert_array_equal(leaves, np.ones((4, 2)))


def test_the_radius_shrinks_exponentially_in_the_first_steps():
    values = [radius(i, 49, 25, 0.1, 5, 2.0) for i in range(49, 42, -1)]
    assert values[0] == pytest.approx(0.2)
    assert values[5:] == [0.1, 0.1]
    assert values[2] == pytest.approx(0.1 * (1 + (math.exp(0.6) - 1) / (math.e - 1)))
    assert radius(26, 49, 46, 0.1, 5, 2.0) == 0.1  # a late stop cuts the annealing short
    assert radius(47, 49, 46, 0.1, 5, 2.0) == pytest.approx(0.1 * (1 + (math.exp(1 / 3) - 1) / (math.e - 1)))


def test_points_lie_on_spheres_and_are_noised_to_the_level():
    centre = np.full(400, 3.0, np.float32)
    clean = neighbourhood(centre, 0.5, 1.0, np.random.default_rng(0))
    distances = np.linalg.norm(clean - centre, axis=1)
    np.testing.assert_allclose(distances[:150], np.linspace(0.1, 0.5, 150), rtol=1e-3)
    assert distances[150:].max() <= 0.501 and distances[150:].std() > 0.1
    noised = neighbourhood(centre, 0.5, 0.25, np.random.default_rng(0))
    assert noised.mean() == pytest.approx(1.5, abs=0.02)
    assert noised.std() == pytest.approx(math.sqrt(0.75), abs=0.02)


def test_tangent_space_is_that_of_the_covariances_eigenvectors():
    torch.manual_seed(0)
    points, x = (
        torch.randn(40, 6, dtype=torch.float64) * torch.tensor([5, 3, 2, 0.1, 0.1, 0.1]),
        torch.zeros(6).double(),
    )
    nu, basis, least = tangent(x, points, 2)
    order = sorted(range(40), key=lambda k: float((points[k] - x).norm()))[:12]
    nearest = points[order]
    covariance = sum(torch.outer(p - nearest.mean(0), p - nearest.mean(0)) for p in nearest) / 11
    vectors = torch.linalg.eigh(covariance + 1e-5 * torch.eye(6)).eigenvectors[:, -2:]
    torch.testing.assert_close(nu, nearest.mean(0))
    torch.testing.assert_close(basis @ basis.T, vectors @ vectors.T)
    assert float(least) == pytest.approx(min(float(p.norm()) for p in points))


def test_the_codes_term_is_normal_to_the_plane_points_to_it_and_has_the_published_length():
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(5, 2, dtype=torch.float64)).Q
    x, nu = torch.randn(2, 5, dtype=torch.float64)
    term = correction(x, nu, basis, torch.tensor(0.05), 0.1, 0.1)
    assert (basis.T @ term).abs().max() < 1e-9
    assert float(term.norm()) == pytest.approx(0.1 * math.tanh(0.5), rel=1e-6)
    normal = (x - nu) - basis @ basis.T @ (x - nu)
    assert float(term @ normal) == pytest.approx(-float(term.norm() * normal.norm()))
    assert float(correction(x, nu, basis, torch.tensor(88.0), 0.1, 0.1).norm()) == pytest.approx(0.1)


def a_step(data, i):
    torch.manual_seed(0)
    x, x0 = torch.randn(2, 2, *data.model.shape)
    return Step(x, i, x0, torch.zeros_like(x), torch.zeros(1))


@pytest.mark.parametrize("manifold", ["code", "paper", "none"])
def test_what_is_added_to_a_step(build, manifold):
    data = build(ManifoldGD, manifold=manifold, stop=1, scale=0.3, bandwidth=0.01, flip=False)
    step, still = a_step(data, 2), a_step(data, 1)
    hook = data.hook(4, [0, 1])
    pull = mode_pull(step, data.targets(data.centres(4), [0, 1]), 0.1, 1)
    added = hook(step)
    if manifold == "none":
        torch.testing.assert_close(added, pull)
    elif manifold == "code":
        torch.testing.assert_close((added - pull).flatten(1).norm(dim=1), torch.tensor([0.3, 0.3]), rtol=1e-4, atol=0)
    else:  # a projection is shorter than what it projects, and at right angles to what is lost
        assert (added.flatten(1).norm(dim=1) < pull.flatten(1).norm(dim=1)).all()
        assert (added * (pull - added)).flatten(1).sum(1).abs().max() < 1e-5
        assert added.abs().max() > 0
    assert not hook(still).any()
    torch.testing.assert_close(hook(step), added)  # the neighbourhood's draws are keyed


def test_each_seed_has_a_tree_of_its_own_only_where_the_draw_matters(build):
    one, again = build(ManifoldGD, ipc=5, seed=3), build(ManifoldGD, ipc=5, seed=3)
    np.testing.assert_array_equal(one.centres(7), again.centres(7))


@pytest.mark.parametrize("option", [{"dimensions": 12}, {"dimensions": 0}, {"stop": -1}])
def test_options_that_cannot_be_are_refused(option):
    with pytest.raises(UsageError, match="dimensions 1 to 11"):
        ManifoldGD(Digits(size=8), **option)

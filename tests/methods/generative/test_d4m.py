"""D4M: prototypes fed in a seeded order, and the way back from 70 % noise."""

import math

import numpy as np
import pytest
import torch
from sklearn.cluster import MiniBatchKMeans

from ddlight.core.errors import UsageError
from ddlight.data import Digits
from ddlight.methods.generative.d4m import D4M, minibatch_prototypes
from ddlight.methods.generative.engine.schedule import Schedule, leading, linear_betas, redrawn


def test_prototypes_are_fed_whole_batches_in_the_order_given():
    points = np.random.default_rng(0).standard_normal((17, 5)).astype(np.float32)
    order = np.random.default_rng(1).permutation(17)
    expected = MiniBatchKMeans(3, random_state=0, batch_size=6, n_init="auto")
    expected.partial_fit(points[order[:6]]).partial_fit(points[order[6:12]])  # five points are left over
    np.testing.assert_allclose(minibatch_prototypes(points, order, 3, 2), expected.cluster_centers_, rtol=1e-6)
    few = minibatch_prototypes(points[:4], np.arange(4), 3, 2)
    assert few.shape == (3, 5) and np.isfinite(few).all()


def test_with_one_point_a_batch_each_prototype_begins_as_an_image():
    points = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    prototypes = minibatch_prototypes(points, np.arange(3), 3, 1)
    assert {tuple(row) for row in prototypes.round(5)} == {tuple(row) for row in points.round(5)}


def test_the_way_back_is_ddim_by_hand():
    timesteps = leading(50, 1)[:35]
    schedule, abar = Schedule(linear_betas(), timesteps), np.cumprod(1 - linear_betas())[timesteps]
    assert timesteps[-1] == 681
    torch.manual_seed(0)
    prototype, noise, told = *torch.randn(2, 1, 4, 3, 3, dtype=torch.float64), []

    def predict(x, t):
        told.append(t)
        return torch.sin(x), None

    got = redrawn(predict, schedule, prototype, noise)
    x = math.sqrt(abar[-1]) * prototype + math.sqrt(1 - abar[-1]) * noise
    for i in range(34, -1, -1):
        eps = torch.sin(x)
        x0 = (x - math.sqrt(1 - abar[i]) * eps) / math.sqrt(abar[i])
        x = math.sqrt(abar[i - 1]) * x0 + math.sqrt(1 - abar[i - 1]) * eps if i else x0
    torch.testing.assert_close(got, x)
    assert told == timesteps[::-1].tolist()


def test_an_exact_network_gives_the_prototype_back():
    schedule = Schedule(linear_betas(), leading(10, 1)[:7])
    prototype, noise = torch.randn(2, 1, 4, 3, 3, dtype=torch.float64)

    def predict(x, t):
        abar = float(np.cumprod(1 - linear_betas())[t])
        return (x - math.sqrt(abar) * prototype) / math.sqrt(1 - abar), None

    torch.testing.assert_close(redrawn(predict, schedule, prototype, noise), prototype)


def test_the_seed_decides_the_order(build):
    one, other, again = build(D4M, seed=0), build(D4M, seed=1), build(D4M, seed=0)
    np.testing.assert_array_equal(one.prototypes(2), again.prototypes(2))
    assert not np.array_equal(one.prototypes(2), other.prototypes(2))


@pytest.mark.parametrize("option", [{"strength": 0.0}, {"strength": 1.5}, {"expand": 0}])
def test_options_that_cannot_be_are_refused(option):
    with pytest.raises(UsageError, match="strength is above 0"):
        D4M(Digits(size=8), **option)

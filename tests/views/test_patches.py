"""Patch shuffling against strips cut and joined in numpy."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch

from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.views.patches import patch_orders, shuffle_patches


def shuffled(image, orders):
    """One image (C, H, W): cut, reorder and join, first left to right, then top to bottom."""
    for axis, order in ((2, orders[0]), (1, orders[1])):
        factor, side = len(order), image.shape[axis]
        cuts = [side // factor * i for i in range(1, factor)]
        strips = np.split(image, cuts, axis)
        image = np.concatenate([strips[i] for i in order], axis)
    return image


@pytest.mark.parametrize(("factor", "shape"), [(2, (8, 8)), (2, (7, 9)), (3, (9, 9)), (3, (11, 8)), (4, (30, 30))])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_equals_cutting_and_joining(factor, shape, dtype):
    rng = generator(0, "patches", factor)
    images = torch.from_numpy(rng.integers(0, 256, (20, 3, *shape))).to(dtype)
    before = images.clone()
    orders = patch_orders(rng.random((20, 2 * factor)), factor)
    expected = [shuffled(image, order) for image, order in zip(images.numpy(), orders, strict=True)]
    result = shuffle_patches(images, factor, orders)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result.numpy(), expected)
    assert torch.equal(images, before)


def test_factor_two_has_four_arrangements():
    image = torch.arange(4.0).view(1, 1, 2, 2).expand(200, -1, -1, -1)
    result = shuffle_patches(image, 2, patch_orders(generator(0, "four").random((200, 4)), 2))
    seen = {tuple(numbers) for numbers in result.flatten(1).int().tolist()}
    assert seen == {(0, 1, 2, 3), (1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0)}


def test_factor_one_changes_nothing():
    images = torch.rand(3, 1, 5, 5)
    assert torch.equal(shuffle_patches(images, 1, patch_orders(np.zeros((3, 2)), 1)), images)


def test_orders_are_uniform_permutations():
    orders = patch_orders(generator(0, "orders").random((50, 120, 6)), 3)
    assert orders.shape == (50, 120, 2, 3)
    for axis in range(2):
        rows = [tuple(row) for row in orders[:, :, axis].reshape(-1, 3).tolist()]
        counts = [rows.count(order) for order in permutations(range(3))]
        assert sum(counts) == 6000
        assert max(abs(count - 1000) for count in counts) < 4 * math.sqrt(1000)


@pytest.mark.parametrize("factor", [0, 9])
def test_impossible_factors_are_refused(factor):
    with pytest.raises(UsageError, match="factor of the patch shuffling"):
        shuffle_patches(torch.rand(1, 1, 8, 8), factor, np.zeros((1, 2, max(factor, 1)), int))


def test_gradients_come_back_to_their_pixels():
    images = torch.rand(6, 2, 6, 6, requires_grad=True)
    orders = patch_orders(generator(0, "gradient").random((6, 4)), 2)
    weight = torch.rand(6, 2, 6, 6)
    (shuffle_patches(images, 2, orders) * weight).sum().backward()
    inverse = np.argsort(orders, -1)
    assert torch.equal(images.grad, shuffle_patches(weight, 2, inverse))

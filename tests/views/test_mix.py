"""CutMix and mixup against loops over pixels."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.views.mix import CUTMIX_UNIFORMS, beta_draw, cutmix, cutmix_box, cutmix_draw, kept_fraction, mixup


def batch(dtype=torch.float32, count=6, size=16):
    numbers = generator(0, "batch", count, size).integers(0, 256, (2, count, 3, size, size))
    return (torch.from_numpy(part).to(dtype) for part in numbers)


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 5.0])
def test_beta_draws_are_the_quantiles(alpha):
    u = generator(0, "beta").random((40, 50))
    np.testing.assert_allclose(beta_draw(u, alpha), stats.beta.ppf(u, alpha, alpha), rtol=1e-9, atol=1e-300)
    assert stats.kstest(beta_draw(u, alpha).ravel(), "beta", (alpha, alpha)).pvalue > 1e-3


def test_beta_refuses_alpha_zero():
    with pytest.raises(UsageError, match="alpha"):
        beta_draw(np.array([0.5]), 0.0)


@pytest.mark.parametrize("size", [28, 33, 224])
def test_boxes_equal_the_scalar_rule(size):
    u = generator(0, "boxes", size).random((500, CUTMIX_UNIFORMS))
    expected = []
    for lam, row, column in u:
        side = int(size * math.sqrt(1 - lam))
        row, column = int(row * size), int(column * size)
        box = [row - side // 2, row + side // 2, column - side // 2, column + side // 2]
        expected.append([min(max(number, 0), size) for number in box])
    np.testing.assert_array_equal(cutmix_box(u[:, 1:], u[:, 0], size), expected)
    np.testing.assert_array_equal(cutmix_draw(u, size, 1.0), expected)
    np.testing.assert_array_equal(cutmix_draw(u[7], size, 1.0), expected[7])


def test_one_box_for_the_batch():
    images, partners = batch()
    before = images.clone()
    box = np.array([2, 9, 5, 16])
    mixed = cutmix(images, partners, box)
    for y in range(16):
        for x in range(16):
            source = partners if 2 <= y < 9 and x >= 5 else images
            assert torch.equal(mixed[:, :, y, x], source[:, :, y, x])
    assert torch.equal(images, before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_one_box_per_image_and_its_share(dtype):
    images, _ = batch(dtype, count=40)
    images, partners = torch.zeros_like(images), torch.ones_like(images)
    boxes = cutmix_draw(generator(0, "each").random((40, CUTMIX_UNIFORMS)), 16)
    mixed = cutmix(images, partners, boxes)
    assert mixed.dtype == dtype
    np.testing.assert_allclose(1 - mixed.double().mean((1, 2, 3)).numpy(), kept_fraction(boxes, 16), atol=1e-12)
    for i in range(40):
        assert torch.equal(mixed[i : i + 1], cutmix(images[i : i + 1], partners[i : i + 1], boxes[i]))


def test_shares_follow_the_nominal_ones_away_from_the_border():
    lam = np.linspace(0.75, 1, 50)
    centre = np.full((50, 2), 0.5)
    np.testing.assert_allclose(kept_fraction(cutmix_box(centre, lam, 1000), 1000), lam, atol=2e-3)


def test_mixup_is_the_weighted_mean():
    images, partners = batch(torch.float64)
    lam = generator(0, "lam").random(6)
    expected = lam[:, None, None, None] * images.numpy() + (1 - lam[:, None, None, None]) * partners.numpy()
    np.testing.assert_allclose(mixup(images, partners, lam).numpy(), expected, atol=1e-10)
    np.testing.assert_allclose(
        mixup(images, partners, 0.3).numpy(), 0.3 * images.numpy() + 0.7 * partners.numpy(), atol=1e-10
    )
    with pytest.raises(TypeError, match="uint8"):
        mixup(images.byte(), partners.byte(), 0.3)


def test_gradients_reach_images_and_partners():
    images, partners = (part.requires_grad_() for part in batch())
    cutmix(images, partners, np.array([0, 8, 0, 16])).sum().backward()
    assert images.grad[:, :, 8:].eq(1).all() and images.grad[:, :, :8].eq(0).all()
    assert torch.equal(partners.grad, 1 - images.grad)

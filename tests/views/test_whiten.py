"""Whitening: each recipe against its formulas in numpy, what it does to a covariance, and the way back."""

import numpy as np
import pytest
import torch

from ddlight.core.errors import UsageError
from ddlight.views.whiten import WHITENINGS, fit_whitening

STD = (0.2, 0.3, 0.25)
RNG = np.random.default_rng(0)
BASES = RNG.normal(size=(6, 48))
"""Six patterns that make up the images, so that some directions vary a lot and others hardly."""


def pictures(count, seed=1):
    """uint8 (count, 3, 4, 4), neighbouring pixels correlated."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(count, 6)) @ BASES + 0.1 * rng.normal(size=(count, 48))
    return torch.tensor((128 + 30 * mixed).clip(0, 255).astype(np.uint8).reshape(count, 3, 4, 4))


TRAIN, TEST = pictures(400), pictures(7, seed=2)


def rows(images, last=False):
    """Float64 rows, with the channel first or, as in tensorflow, last."""
    pixels = images.numpy().astype(np.float64) / 255
    return (pixels.transpose(0, 2, 3, 1) if last else pixels).reshape(len(pixels), -1)


def channels_first(flat):
    return flat.reshape(-1, 4, 4, 3).transpose(0, 3, 1, 2)


def kornia(train, images):
    x, mean = rows(train), rows(train).mean(0)
    u, s, _ = np.linalg.svd(np.cov(x, rowvar=False))
    return ((rows(images) - mean) @ (u @ np.diag(1 / np.sqrt(s + 0.1)) @ u.T)).reshape(images.shape)


def frepo(train, images):
    """Channels last, as tensorflow flattens them; the channel means, which the pixel means take out again, are 0.5."""
    x, y = ((rows(part, last=True) - 0.5) / np.tile(STD, 16) for part in (train, images))
    mean = x.mean(0)
    cov = (x - mean).T @ (x - mean) / len(x)
    u, s, _ = np.linalg.svd(cov + 0.1 * np.trace(cov) / 48 * np.eye(48))
    return channels_first((y - mean) @ np.einsum("ij,j,kj->ik", u, s**-0.5, u))


def kip(train, images):
    def prepared(part):
        x = rows(part) - rows(part).mean(1, keepdims=True)
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    x = prepared(train)
    cov = x.T @ x / len(x)
    u, s, _ = np.linalg.svd(cov + 0.1 * np.trace(cov) / 48 * np.eye(48))
    return (prepared(images) @ np.einsum("ij,j,kj->ik", u, s**-0.5, u)).reshape(images.shape)


FORMULAS = {"zca": kornia, "zca_frepo": frepo, "zca_kip": kip}


def fitted(recipe, train=TRAIN, batch=150):
    return fit_whitening(train.split(batch), recipe, STD)


@pytest.mark.parametrize("recipe", WHITENINGS)
def test_each_recipe_is_its_formula(recipe):
    expected = FORMULAS[recipe](TRAIN, TEST)
    found = fitted(recipe).apply(TEST)
    assert found.dtype == torch.float32 and np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4)
    np.testing.assert_allclose(fitted(recipe).apply(TEST.float() / 255).numpy(), expected, atol=2e-4)
    np.testing.assert_allclose(fitted(recipe, batch=7).apply(TEST).numpy(), expected, atol=2e-4)


@pytest.mark.parametrize("recipe", WHITENINGS)
def test_directions_that_vary_get_variance_one_and_no_correlation(recipe):
    """A direction of variance v ends at v / (v + r); contrast is stretched, so that v is far above r for six."""
    wide = (TRAIN.float() / 255 - 0.5) * 30
    whitening = fit_whitening(wide.split(100), recipe, STD)
    after = whitening.apply(wide).flatten(1).double()
    values = torch.linalg.eigvalsh(after.T @ after / len(after)).flip(0)
    assert ((values[:6] > 0.93) & (values[:6] < 1.01)).all()
    assert values[8] < 0.7 or recipe == "zca"  # noise stays below; at this contrast it too is far above 0.1
    before = (wide.flatten(1) - wide.flatten(1).mean(0)).double()
    assert torch.linalg.eigvalsh(before.T @ before / len(before))[-1] > 50


@pytest.mark.parametrize("recipe", ["zca", "zca_frepo"])
def test_the_inverse_brings_pixels_back(recipe):
    whitening = fitted(recipe)
    whitened = whitening.apply(TEST)
    assert (whitened - TEST / 255).abs().max() > 0.5
    torch.testing.assert_close(whitening.undo(whitened), TEST / 255, rtol=0, atol=1e-5)


def test_what_forgets_brightness_has_no_inverse():
    whitening = fitted("zca_kip")
    torch.testing.assert_close(whitening.apply(TEST.float() / 510 + 0.25), whitening.apply(TEST), rtol=0, atol=1e-4)
    assert torch.equal(whitening.apply(torch.full((1, 3, 4, 4), 0.5)), torch.zeros(1, 3, 4, 4))
    with pytest.raises(UsageError, match="--model=HardLabel"):
        whitening.undo(TEST.float())


def test_mixed_precision_does_not_round_it():
    whitening = fitted("zca")
    with torch.autocast("cpu", torch.bfloat16):
        there = whitening.apply(TEST)
        back = whitening.undo(there)
    assert torch.equal(there, whitening.apply(TEST)) and torch.equal(back, whitening.undo(there))

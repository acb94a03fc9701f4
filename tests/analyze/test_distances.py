"""FID and KID against their formulas, computed another way."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from ddlight.analyze import distances
from ddlight.analyze.distances import Distances


def clouds(n=60, m=90, width=5):
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(width, width))
    return rng.normal(size=(n, width)) @ mixing, rng.normal(size=(m, width)) @ mixing.T + 0.5


def against(real):
    found = Distances(real.shape[1], len(real))
    for part in torch.tensor(real).split(32):
        found.add(part)
    return found


def frechet(a, b):
    """arXiv 1706.08500, eq. 6, with a matrix square root."""
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(sqrtm(covariances[0] @ covariances[1]))
    return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)


def mmd(a, b):
    """Unbiased squared MMD, arXiv 1801.01401, eq. 4, one pair after the other."""

    def k(x, y):
        return (x @ y / len(x) + 1) ** 3

    def own(xs):
        return np.mean([k(x, y) for i, x in enumerate(xs) for j, y in enumerate(xs) if i != j])

    return own(a) + own(b) - 2 * np.mean([k(x, y) for x in a for y in b])


def test_fid_is_the_distance_of_two_gaussians():
    images, real = clouds()
    found = against(real).to(torch.tensor(images))
    assert found.fid == pytest.approx(frechet(images, real), rel=1e-6)
    assert (found.images, found.real) == (60, 90)


@pytest.mark.parametrize("n", [4, 90])
def test_a_set_has_no_distance_to_itself(n):
    _, real = clouds(m=n)
    assert against(real).to(torch.tensor(real)).fid == pytest.approx(0, abs=1e-6)


def test_kid_of_equally_many_images_is_the_unbiased_estimate():
    images, real = clouds(40, 40)
    found = against(real).to(torch.tensor(images))
    assert found.kid == pytest.approx(mmd(images, real), rel=1e-6)
    assert found.kid_std == pytest.approx(0, abs=1e-9)


def test_sets_do_not_see_each_other_and_no_generator_moves():
    images, real = clouds()
    state, prepared = torch.get_rng_state(), against(real)
    first = prepared.to(torch.tensor(images))
    prepared.to(torch.tensor(images * 3))
    assert prepared.to(torch.tensor(images)) == first
    assert torch.equal(state, torch.get_rng_state())


def test_kid_draws_from_a_sample_and_fid_sees_all(monkeypatch):
    monkeypatch.setattr(distances, "KID_IMAGES", 10)
    images, real = clouds(10, 90)
    prepared = against(real)
    sample = torch.cat(prepared.sample)
    assert sample.shape == (10, 5)
    assert {tuple(row) for row in sample.tolist()} < {tuple(row) for row in real.tolist()}
    found = prepared.to(torch.tensor(images))
    assert found.fid == pytest.approx(frechet(images, real), rel=1e-6)
    assert found.kid == pytest.approx(mmd(images, sample.numpy()), rel=1e-6)


def test_one_image_has_no_distance():
    images, real = clouds(1)
    found = against(real).to(torch.tensor(images))
    assert math.isnan(found.fid) and math.isnan(found.kid) and found.images == 1

"""Representativeness and diversity: values worked out by hand, both forms against plain numpy, chunks of any size."""

import math
from dataclasses import astuple

import numpy as np
import pytest
import torch

from ddlight.analyze.coverage import average, nearest, per_class, spread, unit_length

REAL = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
"""Cosines of (1, 0) to them: 1, 0.6, -1; of (0, 1): 0, 0.8, 0; of (0.6, 0.8): 0.6, 1, -0.6."""


def of(images, real=REAL, **options):
    return spread(images, nearest(images, real, **options), **options)


def test_two_images_by_hand():
    found = of(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert found.rep_minimax == pytest.approx(0.8)  # nearest real ones: 1 and 0.8
    assert found.rep_cov == pytest.approx((1 + 0.8 + 0) / 3)
    assert (found.div_minimax, found.div_mean) == (pytest.approx(1), pytest.approx(1))


def test_three_images_by_hand():
    found = of(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]))
    assert found.rep_minimax == pytest.approx(0.8)
    assert found.rep_cov == pytest.approx((1 + 1 + 0) / 3)
    assert found.div_minimax == pytest.approx(1 - 0.8)  # cosines of pairs: 0, 0.6, 0.8
    assert found.div_mean == pytest.approx(1 - 1.4 / 3)


def test_duplicated_images_have_no_diversity_in_the_minimax_form():
    images = unit_length(torch.randn(9, 5, generator=torch.manual_seed(0)))
    twice = torch.cat([images, images])
    assert of(twice, images).div_minimax == pytest.approx(0, abs=1e-6)
    assert of(images, images).div_minimax > 0.01
    assert of(twice, images).div_mean > 0.1


@pytest.mark.parametrize("pairs", [1, 70, 2**24])
def test_chunks_give_what_plain_matrices_give(pairs):
    rng = np.random.default_rng(1)
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rng.normal(size=(37, 6)), rng.normal(size=(50, 6))))
    images, real = (torch.tensor(x, dtype=torch.float32) for x in (a, b))
    across, within = a @ b.T, (a @ a.T)[~np.eye(37, dtype=bool)]
    near = nearest(images, real, pairs=pairs)
    assert near.where.tolist() == across.argmax(1).tolist()
    np.testing.assert_allclose(near.covered, across.max(0), atol=1e-6)
    found = spread(images, near, pairs=pairs)
    wanted = (across.max(1).min(), 1 - within.max(), across.max(0).mean(), 1 - within.mean())
    np.testing.assert_allclose((found.rep_minimax, found.div_minimax, found.rep_cov, found.div_mean), wanted, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_says_what_the_cpu_says():
    images, real = (unit_length(torch.randn(n, 16, generator=torch.manual_seed(n))) for n in (50, 70))
    labels = [np.arange(n) % 3 for n in (50, 70)]
    here = per_class(images, labels[0], real, labels[1])
    there = per_class(images.cuda(), labels[0], real.cuda(), labels[1])
    np.testing.assert_allclose([astuple(s) for s in here], [astuple(s) for s in there], atol=1e-5)


def test_no_chunk_holds_more_than_it_may(monkeypatch):
    sizes = []
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: sizes.append(len(a) * b.shape[1]) or product(a, b))
    images = torch.nn.functional.normalize(torch.randn(40, 3), dim=1)
    of(images, images[:20], pairs=100)
    assert 40 * 20 > 100 >= max(sizes)


def test_classes_are_taken_alone_and_averaged():
    images = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    real = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    found = per_class(images, np.array([0, 0, 2]), real, np.array([0, 1, 2]))
    assert len(found) == 2  # class 1 has no image in the set
    first, last = found
    assert first.rep_minimax == pytest.approx(0.6) and first.div_minimax == pytest.approx(0.4)
    assert last.rep_minimax == pytest.approx(0) and math.isnan(last.div_minimax) and math.isnan(last.div_mean)
    mean = average(found)
    assert mean.rep_minimax == pytest.approx(0.3) and mean.rep_cov == pytest.approx(0.5)
    assert mean.div_minimax == pytest.approx(0.4) and mean.div_mean == pytest.approx(0.4)
    assert all(map(math.isnan, (average([last]).div_mean, average([]).rep_cov)))


def test_lengths_do_not_matter_and_zero_vectors_stay():
    found = unit_length(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]], atol=1e-7)

"""DifficultyGuided: the transform, the trimming, remainders, and histograms that are met."""

import math

import numpy as np
import pytest
import torch

from ddlight.core.errors import DataError, UsageError
from ddlight.data import Digits
from ddlight.methods.generative.difficulty_guided import (
    DifficultyGuided,
    divergence,
    histogram,
    matched,
    scaled,
    transformed,
    trimming,
)
from ddlight.methods.generative.dit import DiT


def test_the_transform_is_the_published_one():
    d = np.array([0.5, 0.0, 0.02, 0.9, 0.1, 0.3])
    low, high = 0.02, 0.5  # second smallest and second largest
    expected = [max(math.log(min(max(x, low), high) / low) / math.log(high / low), 1e-4) for x in d]
    np.testing.assert_allclose(transformed(d, 1, 1), expected)
    assert transformed(d, 0, 0)[1] == 1e-4  # a smallest of 0 counts as 1e-4
    np.testing.assert_array_equal(transformed(np.full(4, 0.3), 0, 0), np.ones(4))


def test_the_trimming_is_the_best_of_all_by_hand():
    pool = np.random.default_rng(0).beta(0.3, 3, 50).round(4)

    def kl(p, q):
        p, q = (p + 0.5) / (p + 0.5).sum(), (q + 0.5) / (q + 0.5).sum()
        return sum(a * math.log2(a / b) for a, b in zip(p, q, strict=True))

    costs = {}
    for b in range(5):
        for t in range(5):
            own = histogram(transformed(pool, b, t))
            costs[b, t] = 0.5 * kl(histogram(pool), own) + 0.5 * kl(np.ones(10), own)
    assert trimming(pool, 10, 0.5) == min(costs, key=costs.get)


def test_without_smoothing_an_empty_bin_makes_every_trimming_as_bad():
    pool = np.array([0.0001, 0.0001, 0.0002, 0.9, 0.99])
    assert divergence(np.ones(10), histogram(pool), 0.0) == math.inf
    assert trimming(pool, 10, 0.0) == (0, 0)
    assert math.isfinite(divergence(np.ones(10), histogram(pool), 0.5))


def test_counts_are_scaled_by_largest_remainders():
    assert scaled(np.array([10, 10, 10, 0]), 10).tolist() == [4, 3, 3, 0]
    assert scaled(np.array([7, 2, 1]), 4).tolist() == [3, 1, 0]


def test_the_histogram_is_met_and_what_a_bin_lacks_comes_from_the_rest():
    pool = np.array([0.05, 0.06, 0.07, 0.55, 0.95, 1.0])
    wanted = np.zeros(10, np.int64)
    wanted[0], wanted[5], wanted[9] = 2, 1, 1
    chosen = matched(pool, wanted, np.random.default_rng(0))
    np.testing.assert_array_equal(histogram(pool[chosen]), wanted)
    wanted[5], wanted[0] = 3, 0
    chosen = matched(pool, wanted, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 4 and 3 in chosen
    draws = {tuple(matched(pool, np.array([1] + [0] * 9), np.random.default_rng(k))) for k in range(20)}
    assert draws == {(0,), (1,), (2,)}


class Bright:
    """A teacher that finds dark images hard: p of every class is the mean pixel."""

    name = "bright"

    def load(self, *shape):
        pass

    def fingerprint(self):
        return "bright"

    def logits(self, images):
        p = images.mean((1, 2, 3)).clamp(1e-4, 1 - 1e-4)
        return torch.stack([p.logit(), torch.zeros_like(p)], 1).repeat(1, 5)[:, :10] - 2


def test_chosen_images_are_of_the_pool_and_difficulty_is_what_the_teacher_misses(build, home):
    folder, digits = build(DiT, ipc=6).condense(), Digits(size=8)
    data = DifficultyGuided(digits, ipc=3, cache=str(home), pool=str(folder), teacher=Bright())
    pixels = digits.split("train").images[:5]
    expected = [1 - float(Bright().logits(torch.from_numpy(p[None]).float() / 255).softmax(1)[0, 0]) for p in pixels]
    np.testing.assert_allclose(data.difficulties(pixels, 0), expected, atol=1e-4)
    made = data.make(data.units()[3])
    held = data.pooled.images[data.pooled.labels == 3]
    assert all(any((image == other).all() for other in held) for image in made.images)
    assert len(np.unique(made.images.reshape(3, -1), axis=0)) == 3
    np.testing.assert_array_equal(data.make(data.units()[3]).images, made.images)


def test_a_pool_that_is_too_small_or_no_pictures_is_refused(build, home):
    folder = build(DiT, ipc=2).condense()
    data = DifficultyGuided(Digits(size=8), ipc=3, cache=str(home), pool=str(folder), teacher=Bright())
    with pytest.raises(DataError, match="fewer than ipc=3"):
        _ = data.pooled
    with pytest.raises(UsageError, match="needs a teacher"):
        _ = DifficultyGuided(Digits(size=8), pool=str(folder)).all_teachers


def test_difficulties_of_a_file_are_between_0_and_1(build, home):
    folder, ids = build(DiT, ipc=4).condense(), Digits(size=8).index("train").ids
    file, values = home / "d.csv", np.linspace(0, 1, len(ids))
    file.write_text("id,d\n" + "".join(f"{name},{v}\n" for name, v in zip(ids, values, strict=True)))
    options = {"pool": str(folder), "teacher": Bright(), "scores": str(file), "column": "d"}
    data = DifficultyGuided(Digits(size=8), ipc=2, cache=str(home), **options)
    rows = np.flatnonzero(Digits(size=8).index("train").labels == 5)
    np.testing.assert_allclose(data.real_difficulties(5), values[rows])
    file.write_text(file.read_text().replace(f"{ids[0]},0.0", f"{ids[0]},7"))
    data = DifficultyGuided(Digits(size=8), ipc=2, cache=str(home), **options)
    with pytest.raises(DataError, match="allowed: 0 to 1"):
        data.real_difficulties(5)


def test_difficulties_of_a_file_are_read_once_and_of_these_images(home):
    train = Digits(size=8).index("train")
    file, values = home / "d.npz", np.linspace(0, 1, len(train))
    np.savez(file, d=values, labels=train.labels)
    options = {"cache": str(home), "teacher": Bright(), "scores": str(file)}
    data = DifficultyGuided(Digits(size=8), ipc=2, **options)
    assert data.real_difficulties(3).tolist() == values[train.labels == 3].tolist()
    file.unlink()
    assert data.real_difficulties(4).tolist() == values[train.labels == 4].tolist()
    np.savez(file, d=values, labels=(train.labels + 1) % 10)
    with pytest.raises(DataError, match="its images are in another order"):
        DifficultyGuided(Digits(size=8), ipc=2, **options).real_difficulties(3)

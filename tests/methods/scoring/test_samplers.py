"""Samplers against their definitions, written out again here in plain Python."""

import numpy as np
import pytest

from ddlight.core.errors import DataError, UsageError
from ddlight.methods.scores import dual
from ddlight.methods.scores.ccs import allocate, ccs, easiest_share
from ddlight.methods.scores.dual import beta, weighted
from ddlight.methods.scores.moderate import middle
from ddlight.methods.scoring import samplers


def rng(seed=0):
    return np.random.default_rng(seed)


def test_hard_and_easy_are_the_two_ends():
    difficulty = np.array([0.3, 0.9, 0.1, 0.7, 0.5])
    assert samplers.hard(difficulty, 2, rng()).tolist() == [1, 3]
    assert samplers.easy(difficulty, 2, rng()).tolist() == [2, 0]


def test_smaller_sets_are_prefixes_of_larger_ones():
    difficulty = rng(1).integers(0, 5, 40).astype(float)
    for sampler in (samplers.hard, samplers.easy):
        assert sampler(difficulty, 30, rng(2))[:10].tolist() == sampler(difficulty, 10, rng(2)).tolist()


def test_ties_are_drawn_and_do_not_follow_the_order_of_files():
    picks = [frozenset(samplers.hard(np.zeros(20), 5, rng(seed)).tolist()) for seed in range(30)]
    counts = np.bincount([i for pick in picks for i in pick], minlength=20)
    assert counts.min() > 0
    assert len(set(picks)) > 20


@pytest.mark.parametrize(("n", "count"), [(20, 6), (21, 6), (20, 5), (7, 7), (9, 1)])
def test_the_middle_is_around_the_median_and_goes_outwards(n, count):
    difficulty = rng(4).random(n)
    ranks = np.argsort(np.argsort(-difficulty))
    found = ranks[middle(difficulty, count, rng())]
    distances = [abs(rank - np.mean(found)) for rank in found.tolist()]
    assert len(set(found)) == count and max(found) - min(found) == count - 1
    assert distances == sorted(distances)
    assert (n - 1 - max(found)) - min(found) == (n - count) % 2


def test_windows_end_where_hard_easy_and_moderate_begin():
    difficulty = rng(3).random(20)
    order = np.argsort(-difficulty)
    assert samplers.window(difficulty, 6, 0, rng()).tolist() == samplers.hard(difficulty, 6, rng()).tolist()
    assert set(samplers.window(difficulty, 6, 14, rng())) == set(samplers.easy(difficulty, 6, rng()))
    assert samplers.window(difficulty, 6, 7, rng()).tolist() == order[7:13].tolist()
    with pytest.raises(UsageError, match="offsets: 0 to 14"):
        samplers.window(difficulty, 6, 15, rng())


def released_allocation(sizes, budget):
    """The loop of the CCS authors' code on the sizes of strata."""
    budgets, rest = [0] * len(sizes), budget
    for done, i in enumerate(sorted(range(len(sizes)), key=lambda s: sizes[s])):
        budgets[i] = min(sizes[i], rest // (len(sizes) - done))
        rest -= budgets[i]
    return budgets


@pytest.mark.parametrize("seed", range(40))
def test_ccs_draws_exactly_the_budget_after_dropping_the_hardest(seed):
    draw = rng(seed)
    n, bins = int(draw.integers(20, 200)), int(draw.integers(1, 60))
    cutoff = float(draw.choice([0.0, 0.1, 0.35]))
    difficulty = np.round(draw.normal(size=n) ** 3, 1) - 5  # negative, skewed, with ties
    count = int(draw.integers(1, n - int(cutoff * n) + 1))
    picked = ccs(difficulty, count, rng(seed), cutoff, bins)
    assert len(set(picked.tolist())) == count
    dropped = int(cutoff * n)
    if dropped:
        limit = np.sort(difficulty)[n - dropped]
        assert difficulty[picked].max() <= limit
    assert picked.tolist() == ccs(difficulty, count, rng(seed), cutoff, bins).tolist()


def test_ccs_takes_from_each_stratum_what_the_released_allocation_says():
    difficulty = np.concatenate([np.full(3, 0.05), np.full(40, 0.15), np.full(7, 0.55), np.full(50, 0.95), [0.0, 1.0]])
    picked = ccs(difficulty, 30, rng(), bins=10)
    place = np.minimum((difficulty * 10).astype(int), 9)
    sizes = [int((place == b).sum()) for b in range(10) if (place == b).any()]
    taken = [int((place[picked] == b).sum()) for b in range(10) if (place == b).any()]
    assert taken == released_allocation(sizes, 30)
    assert allocate(sizes, 30) == released_allocation(sizes, 30)


def test_ccs_with_fewer_images_than_strata_takes_the_fullest_or_spreads_evenly():
    difficulty = np.concatenate([np.linspace(0, 0.5, 90), np.linspace(0.5, 1, 10)])
    dense = ccs(difficulty, 4, rng(), bins=20)
    spread = ccs(difficulty, 4, rng(), bins=20, even=True)
    assert difficulty[dense].max() <= 0.56
    assert np.sort(np.floor(difficulty[spread] * 4)).tolist() in ([0, 1, 2, 3], [0, 1, 2, 4])


def test_ccs_keeps_the_hardest_where_all_scores_are_negative():
    picked = ccs(np.array([-3.0, -2.0, -1.0]), 3, rng(), bins=3)
    assert sorted(picked.tolist()) == [0, 1, 2]


def test_ccs_of_constant_scores_is_a_uniform_draw():
    counts = np.zeros(10)
    for seed in range(300):
        counts[ccs(np.ones(10), 3, rng(seed))] += 1
    assert counts.min() > 60 and counts.max() < 120


def test_ccs_drops_by_another_score_where_one_is_given():
    difficulty, by = np.arange(10.0), -np.arange(10.0)
    assert ccs(difficulty, 8, rng(), 0.2, prune_by=by).min() == 2


@pytest.mark.parametrize(("cutoff", "dropped"), [(0.0, 0), (0.09, 0), (0.1, 1), (0.35, 3), (0.38, 3), (0.4, 4)])
def test_a_cutoff_drops_whole_images_and_never_more_than_its_share(cutoff, dropped):
    left = easiest_share(np.arange(10.0), 1, rng(), cutoff)
    assert left.tolist() == list(range(9 - dropped, -1, -1))


def test_a_cutoff_that_leaves_too_few_is_refused_with_the_largest_allowed():
    with pytest.raises(UsageError, match=r"0 to 0\.400"):
        ccs(np.arange(10.0), 6, rng(), cutoff=0.5)


def test_beta_moves_to_easy_images_as_less_is_kept():
    mean = np.linspace(0.02, 0.98, 400)
    difficulty = np.ones(400)
    kept = [mean[beta(difficulty, mean, 40, rng(5), share, 4.0)].mean() for share in (0.9, 0.5, 0.1)]
    assert kept[0] < kept[1] < kept[2]


def test_beta_weights_are_the_density_times_the_score():
    from math import gamma

    mean, difficulty = np.array([0.2, 0.5, 0.8]), np.array([1.0, 2.0, 1.0])
    anchor, kept, c_d = mean.mean(), 1 / 3, 4.0
    b = 15 * (1 - anchor) * (1 - (1 - kept) ** c_d)
    a = 16 - b
    density = gamma(16) / gamma(a) / gamma(b) * mean ** (a - 1) * (1 - mean) ** (b - 1)
    expected = density * difficulty / (density * difficulty).sum()
    firsts = [int(beta(difficulty, mean, 1, rng(seed), kept, c_d)[0]) for seed in range(4000)]
    np.testing.assert_allclose(np.bincount(firsts, minlength=3) / 4000, expected, atol=0.025)


def test_betas_mode_comes_from_the_ten_images_of_highest_score(monkeypatch):
    from math import lgamma

    mean, difficulty = rng(1).uniform(0.1, 0.9, 40), rng(2).permutation(40) + 1.0
    mean[difficulty > 30] = np.linspace(0.1, 0.3, 10)  # what the eleventh says is far from what these say
    monkeypatch.setattr(dual, "weighted", lambda weights, count, draw: weights)
    found = beta(difficulty, mean, 4, rng(), 0.1, 4.0)
    b = 15 * (1 - 0.2) * (1 - 0.9**4)
    a = 16 - b
    scale = lgamma(16) - lgamma(a) - lgamma(b)
    density = np.exp(scale + (a - 1) * np.log(mean) + (b - 1) * np.log(1 - mean))
    np.testing.assert_allclose(found, density * difficulty, rtol=1e-9)


def test_rows_of_weight_zero_come_last():
    picked = weighted(np.array([0.0, 1.0, 0.0, 2.0]), 3, rng())
    assert set(picked[:2].tolist()) == {1, 3}


def labels_of(sizes):
    return np.repeat(np.arange(len(sizes)), sizes)


def test_balances_share_the_total_as_they_say():
    labels = labels_of([10, 40, 50])
    difficulty = np.arange(100.0)

    def choose(rows, count, draw):
        return rows[samplers.hard(difficulty[rows], count, draw)]

    def counts(balance, ipc):
        picked = samplers.balanced(choose, labels, ipc, balance, rng())
        assert len(set(picked.tolist())) == 3 * ipc
        return np.bincount(labels[picked], minlength=3).tolist()

    assert counts("none", 10) == [0, 0, 30]
    assert counts("proportional", 10) == [3, 12, 15]
    assert counts("floor", 10) == [5, 5, 20]
    assert counts("floor", 25) == [10, 15, 50]
    assert counts("floor", 5) == [3, 3, 9]  # half of an odd share is rounded up


def test_proportional_shares_add_up_to_the_total():
    for seed in range(50):
        sizes = rng(seed).integers(1, 30, 7)
        total = int(rng(seed + 1).integers(1, sizes.sum()))
        shares = samplers.proportional(sizes, total)
        assert shares.sum() == total and (shares <= sizes).all()
        assert np.abs(shares - sizes * total / sizes.sum()).max() < 1


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(DataError, match="2 of 4 scores"):
        samplers.require_finite(np.array([1.0, np.nan, np.inf, 0.0]), "scores")

import math
import time
import warnings

import numpy as np
import pytest
from scipy import stats

from ddlight.report.statistics import Moments, Sample, confidence, hedges_g, holm, judge, welch

RNG_SEED = 20260131


def independent_holm(p):
    """Step-down by its definition: the k-th smallest of m is multiplied by m - k, never below an earlier one."""
    m, adjusted = len(p), [0.0] * len(p)
    largest = 0.0
    for k, index in enumerate(sorted(range(m), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (m - k) * p[index]))
        adjusted[index] = largest
    return adjusted


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 5), (5, 3), (10, 4)])
def test_welch_is_scipys(n, m):
    rng = np.random.default_rng([RNG_SEED, n, m])
    a, b = [rng.normal(60, 1, n) for _ in range(4)], [rng.normal(61, 3, m) for _ in range(4)]
    expected = [stats.ttest_ind(x, y, equal_var=False).pvalue for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(welch(Moments.of(a), Moments.of(b)), expected, rtol=1e-10)


def test_welch_by_hand():
    # a: mean 2, var 1, n 3; b: mean 5, var 4, n 3. se^2 = 5/3, t = -3/sqrt(5/3), df = (5/3)^2/((1/9+16/9)/2)
    t, df = 3 / math.sqrt(5 / 3), (25 / 9) / (17 / 18)
    p = welch(Moments.of([[1, 2, 3]]), Moments.of([[3, 5, 7]]))
    assert p[0] == pytest.approx(2 * stats.t.sf(t, df), rel=1e-12)


@pytest.mark.parametrize(("a", "b", "p"), [([5, 5], [5, 5, 5], 1.0), ([5, 5], [6, 6], 0.0)])
def test_welch_without_spread_is_no_nan(a, b, p):
    assert welch(Moments.of([a]), Moments.of([b]))[0] == p


def test_welch_needs_two_of_each():
    assert np.isnan(welch(Moments.of([[5.0]]), Moments.of([[5.0, 6.0]]))[0])


def test_resolution_is_the_least_spread():
    same = Moments.of([[10.0, 10.0, 10.0]], [0.1])
    assert same.var[0] == pytest.approx(0.01 / 12)
    spread = Moments.of([[10.0, 11.0, 12.0]], [0.1])
    assert spread.var[0] == pytest.approx(1.0)
    assert np.isnan(Moments.of([[10.0]], [0.1]).var[0])


def test_holm_is_its_definition():
    rng = np.random.default_rng(RNG_SEED)
    for _ in range(50):
        p = rng.uniform(0, 0.2, rng.integers(1, 12)).round(2).tolist()
        np.testing.assert_allclose(holm(p), independent_holm(p))
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])


def test_holm_leaves_out_what_was_not_tested():
    np.testing.assert_allclose(holm([math.nan, 0.02, math.nan, 0.01]), [math.nan, 0.02, math.nan, 0.02])
    assert holm([]).size == 0


def test_hedges_g_is_cohens_d_corrected():
    a, b = [61.0, 62.5, 63.0, 60.0], [59.0, 60.0, 60.5]
    pooled = math.sqrt((3 * np.var(a, ddof=1) + 2 * np.var(b, ddof=1)) / 5)
    correction = math.gamma(5 / 2) / (math.sqrt(5 / 2) * math.gamma(4 / 2))
    g = hedges_g(Moments.of([a]), Moments.of([b]))[0]
    assert g == pytest.approx((np.mean(a) - np.mean(b)) / pooled * correction, rel=1e-12)
    assert correction == pytest.approx(1 - 3 / (4 * 5 - 1), rel=2e-3)
    assert hedges_g(Moments.of([[5, 5]]), Moments.of([[5, 5]]))[0] == 0.0


def test_confidence_is_scipys():
    values = [60.0, 61.5, 59.0, 62.0]
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert confidence(values) == pytest.approx(expected, rel=1e-12)
    assert confidence([60.0]) is None
    assert confidence([60.0, 60.0]) == (60.0, 60.0)


def columns_of(random, **methods):
    return [Sample("c", "Random", random), *(Sample("c", name, values) for name, values in methods.items())]


def by_method(samples):
    return dict(zip([s.method for s in samples], judge(samples), strict=True))


def test_verdicts_are_independent_computations():
    random, a, b, c = [60.0, 61.0, 60.5], [63.0, 64.0, 63.4], [60.2, 61.1, 60.0], [55.0, 57.0, 56.0]
    verdicts = by_method(columns_of(random, A=a, B=b, C=c))
    p = [stats.ttest_ind(x, random, equal_var=False).pvalue for x in (a, b, c)]
    assert [verdicts[m].p for m in "ABC"] == pytest.approx(p)
    assert [verdicts[m].p_holm for m in "ABC"] == pytest.approx(independent_holm(p))
    assert [verdicts[m].effect for m in "ABC"] == pytest.approx([np.mean(x) - np.mean(random) for x in (a, b, c)])
    assert [verdicts[m].above_random for m in "ABC"] == [True, False, False]
    assert verdicts["C"].p_holm < 0.05, "significantly below random is no dagger"
    assert verdicts["Random"].p is None
    assert [m for m, v in verdicts.items() if v.best] == ["A"]


def test_the_best_and_what_is_tied_with_it():
    best, tied, below, one = [70.0, 72.0, 71.0], [70.5, 71.5, 69.0], [60.0, 60.2, 60.1], [75.0]
    verdicts = by_method(
        columns_of([50.0, 50.5, 51.0], Best=best, Tied=tied, Below=below, One=one, FullData=[90, 91, 92])
    )
    assert [m for m, v in verdicts.items() if v.best] == ["Best", "Tied"]


def test_two_sets_are_not_called_best():
    verdicts = by_method(columns_of([50.0, 50.5, 51.0], A=[60.0, 61.0, 62.0], Two=[80.0, 81.0]))
    assert [m for m, v in verdicts.items() if v.best] == ["A"]
    assert verdicts["Two"].above_random, "it is tested all the same"


def test_holm_runs_over_the_whole_table():
    a, random = [63.0, 64.0, 63.4], [60.0, 61.0, 60.5]
    alone = by_method(columns_of(random, A=a))["A"]
    noise = [Sample(k, m, [60.0, 61.0, 60.2]) for k in range(9) for m in ("Random", "A")]
    among = judge([*columns_of(random, A=a), *noise])[1]
    assert among.p == alone.p
    assert among.p_holm == pytest.approx(10 * alone.p)


def test_one_set_is_not_tested():
    verdicts = by_method(columns_of([60.0, 60.1, 60.2], One=[99.0]))
    assert (verdicts["One"].p, verdicts["One"].p_holm, verdicts["One"].hedges_g) == (None, None, None)
    assert verdicts["One"].effect == pytest.approx(38.9)
    assert not verdicts["One"].above_random
    assert not verdicts["One"].best


def test_equal_readings_give_no_nan_and_no_warning():
    samples = [
        Sample("c", "Random", [10.0, 10.0, 10.0], step=0.01),
        Sample("c", "Same", [10.0, 10.0, 10.0], step=0.01),
        Sample("c", "Other", [80.0, 80.0, 80.0], step=0.01),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verdicts = by_method(samples)
    assert (verdicts["Same"].p, verdicts["Same"].hedges_g, verdicts["Same"].above_random) == (1.0, 0.0, False)
    assert 0 < verdicts["Other"].p < 1e-6
    assert math.isfinite(verdicts["Other"].hedges_g)
    assert verdicts["Other"].above_random


def test_other_compute_is_not_compared():
    samples = [
        Sample("c", "Random", [60.0, 60.1, 60.2], images_seen=10_000),
        Sample("c", "Same", [70.0, 70.1, 70.2], images_seen=10_100),
        Sample("c", "More", [80.0, 80.1, 80.2], images_seen=10_101),
    ]
    verdicts = by_method(samples)
    assert verdicts["Same"].above_random
    assert verdicts["Same"].best
    assert not verdicts["More"].equal_compute
    assert verdicts["More"].p is None
    assert not verdicts["More"].best


def test_the_random_of_the_same_context_is_the_reference():
    samples = [
        Sample("c", "Random", [60.0, 60.1, 60.2], context="lr=0.1"),
        Sample("c", "Random", [50.0, 50.1, 50.2], context="lr=1"),
        Sample("c", "A", [55.0, 55.1, 55.2], context="lr=1"),
        Sample("c", "B", [55.0, 55.1, 55.2], context="lr=7"),
    ]
    verdicts = judge(samples)
    assert verdicts[2].effect == pytest.approx(5)
    assert verdicts[3].effect == pytest.approx(-5), "without one, the better Random"


def test_no_random_no_test():
    verdicts = judge([Sample("c", "A", [60.0, 61.0, 62.0]), Sample("d", "Random", [1.0, 2.0])])
    assert (verdicts[0].p, verdicts[0].effect) == (None, None)
    assert not verdicts[0].best, "there is nothing that it is better than"


def null_study(rng, n, shift=0.0):
    """Six methods at two sizes; one, "Good", lies `shift` standard deviations above random."""
    names = ["Random", "Good", "A", "B", "C", "D", "E"]
    return [
        Sample(ipc, m, (60 + rng.normal(shift if m == "Good" else 0, 1, n)).round(2), step=0.01)
        for ipc in (10, 50)
        for m in names
    ]


@pytest.mark.parametrize("n", [3, 5])
def test_methods_equal_to_random_get_no_dagger(n):
    rng = np.random.default_rng([RNG_SEED, n])
    start = time.process_time()
    marked = [any(v.above_random for v in judge(null_study(rng, n))) for _ in range(400)]
    assert np.mean(marked) <= 0.05
    assert np.mean(marked) > 0, "a test that can never mark would pass too"
    assert time.process_time() - start < 5


def test_a_method_far_above_random_gets_the_dagger():
    rng = np.random.default_rng(RNG_SEED)
    found = np.array(
        [[judge(s)[i].above_random for i in (1, 8)] for s in (null_study(rng, 5, 5.0) for _ in range(100))]
    )
    assert found.mean() > 0.95

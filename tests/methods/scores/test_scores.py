"""Scores from a table, against their definitions."""

from importlib import import_module

import numpy as np
import pytest

from ddlight.core import discover
from ddlight.core.errors import DataError, UsageError
from ddlight.data import Digits
from ddlight.methods.scores.aum import aum
from ddlight.methods.scores.cad_prune import cad
from ddlight.methods.scores.ccs import SCORES
from ddlight.methods.scores.dyn_unc import dyn_unc
from ddlight.methods.scores.el2n import el2n, reading
from ddlight.methods.scores.forgetting import forgetting
from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scores.tdds import tdds
from ddlight.methods.scoring.run import Scoring
from ddlight.methods.scoring.table import ScoreTable
from ddlight.networks.students import MLP
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.sets import store


def table(**columns):
    count = next(iter(columns.values())).shape[-1]
    named = {name.replace("__", "."): np.asarray(value, np.float32) for name, value in columns.items()}
    return ScoreTable(np.array([f"train/{i}" for i in range(count)]), named, {}, "here")


def test_never_learned_images_rank_hardest_or_as_other_codes_have_them():
    found = table(
        train__forgetting=np.array([0, 0, 3, 1]), train__learned=np.array([0, 1, 1, 1]), train__seen=np.full(4, 20)
    )
    assert forgetting(found).tolist() == [20, 0, 3, 1]
    assert forgetting(found, "zero").tolist() == [0, 0, 3, 1]


def test_aum_is_turned_round_so_that_larger_is_harder():
    found = table(train__aum_prob=np.array([0.9, -0.5]), train__aum_logit=np.array([2.0, 3.0]))
    np.testing.assert_allclose(aum(found), [-0.9, 0.5])
    assert aum(found, "logit").tolist() == [-2.0, -3.0]


@pytest.mark.parametrize(("at", "row"), [(0.1, 0), (0.05, 0), (0.11, 1), (0.2, 1), (1.0, 9), (0.3, 2)])
def test_clean_el2n_reads_the_first_pass_at_or_after_a_fraction(at, row):
    found = table(clean__el2n=np.arange(10.0)[:, None].repeat(2, 1))
    assert el2n(found, "clean", at).tolist() == [row, row]


def test_a_fraction_beyond_the_run_is_refused():
    with pytest.raises(UsageError, match="at most 1"):
        reading(10, 1.5)


CAD_WINDOWS = [  # K, J, W, and the readings of each window, the first reading being number 0
    (9, 6, 2, [[1, 2, 3, 4, 5, 6], [2, 3, 4, 5, 6, 7]]),
    (8, 6, 2, [[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]]),
    (30, 6, 2, [[22, 23, 24, 25, 26, 27], [23, 24, 25, 26, 27, 28]]),
    (7, 3, 1, [[3, 4, 5]]),
    (7, 2, 3, [[2, 3], [3, 4], [4, 5]]),
]


@pytest.mark.parametrize(("k", "j", "w", "windows"), CAD_WINDOWS)
def test_cad_averages_the_windows_of_the_papers_indices(k, j, w, windows):
    history = np.random.default_rng(0).random((k, 5))
    spreads = [history[readings].std(0, ddof=1) for readings in windows]
    np.testing.assert_allclose(cad(history, j, w), np.mean(spreads, 0))
    later = [history[np.add(readings, 1)].std(0, ddof=1) for readings in windows]
    np.testing.assert_allclose(cad(history, j, w, include_last=True), np.mean(later, 0))


def test_cad_needs_j_plus_w_readings():
    with pytest.raises(UsageError, match="J = 6 and W = 2 need 8 readings; there are 7"):
        cad(np.zeros((7, 3)), 6, 2)


@pytest.mark.parametrize(("passes", "window", "decay"), [(10, 5, 0.9), (10, 10, 0.9), (8, 3, 0.5), (5, 4, 1.0)])
def test_tdds_is_the_moving_average_over_windows_of_how_uneven_changes_are(passes, window, decay):
    history = np.random.default_rng(2).random((9, 4)).astype(np.float32)
    average = np.zeros(4)
    for k in range(passes - window + 1):
        inside = history[k : k + window - 1].astype(np.float64)
        uneven = np.sqrt(sum((row - sum(inside) / len(inside)) ** 2 for row in inside))
        average = (1 - decay) * average + decay * uneven
    np.testing.assert_allclose(tdds(table(train__change=history), passes, window, decay), average, rtol=1e-9)


def test_tdds_looks_at_every_window_and_most_at_the_last():
    history = np.zeros((9, 3), np.float32)
    history[8, 0] = history[4, 1] = history[0, 2] = 1
    late, middle, early = tdds(table(train__change=history), 10, 5, 0.9)
    assert late > middle > early > 0
    length = np.sqrt(3 / 4)  # of a one among four numbers, less their mean
    assert late == pytest.approx(0.9 * length)
    assert early == pytest.approx(0.9 * 0.1**5 * length)
    assert middle == pytest.approx(0.9 * length * (0.1 + 0.01 + 0.001 + 0.0001))


def test_tdds_of_more_passes_than_were_recorded_is_refused():
    with pytest.raises(UsageError, match=r"changes of 4 passes, and T = 10.*--data.passes=4"):
        tdds(table(train__change=np.zeros((3, 2))), 10, 5)


def test_dyn_unc_of_clean_passes_leaves_the_last_out():
    history = np.random.default_rng(1).random((6, 4)).astype(np.float32)
    found = table(clean__prob_true=history)
    expected = np.mean([history[k : k + 3].std(0, ddof=1) for k in range(3)], 0)
    np.testing.assert_allclose(dyn_unc(found, "clean", 3), expected, rtol=1e-5)


def test_a_missing_column_is_named_with_what_there_is():
    with pytest.raises(UsageError, match=r"no column 'train.dual'.*clean.el2n"):
        SCORES["dual"](table(clean__el2n=np.zeros((1, 2))))


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(DataError, match="1 of 2 scores are not finite"):
        SCORES["entropy"](table(clean__entropy=np.array([np.nan, 1.0])))


# --- a score of one's own ---


class LateLearned(ScoreSelector):
    """The images of each class whose own probability is smallest on average over training."""

    def difficulty(self, table):
        """Minus the mean probability: (N,)."""
        return -table["train.prob_true"]


def test_a_score_is_all_that_a_new_coreset_says(tmp_path):
    how = Scoring(MLP(8, 1), recipe=Override(batch=500), budget=Budget(steps=4), ring=2, dual=2, clean=0)
    data = LateLearned(Digits(size=8), ipc=2, cache=str(tmp_path), scoring=how)
    rows, _ = store.read_selection(data.condense())
    labels, probability = data.dataset.index("train").labels, data.table["train.prob_true"]
    for c in range(10):
        own = np.flatnonzero(labels == c)
        assert set(rows[labels[rows] == c]) == set(own[np.argsort(probability[own])[:2]])
    for balance in ("proportional", "floor", "none"):
        other = LateLearned(Digits(size=8), ipc=2, cache=str(tmp_path), scoring=how, balance=balance, keep="easy")
        assert len(store.read_selection(other.condense())[0]) == 20


METHODS = [e for e in discover.methods() if e.family in ("scores", "geometry")]


@pytest.mark.parametrize("entry", METHODS, ids=lambda entry: entry.name)
def test_a_selector_stands_on_three_classes_of_ours(entry):
    kind = getattr(import_module(entry.module), entry.name)
    ours = [base for base in kind.__mro__ if base.__module__.startswith("ddlight.")]
    assert len(ours) <= 4
    assert all(len(base.__bases__) == 1 for base in ours)


def test_the_end_of_the_ranking_is_no_option_of_what_does_not_take_one(command):
    for name in ("CCS", "CADPrune", "EL2NBest", "D2", "Moderate"):
        answer = command("condense", f"--data={name}", "--data.dataset=Digits", "--data.keep=easy")
        assert answer.code == 2
        assert f"{name} has no option 'keep'" in answer.err and "keep" not in answer.err.split("Its options")[1]

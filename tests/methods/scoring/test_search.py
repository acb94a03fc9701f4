"""Settings chosen on held-out data: each trial once, the best kept, never the test split."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ddlight.core.errors import UsageError
from ddlight.data import Digits
from ddlight.methods.scores.ccs import CCS
from ddlight.methods.scores.el2n_best import EL2NBest
from ddlight.methods.scoring import search as module
from ddlight.methods.scoring.run import Scoring
from ddlight.methods.scoring.search import Search
from ddlight.networks.students import ConvNet
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.sets import store

TINY = Scoring(ConvNet(3, 8), recipe=Override(batch=400), budget=Budget(steps=4), ring=2, dual=2, clean=2)
SEARCH = Search(ConvNet(3, 8), budget=Budget(steps=2))


@pytest.fixture
def data():
    torch.set_num_threads(1)
    return Digits(size=32, held_out=4)


def best(data, home, **options):
    own = {"ipc": 3, "cache": str(home / "c"), "scoring": TINY, "search": SEARCH, "offsets": (0.0, 0.5, 1.0)}
    return EL2NBest(data, **{**own, **options})


@pytest.fixture
def accuracies(monkeypatch):
    """Let trials answer at once; give back which were made."""
    made, answers = [], {}

    def trial(how, candidate, seed, run):
        made.append((candidate.offsets[0], seed))
        return {"set": candidate.fingerprint, "acc": answers[candidate.offsets[0]](seed), "images": 10, "seconds": 1.0}

    monkeypatch.setattr(module, "_trial", trial)
    return made, answers


def test_the_window_with_the_best_mean_over_trials_is_taken(data, home, accuracies):
    made, answers = accuracies
    answers.update({0.0: lambda s: 50.0, 0.5: lambda s: 90.0 if s else 40.0, 1.0: lambda s: 60.0})
    method = best(data, home, search=replace(SEARCH, trials=2))
    indices, _ = store.read_selection(method.condense())
    assert method.chosen == 0.5
    assert sorted(made) == [(o, s) for o in (0.0, 0.5, 1.0) for s in (0, 1000)]
    labels, el2n = data.index("train").labels, method.scores
    rows = np.flatnonzero(labels == 7)
    begin = int((len(rows) - 3) * 0.5)
    assert indices[labels[indices] == 7].tolist() == rows[np.argsort(-el2n[rows])][begin : begin + 3].tolist()
    manifest = json.loads((method.folder / "manifest.json").read_text())
    assert manifest["selected_on"] == "held_out"
    assert manifest["search"]["acc"] == [50.0, 65.0, 60.0] and manifest["search"]["images"] == 60


def test_a_stopped_search_makes_only_what_is_missing(data, home, accuracies):
    made, answers = accuracies
    answers.update({0.0: lambda s: 1.0, 0.5: lambda s: 1 / 0, 1.0: lambda s: 3.0})
    with pytest.raises(ZeroDivisionError):
        best(data, home).condense()
    answers[0.5] = lambda s: 2.0
    method = best(data, home)
    method.condense()
    assert [offset for offset, _ in made].count(0.0) == 1
    assert method.chosen == 1.0


@pytest.mark.parametrize(("unit", "begin"), [("slack", 0.25), ("class", 0.25), ("ipc", 0.4)])
def test_offsets_are_in_their_unit(data, home, unit, begin):
    method = best(data, home, offsets=(begin,), unit=unit)
    indices, _ = store.read_selection(method.condense())
    labels = data.index("train").labels
    rows = np.flatnonzero(labels == 2)
    whole = {"slack": len(rows) - 3, "class": len(rows), "ipc": 3}[unit]
    order = rows[np.argsort(-method.scores[rows])]
    start = int(begin * whole)
    assert indices[labels[indices] == 2].tolist() == order[start : start + 3].tolist()
    assert method.selected_on == "none" and method.searched is None


def test_a_real_search_reads_held_out_images_and_not_the_test_split(data, home, monkeypatch):
    read, take = [], Digits.take
    monkeypatch.setattr(Digits, "take", lambda self, name, rows: read.append(name) or take(self, name, rows))
    method = CCS(data, ipc=3, cache=str(home / "c"), scoring=TINY, search=SEARCH, cutoffs=(0.0, 0.4), bins=5)
    method.condense()
    assert method.searched is not None
    assert len(set(method.searched.choice.acc)) == 2 or method.searched.choice.best == 0
    assert "held_out" in read and "test" not in read
    assert method.searched.choice.images == 2 * 2 * 30
    manifest = json.loads((method.folder / "manifest.json").read_text())
    run = json.loads((method.run.folder / "manifest.json").read_text())
    with FlopCounterMode(display=False) as counter:
        ConvNet(3, 8).build(10, 1, 32)(torch.zeros(1, 1, 32, 32))
    searched = 3 * 120 * counter.get_total_flops()
    assert manifest["flops_scoring"] == pytest.approx(run["flops"] + searched, rel=0.02)
    assert manifest["flops_scoring"] - run["flops"] > 0.9 * searched
    assert manifest["scoring_images"] == run["images_seen"] + run["images_read"] + 120
    assert manifest["scoring_seconds"] == pytest.approx(run["seconds"] + method.searched.choice.seconds)


def test_the_name_of_a_search_follows_what_shapes_it(data, home):
    others = [
        {},
        {"search": replace(SEARCH, trials=2)},
        {"search": replace(SEARCH, student=ConvNet(2, 8))},
        {"offsets": (1.0, 0.5, 0.0)},
        {"seed": 1},
    ]
    found = [best(data, home, **options).searched for options in others]
    assert len({search.fingerprint for search in found}) == 5
    sets = [{candidate.fingerprint for candidate in search.candidates} for search in found]
    assert sets[0] == sets[1] == sets[2] == sets[3] != sets[4]


def test_a_variant_is_the_method_with_its_other_options(data, home):
    whole = CCS(
        data, ipc=3, cache=str(home / "c"), scoring=TINY, search=SEARCH, score="el2n", cutoffs=(0.0, 0.4), bins=5
    )
    first, second = whole.searched.candidates
    assert (first.cutoffs, second.cutoffs) == ((0.0,), (0.4,))
    for one in (first, second):
        assert (one.score, one.bins, one.scoring, one.ipc, one.cache) == ("el2n", 5, TINY, 3, whole.cache)
        assert one.searched is None and one.selected_on == "none"


def test_a_dataset_that_holds_nothing_out_is_refused(home):
    with pytest.raises(UsageError, match="held_out=50"):
        _ = best(Digits(size=32), home).searched.choice

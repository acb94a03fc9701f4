"""TDDS: the run that it asks for, its name, and the images that it takes."""

from dataclasses import replace

import numpy as np
import pytest

from ddlight.core.errors import UsageError
from ddlight.core.naming import named
from ddlight.data import Digits
from ddlight.methods.scores.aum import AUM
from ddlight.methods.scores.tdds import TDDS
from ddlight.methods.scoring.run import Scoring
from ddlight.networks.students import ConvNet
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.sets import store

NET = Scoring(ConvNet(2, 4), recipe=Override(batch=500), budget=Budget(epochs=6), ring=2, clean=0)


def build(home, kind=TDDS, scoring=NET, **options):
    options = {"ipc": 3, "passes": 5, "window": 3, **options} if kind is TDDS else {"ipc": 3}
    return kind(Digits(size=16), cache=str(home / "cache"), scoring=scoring, **options)


def test_the_largest_are_kept_or_the_smallest(home):
    data = build(home)
    indices, _ = store.read_selection(data.condense())
    changes, labels = data.table.columns["train.change"].astype(np.float64), data.dataset.index("train").labels
    assert changes.shape == (4, 1438) and (changes > 0).any(1).all()
    uneven = [changes[k : k + 2].std(0) * np.sqrt(2) for k in range(3)]
    scores = 0.9 * uneven[2] + 0.09 * uneven[1] + 0.009 * uneven[0]
    rows = np.flatnonzero(labels == 7)
    assert set(indices[labels[indices] == 7]) == set(rows[np.argsort(-scores[rows])[:3]])
    indices, _ = store.read_selection(build(home, keep="easy").condense())
    assert set(indices[labels[indices] == 7]) == set(rows[np.argsort(scores[rows])[:3]])
    assert len(list((home / "cache" / "Digits" / "scoring").iterdir())) == 1


def test_one_run_feeds_all_where_all_ask_for_it(home):
    own = build(home)
    assert own.run.folder != build(home, AUM).run.folder
    shared = replace(NET, tdds=5)
    assert own.run.folder == build(home, AUM, shared).run.folder == build(home, scoring=shared).run.folder
    more = replace(NET, tdds=6)
    assert build(home, AUM, more).run.folder == build(home, scoring=more).run.folder
    own.prepare()
    build(home, AUM, shared).condense()


def test_recording_changes_leaves_the_other_columns_alone(home):
    own, other = build(home), build(home, AUM)
    for data in (own, other):
        data.prepare()
    more, fewer = own.table.columns, other.table.columns
    assert more.keys() - fewer.keys() == {"train.change"}
    assert all(more[name].tobytes() == fewer[name].tobytes() for name in fewer)


def test_sets_and_runs_from_before_keep_their_names():
    assert "tdds" not in named(NET)
    assert named(replace(NET, tdds=5))["tdds"] == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window": 2}, "window is 2"),
        ({"passes": 4, "window": 5}, "allowed: 3 to 4"),
        ({"decay": 0.0}, "decay is 0.0"),
        ({"decay": 1.5}, "decay is 1.5"),
    ],
)
def test_numbers_without_sense_are_refused(home, options, said):
    with pytest.raises(UsageError, match=said):
        build(home, **options)


def test_a_run_that_is_too_short_is_refused_before_it_is_made(home):
    data = build(home, scoring=replace(NET, budget=Budget(steps=14)))
    with pytest.raises(UsageError, match=r"looks at 5 passes, and the scoring run makes 4 whole ones.*passes=4"):
        data.prepare()
    assert not (home / "cache").exists()


def test_one_pass_has_no_change():
    with pytest.raises(UsageError, match=r"scoring\.tdds is 1"):
        Scoring(tdds=1)

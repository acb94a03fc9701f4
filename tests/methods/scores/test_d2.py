"""D2 against message passing by plain loops, and its choices on points that are given."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.neighbors import kneighbors_graph

from ddlight.core.artefact import Unit
from ddlight.core.errors import UsageError
from ddlight.data import Digits
from ddlight.methods.scores.d2 import D2, closeness, message_passing
from ddlight.methods.scoring.features import Features
from ddlight.methods.scoring.table import ScoreTable

UNIT = Unit(3, (3,))


def plain(points, importance, k, gamma, count):
    """The order by loops over a dense matrix of distances."""
    n = len(points)
    d = [[float(np.linalg.norm(points[i] - points[j])) for j in range(n)] for i in range(n)]
    near = [sorted((j for j in range(n) if j != i), key=lambda j: d[i][j])[:k] for i in range(n)]
    edges = [[j for j in range(n) if j in near[i] or i in near[j]] for i in range(n)]
    worth = [importance[i] + sum(np.exp(-d[i][j]) * importance[j] for j in edges[i]) for i in range(n)]
    order = []
    for _ in range(count):
        best = max((i for i in range(n) if i not in order), key=lambda i: worth[i])
        order.append(best)
        for j in edges[best]:
            worth[j] -= np.exp(-gamma * d[best][j]) * max(worth[best], 0)
    return order


def drawn(n=30, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 4)), rng.random(n)


@pytest.fixture
def built(home, monkeypatch):
    """Build D2 on images of class 3 whose features, scores and AUM are given."""

    def build(points, difficulty, aum=None, **options):
        n, options = len(points), {"cutoff": 0.0, **options}
        data = D2(Digits(), cache=str(home / "cache"), **options)
        columns = {
            "train.forgetting": difficulty,
            "train.learned": np.ones(n),
            "train.seen": np.full(n, 9),
            "train.aum_prob": np.zeros(n) if aum is None else aum,
            "clean.el2n": np.array([difficulty]),
        }
        data.table = ScoreTable(np.arange(n).astype(str), columns, {}, "here")
        labels = np.full(n, 3)
        split = SimpleNamespace(labels=labels)
        monkeypatch.setattr(data.dataset, "index", lambda name: split)
        monkeypatch.setattr(
            data.features,
            "of",
            lambda rows, split="train": Features(points[rows].astype(np.float32), np.zeros((len(rows), 10)), labels),
        )
        return data

    return build


def picks(data, n):
    return data.select(UNIT, np.arange(n)).tolist()


@pytest.mark.parametrize("k", [1, 4, 29, 50])
@pytest.mark.parametrize("gamma", [0.0, 0.1, 1.0])
def test_the_order_is_that_of_plain_loops(k, gamma):
    points, importance = drawn()
    found = message_passing(importance, closeness(points, k), 30, gamma)
    assert found.tolist() == plain(points, importance, k, gamma, 30)


def test_closeness_is_that_of_scikit_learns_graph_made_symmetric():
    points, _ = drawn()
    one_way = kneighbors_graph(points, 4, mode="distance").toarray()
    distances = np.maximum(one_way, one_way.T)
    np.testing.assert_allclose(
        closeness(points, 4).toarray(), np.where(distances > 0, np.exp(-distances), 0), atol=1e-7
    )


def test_twins_are_neighbours():
    points = np.array([[0.0, 0], [0, 0], [9, 9], [8, 9]])
    near = closeness(points, 1).toarray()
    assert near[0, 1] == near[1, 0] == 1
    assert np.diag(near).tolist() == [0] * 4
    order = message_passing(np.array([1.0, 1.0, 0.9, 0.1]), closeness(points, 1), 2, 0.0)
    assert order.tolist() == [0, 2]


def test_one_image_alone():
    assert message_passing(np.array([0.5]), closeness(np.zeros((1, 2)), 5), 1, 0.1).tolist() == [0]


def test_a_smaller_count_is_a_prefix(built):
    points, difficulty = drawn()
    assert picks(built(points, difficulty, ipc=20), 30)[:7] == picks(built(points, difficulty, ipc=7), 30)


@pytest.mark.parametrize("score", ["forgetting", "aum", "el2n"])
def test_hard_images_are_the_important_ones_whatever_the_score(built, score):
    """Far from one another, images are taken by importance alone: the hard first, also where AUM is the score."""
    points, difficulty = 1000 * np.eye(12), np.random.default_rng(1).random(12)
    data = built(points, difficulty, aum=1 - 2 * difficulty, score=score, ipc=12, normalise=False)
    assert picks(data, 12) == np.argsort(-difficulty).tolist()


def test_importance_is_not_negative(built):
    """AUM's difficulty is negative for easy images: messages would have the wrong sign."""
    points, difficulty = drawn()
    aum = 1 - difficulty
    found = picks(built(points, difficulty, aum=aum, score="aum", ipc=9, normalise=False), 30)
    assert found == plain(points.astype(np.float32), aum.max() - aum, 5, 0.1, 9)


def test_features_count_by_their_direction_unless_asked_otherwise(built):
    points, difficulty = drawn()
    longer = points * np.linspace(1, 50, 30)[:, None]
    by_angle = [picks(built(p, difficulty, ipc=9), 30) for p in (points, longer)]
    assert by_angle[0] == by_angle[1]
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    assert by_angle[0] == plain(unit, difficulty - difficulty.min(), 5, 0.1, 9)
    as_they_are = [picks(built(p, difficulty, ipc=9, normalise=False), 30) for p in (points, longer)]
    assert as_they_are[0] != as_they_are[1]


def test_the_order_of_files_does_not_matter_and_a_draw_decides_between_equals(built):
    points, difficulty = drawn()
    order = np.random.default_rng(5).permutation(30)
    moved = picks(built(points[order], difficulty[order], ipc=9), 30)
    assert order[moved].tolist() == picks(built(points, difficulty, ipc=9), 30)
    ones, aum = np.ones((30, 4)), np.linspace(0, 1, 30)
    same = [picks(built(ones, np.ones(30), aum=aum, ipc=5, seed=seed), 30) for seed in range(30)]
    counts = np.bincount(np.concatenate(same), minlength=30)
    assert counts.max() < 20 and (counts > 0).sum() > 25


def test_the_share_that_aum_calls_hardest_is_dropped(built):
    points, difficulty = drawn()
    aum = np.random.default_rng(7).random(30)
    data = built(points, difficulty, aum=aum, cutoff=0.5, ipc=15)
    assert set(picks(data, 30)) == set(np.argsort(-aum)[:15])
    with pytest.raises(UsageError, match=r"cutoff 0.5 leaves 15 of 30"):
        picks(built(points, difficulty, aum=aum, cutoff=0.5, ipc=16), 30)


def test_neighbours_of_what_is_taken_are_passed_over(built):
    """Of two tight groups, the more difficult one first, then the other; by difficulty alone it would be one group."""
    rng = np.random.default_rng(0)
    points = np.concatenate([c + 0.01 * rng.standard_normal((6, 4)) for c in (np.zeros(4), np.full(4, 5.0))])
    difficulty = np.concatenate([np.linspace(0.9, 1.0, 6), np.linspace(0.5, 0.6, 6)])
    found = picks(built(points, difficulty, ipc=2, normalise=False), 12)
    assert found[0] < 6 <= found[1]


@pytest.mark.parametrize(
    ("options", "said"), [({"k": 0}, "k is 0"), ({"gamma": -1.0}, "gamma is -1.0"), ({"gamma": float("nan")}, "nan")]
)
def test_numbers_without_sense_are_refused(built, options, said):
    with pytest.raises(UsageError, match=said):
        built(*drawn(), **options)


def test_features_are_those_of_the_images_as_they_are(home):
    """No crop or flip is drawn: features of one image are the same every time."""
    from ddlight.methods.scoring.run import Scoring
    from ddlight.networks.students import ConvNet
    from ddlight.recipes.budget import Budget
    from ddlight.recipes.plan import Override

    net = Scoring(ConvNet(2, 4), recipe=Override(batch=500), budget=Budget(steps=4), ring=2, clean=0)
    data = D2(Digits(size=16), ipc=2, cache=str(home / "c"), scoring=net)
    data.prepare()
    rows = np.array([5, 900, 17])
    assert np.array_equal(data.features_of(rows), data.features_of(rows))
    np.testing.assert_allclose(data.features_of(rows)[1], data.features.of(rows[1:2]).features[0], atol=1e-6)

"""The selectors on features that are given: options, ties by a draw, what is refused."""

import numpy as np
import pytest

from ddlight.core.artefact import Unit
from ddlight.core.errors import DataError, UsageError
from ddlight.data import Digits
from ddlight.methods.geometry.cal import CAL, contrast
from ddlight.methods.geometry.craig import CRAIG
from ddlight.methods.geometry.facility_location import FacilityLocation
from ddlight.methods.geometry.glister import GLISTER
from ddlight.methods.geometry.grad_match import GradMatch
from ddlight.methods.geometry.graph_cut import GraphCut
from ddlight.methods.geometry.herding import Herding
from ddlight.methods.geometry.kcenter import KCenter
from ddlight.methods.geometry.kmeans import KMeans
from ddlight.methods.scoring.features import Features
from ddlight.methods.scoring.vectors import Similarity

SELECTORS = (Herding, KCenter, KMeans, FacilityLocation, GraphCut, CAL, CRAIG, GradMatch, GLISTER)
UNIT = Unit(3, (3,))
each = pytest.mark.parametrize("kind", SELECTORS, ids=lambda kind: kind.__name__)


def found(n=40, seed=0, same=False):
    """Features of n images of class 3."""
    rng = np.random.default_rng(seed)
    features, logits = rng.standard_normal((n, 6)), 2 * rng.standard_normal((n, 10))
    if same:
        features[:], logits[:] = 1, 0
    return Features(features.astype(np.float32), logits.astype(np.float32), np.full(n, 3))


def permuted(given, order):
    return Features(given.features[order], given.logits[order], given.labels[order])


def build(kind, home, **options):
    return kind(Digits(), cache=str(home / "cache"), **options)


def picks(kind, home, given, count=8, **options):
    return build(kind, home, **options).pick(given, count, UNIT)


@each
def test_the_order_of_files_does_not_matter(home, kind):
    given, options = found(), {"n_init": 30} if kind is KMeans else {}
    if kind is KMeans:  # apart by so much that any start ends in the same eight clusters
        given.features[:, 0] += 1000 * (np.arange(40) // 5)
    order = np.random.default_rng(1).permutation(40)
    first = picks(kind, home, given, **options)
    again = order[picks(kind, home, permuted(given, order), **options)]
    if kind is KMeans:  # clusters are of one size: any of them is the first
        assert set(again) == set(first)
    else:
        assert again.tolist() == first.tolist()


@each
def test_a_draw_decides_between_equal_images(home, kind):
    given = found(same=True)
    chosen = [picks(kind, home, given, seed=seed) for seed in range(30)]
    assert all(len(set(one)) == 8 for one in chosen)
    counts = np.bincount(np.concatenate(chosen), minlength=40)
    assert counts.max() < 20  # by file order the first eight would have 30 each; 6 are expected
    assert (counts > 0).sum() > 30
    assert chosen[0].tolist() == picks(kind, home, given, seed=0).tolist()


@each
def test_twins_are_as_good_as_one_another(home, kind):
    """Of two equal images the one that is drawn is taken, first or second in the files."""
    single = found(12)
    given = permuted(single, np.repeat(np.arange(12), 2))
    first = [int(picks(kind, home, given, 1, seed=seed)[0]) for seed in range(20)]
    assert {0, 1} == {one % 2 for one in first}
    if kind is not KCenter:
        assert len({one // 2 for one in first}) == 1


@each
def test_all_and_one(home, kind):
    assert sorted(picks(kind, home, found(9), 9)) == list(range(9))
    assert picks(kind, home, found(1), 1).tolist() == [0]


@each
@pytest.mark.parametrize("part", ["features", "logits"])
def test_numbers_that_are_not_finite_are_refused_by_the_name_of_the_class(home, monkeypatch, kind, part):
    given = found()
    getattr(given, part)[5, 2] = np.nan
    data = build(kind, home, ipc=3)
    monkeypatch.setattr(data.features, "of", lambda rows, split="train": given)
    with pytest.raises(DataError, match=r"class '3'.*not finite"):
        data.select(UNIT, np.arange(40))


@each
def test_positions_come_back_as_those_of_the_split(home, monkeypatch, kind):
    given = found()
    data = build(kind, home, ipc=5)
    monkeypatch.setattr(data.features, "of", lambda rows, split="train": given)
    candidates = 100 + 7 * np.arange(40)
    assert data.select(UNIT, candidates).tolist() == candidates[data.pick(given, 5, UNIT)].tolist()


# --- options ---


def test_herding_normalises_where_asked_to(home):
    given = found()
    longer = Features(given.features * np.linspace(1, 50, 40, dtype=np.float32)[:, None], given.logits, given.labels)
    assert picks(Herding, home, longer, normalise=True).tolist() == picks(Herding, home, given, normalise=True).tolist()
    assert picks(Herding, home, longer).tolist() != picks(Herding, home, given).tolist()


def test_kcenter_starts_at_the_medoid_or_anywhere(home):
    given = found()
    middle = np.square(given.features - given.features.mean(0)).sum(1).argmin()
    assert {int(picks(KCenter, home, given, seed=seed)[0]) for seed in range(10)} == {middle}
    assert len({int(picks(KCenter, home, given, seed=seed, start="random")[0]) for seed in range(20)}) > 8


def test_kcenter_by_angle_does_not_see_lengths(home):
    given = found()
    longer = Features(given.features * np.linspace(1, 50, 40, dtype=np.float32)[:, None], given.logits, given.labels)
    by_angle = [picks(KCenter, home, one, metric="cosine").tolist() for one in (given, longer)]
    assert by_angle[0] == by_angle[1]
    assert picks(KCenter, home, longer).tolist() != by_angle[1]


def test_kmeans_on_the_sphere_does_not_see_lengths(home):
    given = found()
    longer = Features(given.features * np.linspace(1, 50, 40, dtype=np.float32)[:, None], given.logits, given.labels)
    assert picks(KMeans, home, longer, spherical=True).tolist() == picks(KMeans, home, given, spherical=True).tolist()
    assert picks(KMeans, home, longer).tolist() != picks(KMeans, home, given).tolist()


def test_more_starts_give_clusters_that_are_no_worse(home):
    given = found(200)

    def inertia(n_init, seed):
        chosen = given.features[picks(KMeans, home, given, 12, n_init=n_init, seed=seed)]
        return np.square(given.features[:, None] - chosen).sum(2).min(1).sum()

    assert np.mean([inertia(20, s) for s in range(4)]) < np.mean([inertia(1, s) for s in range(4)])


@pytest.mark.parametrize("kind", [FacilityLocation, GraphCut])
def test_gradients_are_compared_where_asked_for(home, kind):
    given = found(seed=1)
    matrix = Similarity.of(given, "gradients").matrix()
    by_gradients = picks(kind, home, given, vectors="gradients").tolist()
    assert by_gradients[0] == matrix.sum(0).argmax()
    assert picks(kind, home, given)[0] == Similarity.of_features(given.features).matrix().sum(0).argmax()
    assert by_gradients != picks(kind, home, given).tolist()


def test_lam_weighs_the_class_against_the_chosen(home):
    given = found()
    matrix = Similarity.of_features(given.features).matrix()
    typical = picks(GraphCut, home, given, lam=100.0)
    assert set(typical) == set(np.argsort(-matrix.sum(0))[:8])
    assert set(picks(GraphCut, home, given, lam=0.0)) != set(typical)


def test_cal_keeps_the_largest_and_deepcore_the_smallest(home):
    given = found()
    scores = contrast(given.features, given.logits, 4)
    assert picks(CAL, home, given, k=4).tolist() == np.argsort(-scores)[:8].tolist()
    assert picks(CAL, home, given, k=4, keep="smallest").tolist() == np.argsort(scores)[:8].tolist()
    assert picks(CAL, home, given, k=4).tolist() != picks(CAL, home, given).tolist()


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (KMeans, {"n_init": 0}, "n_init is 0"),
        (CAL, {"k": 0}, "k is 0"),
        (GraphCut, {"lam": -1.0}, "lam is -1.0"),
        (GraphCut, {"lam": float("nan")}, "lam is nan"),
        (GradMatch, {"lam": -0.5}, "lam is -0.5"),
        (GLISTER, {"eta": float("inf")}, "eta is inf"),
    ],
)
def test_numbers_without_sense_are_refused(home, kind, options, said):
    with pytest.raises(UsageError, match=said):
        build(kind, home, **options)


@pytest.mark.parametrize("kind", [FacilityLocation, CRAIG])
def test_what_compares_all_pairs_says_when_a_class_is_too_large(home, monkeypatch, kind):
    monkeypatch.setenv("DDLIGHT_SET_GB", "0.00002")
    with pytest.raises(UsageError, match=rf"{kind.__name__} .*the 40 of class '3'.*--data=GraphCut"):
        picks(kind, home, found())
    monkeypatch.setenv("DDLIGHT_SET_GB", "0.00003")
    assert len(picks(kind, home, found())) == 8


# --- the whole way, by the command ---


def test_all_of_them_share_one_network(command, home):
    for kind in SELECTORS:
        answer = command("condense", "--tiny", f"--data={kind.__name__}", "--data.dataset=Digits", "--data.ipc=4")
        assert answer.code == 0, answer.err
    assert len(list((home / "cache").glob("*/scoring/*/manifest.json"))) == 1


def test_features_are_those_of_evaluation_whatever_else_is_in_the_batch(home):
    """A BatchNorm network in training mode would mix the images of a batch, and move its statistics."""
    from ddlight.methods.geometry.herding import Herding
    from ddlight.methods.scoring.run import Scoring
    from ddlight.networks.students import ConvNet
    from ddlight.recipes.budget import Budget
    from ddlight.recipes.plan import Override

    net = Scoring(ConvNet(2, 4, "batch"), recipe=Override(batch=500), budget=Budget(steps=4), ring=2, clean=0)
    data = Herding(Digits(size=16), ipc=2, cache=str(home / "c"), scoring=net)
    data.prepare()
    rows = np.arange(60)
    whole, alone = data.features.of(rows), [data.features.of(rows[k : k + 1]) for k in (0, 7, 59)]
    for k, one in zip((0, 7, 59), alone, strict=True):
        np.testing.assert_allclose(one.features[0], whole.features[k], atol=1e-5)
        np.testing.assert_allclose(one.logits[0], whole.logits[k], atol=1e-5)
    weight, bias = (data.features.teacher.network.state_dict()[f"classifier.{n}"].numpy() for n in ("weight", "bias"))
    np.testing.assert_allclose(whole.features @ weight.T + bias, whole.logits, atol=1e-4)

"""Coresets that score images by their features, against autograd, plain loops and scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_distances, euclidean_distances
from torch.nn import functional as F

from ddlight.core.artefact import Unit
from ddlight.core.errors import DataError, UsageError
from ddlight.data import Digits
from ddlight.methods.scores.grand import GraNd, grand
from ddlight.methods.scores.moderate import Moderate, distance_to_centre
from ddlight.methods.scores.ssp import SSP, cluster_centres
from ddlight.methods.scoring import features as source
from ddlight.methods.scoring.features import Features
from ddlight.methods.scoring.run import Scoring
from ddlight.networks.students import ConvNet
from ddlight.networks.teachers import RunTeacher
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.sets import store

SELECTORS = (GraNd, Moderate, SSP)
NET = Scoring(ConvNet(2, 4, "batch"), recipe=Override(batch=500), budget=Budget(steps=4), ring=2, clean=0)
LABELS = np.arange(60) % 3
each = pytest.mark.parametrize("kind", SELECTORS, ids=lambda kind: kind.__name__)


@pytest.fixture
def trained(home):
    """Build a selector on a BatchNorm network that was trained for little more than a pass: trained(GraNd, ...)."""

    def build(kind, **options):
        data = kind(Digits(size=16), **{"ipc": 2, "cache": str(home / "cache"), "scoring": NET, **options})
        data.prepare()
        return data

    return build


@pytest.fixture
def given(home, monkeypatch):
    """Build a selector whose data are 60 images of three classes with features that are given, and no network."""

    def build(kind, features, logits=None, labels=LABELS, **options):
        data = kind(Digits(), cache=str(home / "cache"), **options)
        logits = np.zeros((len(labels), 3), np.float32) if logits is None else logits
        split = type("Split", (), {"labels": labels, "__len__": lambda self: len(labels)})()
        monkeypatch.setattr(data.dataset, "index", lambda name: split)
        monkeypatch.setattr(type(data.dataset), "num_classes", 3)
        seen = []

        def look(rows, split="train"):
            seen.append(sorted(set(labels[rows].tolist())))
            return Features(features[rows], logits[rows], labels[rows])

        monkeypatch.setattr(data.features, "of", look)
        data.seen = seen
        return data

    return build


def points(seed=0, n=60, d=5):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def rows_of(number, labels=LABELS):
    return np.flatnonzero(labels == number)


def chosen(data, number=1):
    return data.select(Unit(number, (number,)), rows_of(number))


# --- what they share ---


@each
def test_a_draw_decides_between_equal_images(given, kind):
    same = np.ones((60, 5), np.float32)
    options = {"prototypes": "classes"} if kind is SSP else {}
    sets = [chosen(given(kind, same, ipc=5, seed=seed, **options)) for seed in range(30)]
    assert all(len(set(one.tolist())) == 5 for one in sets)
    counts = np.bincount(np.concatenate(sets), minlength=60)[rows_of(1)]
    assert counts.max() < 20  # by file order five of the twenty would have 30 each; 7.5 are expected
    assert (counts > 0).all()


@each
def test_only_the_own_class_is_looked_at_and_once(given, kind):
    data = given(kind, points(), ipc=4)
    for _ in range(2):
        chosen(data)
    assert sorted(data.seen) == ([[0], [1], [1], [2]] if kind is SSP else [[1]])  # SSP's clusters are of all


@each
def test_numbers_that_are_not_finite_are_refused_by_the_name_of_the_class(given, kind):
    features = points()
    features[7, 2] = np.nan
    with pytest.raises(DataError, match=r"class '1'.*not finite"):
        chosen(given(kind, features, ipc=4))


@each
def test_classes_may_be_unbalanced_where_asked_for(trained, kind):
    data = trained(kind, ipc=20, balance="none")
    indices, _ = store.read_selection(data.condense())
    counts = np.bincount(data.dataset.index("train").labels[indices], minlength=10)
    assert counts.sum() == 200 and len(set(counts.tolist())) > 1
    floor = np.bincount(
        data.dataset.index("train").labels[store.read_selection(trained(kind, ipc=20, balance="floor").condense())[0]]
    )
    assert floor.sum() == 200 and floor.min() >= 10


def test_they_share_one_network_and_another_may_be_given(trained, home):
    first = [trained(kind) for kind in SELECTORS]
    assert len({data.run.folder for data in first}) == 1
    other = trained(GraNd, network=RunTeacher(str(first[0].run.folder)), scoring=replace(NET, seed=9))
    assert not other.run.exists
    indices = [store.read_selection(data.condense())[0].tolist() for data in (other, first[0])]
    assert indices[0] == indices[1]
    assert other.fingerprint != first[0].fingerprint


@each
def test_scores_are_those_of_evaluation_whatever_is_in_the_batch(trained, monkeypatch, kind):
    """A BatchNorm network in training mode would mix the images of a batch; a short last batch must not weigh more."""
    rows = np.flatnonzero(Digits(size=16).index("train").labels == 4)
    data = trained(kind)
    whole = data.scores_of(rows)
    before = {name: value.clone() for name, value in data.features.teacher.network.state_dict().items()}
    monkeypatch.setattr(source, "eval_batch", lambda info: 7)
    again = trained(kind)
    np.testing.assert_allclose(again.scores_of(rows), whole, rtol=1e-4, atol=1e-6)
    assert not again.features.teacher.network.training
    assert all(torch.equal(value, before[name]) for name, value in again.features.teacher.network.state_dict().items())


# --- GraNd ---


def test_grand_is_the_norm_of_each_images_own_gradient(trained):
    data = trained(GraNd)
    rows = rows_of(4, data.dataset.index("train").labels)[:9]
    network, labels = data.features.teacher.network.cpu(), torch.from_numpy(data.dataset.index("train").labels[rows])
    images = torch.from_numpy(data.dataset.take("train", rows)).float() / 255
    weights = (network.classifier.weight, network.classifier.bias)
    for weight in weights:
        weight.requires_grad_(True)
    for k, found in enumerate(data.scores_of(rows)):
        loss = F.cross_entropy(network(data.features.teacher.preprocess(images[k : k + 1])), labels[k : k + 1])
        parts = torch.autograd.grad(loss, weights)
        assert found == pytest.approx(float(torch.cat([p.flatten() for p in parts]).norm()), rel=1e-3)


def test_grand_keeps_its_digits_where_the_answer_is_certain():
    found = grand(np.zeros((1, 2)), np.array([[80.0, 0.0]]), np.array([0]))
    assert found[0] == pytest.approx(np.sqrt(2) * np.exp(-80), rel=1e-6)


def test_grand_keeps_the_hard_end_or_the_easy_one(given):
    features, logits = points(), 3 * points(1, d=3)
    scores = grand(features[rows_of(1)], logits[rows_of(1)], LABELS[rows_of(1)])
    ranked = rows_of(1)[np.argsort(-scores)]
    assert chosen(given(GraNd, features, logits, ipc=6)).tolist() == ranked[:6].tolist()
    assert chosen(given(GraNd, features, logits, ipc=6, keep="easy")).tolist() == ranked[::-1][:6].tolist()


def test_grand_at_initialisation_is_refused(home):
    early = replace(NET, budget=Budget(steps=2))
    data = GraNd(Digits(size=16), ipc=2, cache=str(home / "c"), scoring=early)
    with pytest.raises(UsageError, match=r"sees 1,000 of 1,438.*epochs=1"):
        data.prepare()
    assert not (home / "c").exists()
    data = GraNd(Digits(size=16), ipc=2, cache=str(home / "c"), scoring=replace(NET, budget=Budget(steps=3)))
    data.prepare()
    assert data.run.exists


# --- Moderate ---


@pytest.mark.parametrize("centre", ["median", "mean"])
def test_distances_are_to_the_centre_of_the_class(centre):
    some = points()
    middle = [sorted(column)[len(some) // 2 - 1 : len(some) // 2 + 1] for column in some.T.tolist()]
    place = np.mean(middle, 1) if centre == "median" else some.mean(0)
    np.testing.assert_allclose(
        distance_to_centre(some, centre), euclidean_distances(some, place[None])[:, 0], rtol=1e-4
    )


def test_moderate_keeps_the_window_around_the_median_distance(given):
    features = points()
    ranked = rows_of(1)[np.argsort(distance_to_centre(features[rows_of(1)], "median"))]
    data = given(Moderate, features, ipc=6)
    assert set(chosen(data)) == set(ranked[7:13])
    assert set(chosen(data)[:2]) == set(ranked[9:11])
    assert set(chosen(given(Moderate, features, ipc=6, centre="mean"))) != set(ranked[7:13])


# --- SSP ---


def test_prototypes_are_those_of_all_images():
    """Each centre is the mean of all that are nearest to it: clusters of a drawn share of the images would not be."""
    some = np.random.default_rng(3).standard_normal((900, 3))
    centres = cluster_centres(some, 2, n_init=1, seed=0)
    nearest = euclidean_distances(some, centres).argmin(1)
    assert min(np.bincount(nearest)) > 256
    for k in range(2):
        np.testing.assert_allclose(centres[k], some[nearest == k].mean(0), atol=1e-12)


@pytest.mark.parametrize("keep", ["easy", "hard"])
def test_ssp_ranks_by_the_angle_to_the_nearest_prototype(given, keep):
    features = points()
    data = given(SSP, features, ipc=6, clusters=4, keep=keep)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    nearest = cosine_distances(unit, data.centres).argmin(1)
    assert len(set(nearest)) == 4
    angles = cosine_distances(features, data.centres).min(1)[rows_of(1)]
    ranked = rows_of(1)[np.argsort(angles if keep == "easy" else -angles)]
    assert chosen(data).tolist() == ranked[:6].tolist()
    longer = features * np.linspace(1, 50, 60, dtype=np.float32)[:, None]
    assert chosen(given(SSP, longer, ipc=6, clusters=4, keep=keep)).tolist() == ranked[:6].tolist()


def test_ssp_finds_the_prototypes_that_there_are(given):
    """Three bundles of directions, each shared by all classes; the nearest of each class to any of them are known."""
    rng = np.random.default_rng(0)
    axes, spread = np.eye(5)[:3], np.repeat(np.linspace(0.02, 0.5, 20), 3)
    features = axes[np.arange(60) // 3 % 3] + spread[:, None] * np.array([0, 0, 0, 1, 1]) * rng.choice([-1, 1], (60, 1))
    features = (features * rng.uniform(1, 9, (60, 1))).astype(np.float32)
    data = given(SSP, features, ipc=6, n_init=5)
    assert data.centres.shape == (3, 5)
    assert set(data.centres[:, :3].argmax(1)) == {0, 1, 2}
    easy = set(chosen(data))
    assert len(easy & set(rows_of(1)[:8])) >= 5
    assert not easy & set(rows_of(1)[12:])


def test_supervised_prototypes_are_class_means(given):
    features = points()
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    angles = cosine_distances(unit[rows_of(1)], unit[rows_of(1)].mean(0, keepdims=True))[:, 0]
    data = given(SSP, features, ipc=6, prototypes="classes")
    assert chosen(data).tolist() == rows_of(1)[np.argsort(angles)][:6].tolist()
    assert data.seen == [[1]]


def test_ssp_makes_all_classes_in_one_unit(trained):
    data = trained(SSP, ipc=3)
    assert [unit.classes for unit in data.units()] == [tuple(range(10))]
    indices, _ = store.read_selection(data.condense())
    assert np.bincount(data.dataset.index("train").labels[indices]).tolist() == [3] * 10


@pytest.mark.parametrize(
    ("options", "said"), [({"clusters": 0}, "clusters is 0"), ({"n_init": 0}, "n_init is 0"), ({"clusters": 99}, "99")]
)
def test_numbers_without_sense_are_refused(given, options, said):
    with pytest.raises(UsageError, match=said):
        chosen(given(SSP, points(), ipc=2, **options))

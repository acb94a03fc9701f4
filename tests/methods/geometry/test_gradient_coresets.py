"""CRAIG, GradMatch and GLISTER against their definitions, on gradients of a last layer that autograd gives."""

import copy
import logging

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from torch.nn.functional import cross_entropy

from ddlight.core.artefact import Unit, read_manifest
from ddlight.core.errors import DataError
from ddlight.data import Digits
from ddlight.methods.geometry.craig import CRAIG, craig
from ddlight.methods.geometry.glister import GLISTER, glister
from ddlight.methods.geometry.grad_match import GradMatch, matching_pursuit
from ddlight.methods.scoring.features import Features
from ddlight.methods.scoring.vectors import Gradients

CLASSES, CLASS = 4, 1


def layer(seed=0, scale=1.0):
    """A last layer of 6 features, in float64."""
    torch.manual_seed(seed)
    made = torch.nn.Linear(6, CLASSES).double()
    with torch.no_grad():
        made.weight *= scale
    return made


def answers(last, n=40, seed=0):
    """What a network with this last layer says of n images of one class."""
    features = np.maximum(np.random.default_rng(seed).standard_normal((n, 6)), 0).astype(np.float32)
    with torch.no_grad():
        logits = last(torch.tensor(features).double()).numpy()
    return Features(features, logits, np.full(n, CLASS))


def gradient(last, found, rows):
    """Gradient of the mean loss of some images in weights and biases, by autograd: (C, 7)."""
    loss = cross_entropy(last(torch.tensor(found.features[rows]).double()), torch.tensor(found.labels[rows]))
    weight, bias = torch.autograd.grad(loss, (last.weight, last.bias))
    return torch.cat([weight, bias[:, None]], 1).numpy()


def explicit(last, found):
    """Gradient of each image alone, flat: (n, 28)."""
    return np.stack([gradient(last, found, [i]).ravel() for i in range(len(found.labels))])


# --- gradients ---


def test_gradients_and_their_products_are_those_of_autograd():
    last = layer(scale=3)
    found = answers(last)
    each, given = explicit(last, found), Gradients.of(found)
    np.testing.assert_allclose(np.einsum("nc,nd->ncd", given.left, given.right).reshape(40, -1), each, atol=1e-12)
    np.testing.assert_allclose(given.squares(), np.square(each).sum(1), atol=1e-12)
    np.testing.assert_allclose(given.mean(), gradient(last, found, range(40)), atol=1e-12)
    np.testing.assert_allclose(given.along(np.arange(28.0).reshape(4, 7)), each @ np.arange(28.0), atol=1e-10)
    np.testing.assert_allclose(given.row(7), each @ each[7], atol=1e-12)
    apart = np.linalg.norm(each[:, None] - each, axis=2)
    np.testing.assert_allclose(given.distances(), apart, atol=1e-12)


def test_distances_keep_their_digits_where_gradients_are_long_and_alike():
    """By |a|^2 + |b|^2 - 2 <a, b> twins would be 1e-8 of their length apart, and no tie would be one."""
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((2, 4)), 1000 * rng.standard_normal((2, 7))
    left[1], right[1] = left[0], right[0]
    given = Gradients(left.repeat(2, 0), right.repeat(2, 0))
    given.right[3] += 1e-7
    found = given.distances()
    assert found[0, 1] == found[1, 0] == 0
    assert (found == found.T).all()
    wanted = np.linalg.norm(np.outer(left[0], np.full(7, 1e-7)))
    np.testing.assert_allclose(found[0, 3], wanted, rtol=1e-3)


# --- CRAIG ---


def naive_craig(each, count):
    """Greedy minimum of the summed distance to the nearest chosen, every image counted."""
    apart, order = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in each] for a in each]), []
    while len(order) < count:
        sums = {
            j: sum(min(apart[i][k] for k in (*order, j)) for i in range(len(each)))
            for j in range(len(each))
            if j not in order
        }
        order.append(min(sums, key=sums.__getitem__))
    return order


@pytest.mark.parametrize("scale", [1, 4])
def test_craig_is_its_definition(scale):
    last = layer(scale=scale)
    found = answers(last, 60)
    assert craig(Gradients.of(found), 12).tolist() == naive_craig(explicit(last, found), 12)


def test_craig_counts_every_image_of_a_large_class():
    """Two groups: the second, of most images, lies after row 256; its middle is the first pick."""
    rng = np.random.default_rng(0)
    right = np.concatenate([rng.standard_normal((256, 3)), 50 + rng.standard_normal((400, 3))])
    given = Gradients(np.ones((656, 1)), right)
    first, second = craig(given, 2)
    sums = np.linalg.norm(right[:, None] - right, axis=2).sum(0)
    assert first == sums.argmin() > 255
    assert second < 256


@pytest.mark.parametrize("small", [1e-3, 1e-9, 1e-30])
def test_the_size_of_all_gradients_does_not_matter(small):
    given = Gradients.of(answers(layer(scale=3)))
    smaller = Gradients(small * given.left, given.right)
    assert craig(smaller, 12).tolist() == craig(given, 12).tolist()
    orders, weights = zip(*(matching_pursuit(one, 12, 0.5) for one in (given, smaller)), strict=True)
    assert orders[0].tolist() == orders[1].tolist()
    np.testing.assert_allclose(*weights, rtol=1e-6)


# --- GradMatch ---


def naive_pursuit(each, count, lam):
    """Pursuit on the gradients themselves; the ridge as rows below them."""
    goal, ridge, order = each.mean(0), lam * np.square(each).sum(1).mean(), []
    left = goal
    while len(order) < count:
        order.append(max((i for i in range(len(each)) if i not in order), key=lambda i: each[i] @ left))
        tall = np.concatenate([each[order].T, np.sqrt(ridge) * np.eye(len(order))])
        weights = nnls(tall, np.concatenate([goal, np.zeros(len(order))]))[0]
        left = goal - weights @ each[order]
    return order, weights


@pytest.mark.parametrize("lam", [0.01, 0.5, 5.0])
@pytest.mark.parametrize("scale", [1, 4])
def test_the_pursuit_is_its_definition(scale, lam):
    last = layer(scale=scale)
    found = answers(last)
    order, weights = matching_pursuit(Gradients.of(found), 12, lam)
    wanted, by = naive_pursuit(explicit(last, found), 12, lam)
    assert order.tolist() == wanted
    np.testing.assert_allclose(weights, by, atol=1e-8)


def test_the_pursuit_without_a_ridge_is_least_squares_until_all_is_explained():
    last = layer(scale=4)
    found = answers(last)
    each = explicit(last, found)
    order, weights = matching_pursuit(Gradients.of(found), 4, 0.0)
    by = np.linalg.lstsq(each[order].T, each.mean(0))[0]
    assert (by > 0).all()
    np.testing.assert_allclose(weights, by, rtol=1e-6)
    assert order.tolist() == naive_pursuit(each, 4, 0.0)[0]


def test_the_pursuit_takes_what_is_left_and_not_the_most_aligned():
    """Nine alike along the first axis, one along the second: the second pick is that one."""
    left = np.array([[1.0, 0.0]] * 9 + [[0.0, 1.0]])
    order, _ = matching_pursuit(Gradients(left, np.ones((10, 1))), 2, 0.0)
    assert order[1] == 9
    found = answers(layer(scale=4))
    given = Gradients.of(found)
    aligned = np.argsort(-given.along(given.mean()))[:12]
    assert set(matching_pursuit(given, 12, 0.5)[0]) != set(aligned)


def test_weights_are_not_negative_where_least_squares_would_have_them_so():
    last = layer(seed=2, scale=4)
    found = answers(last)
    each = explicit(last, found)
    order, weights = matching_pursuit(Gradients.of(found), 20, 1e-4)
    tall = np.concatenate([each[order].T, 0.01 * np.sqrt(np.square(each).sum(1).mean()) * np.eye(20)])
    free = np.linalg.lstsq(tall, np.concatenate([each.mean(0), np.zeros(20)]))[0]
    assert free.min() < -0.01
    assert weights.min() == 0


@pytest.mark.parametrize("lam", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["two directions", "opposed", "zero", "outlier twins"])
def test_there_are_as_many_as_asked_for_where_few_explain_all(kind, lam):
    left = np.repeat([[1.0, 0.0], [0.0, 1.0]], 100, 0)
    if kind == "opposed":
        left[1:] = [-0.1, 0]
    if kind == "zero":
        left[:] = 0
    if kind == "outlier twins":
        left[2:] *= 1e-6
    for count in (1, 60, 200):
        order, weights = matching_pursuit(Gradients(left, np.ones((200, 1))), count, lam)
        assert len(set(order)) == len(weights) == count
        assert np.isfinite(weights).all()
        assert weights.min() >= 0


# --- GLISTER ---


def naive_glister(last, found, validation, count, eta):
    """Greedy with the layer itself moved by each pick's gradient, which is that of the network as it was trained."""
    each, order = explicit(last, found), []
    while len(order) < count:
        ahead = gradient(last, validation, range(len(validation.labels))).ravel()
        gains = {i: eta * ahead @ each[i] for i in range(len(each)) if i not in order}
        order.append(max(gains, key=gains.__getitem__))
        with torch.no_grad():
            step = torch.tensor(eta * each[order[-1]].reshape(CLASSES, 7))
            last.weight -= step[:, :-1]
            last.bias -= step[:, -1]
    return order


@pytest.mark.parametrize("eta", [0.01, 0.1, 1.0])
def test_glister_is_its_definition(eta):
    last = layer(scale=4)
    found, validation = answers(last), answers(last, 25, seed=1)
    chosen = glister(found, validation, 12, eta)
    assert chosen.tolist() == naive_glister(last, found, validation, 12, eta)


def test_glister_on_its_own_images_is_its_definition():
    last = layer(scale=4)
    found = answers(last)
    assert glister(found, found, 12, 0.1).tolist() == naive_glister(last, found, found, 12, 0.1)


def test_the_validation_gradient_is_updated():
    """Without an update the picks would be those most aligned with the first gradient."""
    found, validation = answers(layer(scale=4)), answers(layer(scale=4), 25, seed=1)
    aligned = np.argsort(-Gradients.of(found).along(Gradients.of(validation).mean()))[:12].tolist()
    assert glister(found, validation, 12, 0.0).tolist() == aligned
    assert set(glister(found, validation, 12, 0.5)) != set(aligned)


def test_a_step_of_its_own_length_leaves_something_to_lower():
    """On features as long as a trained network's, a step of 0.1 makes the validation loss vanish at once."""
    rng = np.random.default_rng(0)
    centres, labels = rng.standard_normal((CLASSES, 256)), np.arange(CLASSES).repeat(50)
    features = np.maximum(1.5 * centres[labels] + 3 * rng.standard_normal((200, 256)), 0)
    last = torch.nn.Linear(256, CLASSES).double()
    torch.nn.init.zeros_(last.weight)
    for _ in range(300):
        last.zero_grad()
        cross_entropy(last(torch.tensor(features)), torch.tensor(labels)).backward()
        with torch.no_grad():
            last.weight -= 1e-3 * last.weight.grad
    found, validation = (
        Features(features[rows], last(torch.tensor(features[rows])).detach().numpy(), labels[rows])
        for rows in (np.arange(50, 75), np.arange(75, 100))
    )
    square = (np.square(found.features).sum(1) + 1).mean()
    assert square > 1000

    def loss_after(eta, order):
        moved = copy.deepcopy(last)
        for i in order:
            step = torch.tensor(eta * gradient(last, found, [i]))
            with torch.no_grad():
                moved.weight -= step[:, :-1]
                moved.bias -= step[:, -1]
        return float(cross_entropy(moved(torch.tensor(validation.features)), torch.tensor(validation.labels)))

    order = glister(found, validation, 12, None)
    assert order.tolist() == glister(found, validation, 12, 1 / square).tolist()
    before = loss_after(0, [])
    assert loss_after(0.1, order[:1]) < 1e-6 * before
    assert 0.1 * before < loss_after(1 / square, order) < 0.9 * before


@pytest.mark.parametrize("eta", [0.1, 1e6])
def test_glister_takes_all_where_all_are_asked_for(eta):
    found = answers(layer(scale=4))
    assert sorted(glister(found, found, 40, eta)) == list(range(40))


@pytest.fixture
def validating(home, monkeypatch):
    """GLISTER on Digits with five images a class held out, whose answers are given; with what it was asked for."""
    data, asked = GLISTER(Digits(held_out=5), ipc=4, cache=str(home / "cache")), []
    held = answers(layer(scale=4), 5, seed=2)

    def features(rows, split="train"):
        asked.append((split, rows))
        return held if split == "held_out" else answers(layer(scale=4))

    monkeypatch.setattr(data.features, "of", features)
    return data, held, asked


def test_the_validation_images_are_the_held_out_ones_of_the_class(validating):
    data, held, asked = validating
    chosen = data.select(Unit(CLASS, (CLASS,)), np.arange(40))
    assert set(chosen) == set(glister(answers(layer(scale=4)), held, 4, None))
    split, rows = asked[-1]
    assert split == "held_out"
    assert rows.tolist() == np.flatnonzero(data.dataset.split("held_out").labels == CLASS).tolist()
    assert data.selected_on == "held_out"


def test_held_out_answers_that_are_not_finite_are_refused(validating):
    data, held, _ = validating
    held.logits[0, 0] = np.nan
    with pytest.raises(DataError, match=r"class '1'.*not finite"):
        data.select(Unit(CLASS, (CLASS,)), np.arange(40))


@pytest.mark.parametrize(("held_out", "split"), [(0, "train"), (3, "held_out")])
def test_the_manifest_says_which_images_validate(trained, caplog, held_out, split):
    with caplog.at_level(logging.INFO, "ddlight"):
        data = trained(GLISTER, dataset=Digits(size=16, held_out=held_out))
        manifest = read_manifest(data.condense())
    assert manifest["validation"] == split
    assert manifest["selected_on"] == {"train": "none"}.get(split, split)
    assert manifest["scoring"] == [data.run.fingerprint]
    assert ("holds nothing out" in caplog.text) == (held_out == 0)


# --- on a network ---


@pytest.fixture
def trained(home):
    """Build a selector on a network with BatchNorm that was trained for four steps: trained(CRAIG, ...)."""
    from ddlight.methods.scoring.run import Scoring
    from ddlight.networks.students import ConvNet
    from ddlight.recipes.budget import Budget
    from ddlight.recipes.plan import Override

    torch.set_num_threads(1)
    net = Scoring(ConvNet(2, 4, "batch"), recipe=Override(batch=500), budget=Budget(steps=4), ring=2, clean=0)

    def build(kind, dataset=None):
        data = kind(dataset or Digits(size=16), ipc=4, cache=str(home / "cache"), scoring=net)
        data.prepare()
        return data

    return build


@pytest.mark.parametrize("kind", [CRAIG, GradMatch, GLISTER], ids=lambda kind: kind.__name__)
def test_batches_of_any_size_give_the_same_images(trained, monkeypatch, kind):
    """A mean over a short last batch would make its gradients larger; BatchNorm in training mode would mix images."""
    data, chosen = trained(kind), []
    for size in (64, 40, 13, 1):
        monkeypatch.setattr("ddlight.methods.scoring.features.eval_batch", lambda info, size=size: size)
        chosen.append(data.select(Unit(3, (3,)), np.flatnonzero(data.dataset.split("train").labels == 3)[:41]).tolist())
    assert chosen[1:] == chosen[:1] * 3


def test_gradients_are_those_of_the_network_in_evaluation(trained):
    data = trained(CRAIG)
    rows = np.arange(20)
    given = Gradients.of(data.features.of(rows))
    network = copy.deepcopy(data.features.teacher.network).requires_grad_(True)
    assert not any(module.training for module in network.modules())
    images = data.features.teacher.preprocess(torch.from_numpy(data.dataset.take("train", rows)).float() / 255)
    labels = torch.from_numpy(data.dataset.split("train").labels[rows])
    for i in (0, 5, 19):
        loss = cross_entropy(network(images[i : i + 1]), labels[i : i + 1])
        weight, bias = torch.autograd.grad(loss, (network.classifier.weight, network.classifier.bias))
        wanted = torch.cat([weight, bias[:, None]], 1).numpy()
        np.testing.assert_allclose(np.outer(given.left[i], given.right[i]), wanted, atol=1e-5)

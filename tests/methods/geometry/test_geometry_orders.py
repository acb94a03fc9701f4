"""Greedy orders against their definitions, written out in O(n^2 k) with differences in float64."""

import numpy as np
import pytest

from ddlight.methods.geometry.cal import contrast
from ddlight.methods.geometry.facility_location import facility_location
from ddlight.methods.geometry.graph_cut import graph_cut
from ddlight.methods.geometry.herding import herding
from ddlight.methods.geometry.kcenter import kcenter, medoid
from ddlight.methods.geometry.kmeans import kmeans_medoids
from ddlight.methods.scoring.features import Features
from ddlight.methods.scoring.vectors import Cloud, Similarity, output_gradients, unit_length

N, COUNT = 120, 30


def cloud(kind, seed=0):
    """Points of several shapes, float32 (N, 16)."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((N, 16))
    if kind == "relu":
        points = np.maximum(points, 0)
    if kind == "far":  # a mean far from 0: squared norms in float32 would drown the distances
        points = points + 300
    if kind == "duplicates":
        points = points[rng.integers(N // 3, size=N)]
    if kind == "grid":  # many exact ties
        points = rng.integers(0, 2, (N, 16))
    if kind == "same":
        points = np.ones((N, 16))
    return points.astype(np.float32)


KINDS = ("normal", "relu", "far", "duplicates", "grid", "same")


# --- the definitions ---


def naive_herding(points, count, worst=False):
    points = points.astype(np.float64)
    mean, order = points.mean(0), []
    for i in range(count):
        wanted = (i + 1) * mean - points[order].sum(0)
        left = [x for x in range(len(points)) if x not in order]
        costs = np.array([((wanted - points[x]) ** 2).sum() for x in left])
        best = costs.max() if worst else costs.min()
        order.append(left[int(np.flatnonzero(np.isclose(costs, best, rtol=1e-11, atol=0))[0])])
    return order


def naive_kcenter(points, count, first):
    points, order = points.astype(np.float64), [first]
    while len(order) < count:
        left = [x for x in range(len(points)) if x not in order]
        nearest = [min(((points[x] - points[c]) ** 2).sum() for c in order) for x in left]
        order.append(left[int(np.argmax(nearest))])
    return order


def naive_greedy(value, n, count):
    """Greedy maximum of any set function, the first of equal ones."""
    order = []
    for _ in range(count):
        left = [x for x in range(n) if x not in order]
        values = np.array([value([*order, x]) for x in left])
        order.append(left[int(np.argmax(values >= values.max() - 1e-10))])
    return order


def naive_cosines(vectors):
    vectors = vectors.astype(np.float64)
    return np.array([[a @ b / np.sqrt((a @ a) * (b @ b)) for b in vectors] for a in vectors])


def facility(similarity):
    return lambda chosen: similarity[:, chosen].max(1).sum()


def cut(similarity, lam):
    return lambda chosen: lam * similarity[:, chosen].sum() - similarity[np.ix_(chosen, chosen)].sum()


# --- identical picks ---


@pytest.mark.parametrize("kind", KINDS)
def test_herding_is_its_definition(kind):
    points = cloud(kind)
    assert herding(points, COUNT).tolist() == naive_herding(points, COUNT)


@pytest.mark.parametrize("kind", KINDS)
def test_kcenter_is_its_definition(kind):
    points = cloud(kind)
    assert kcenter(points, COUNT, 7).tolist() == naive_kcenter(points, COUNT, 7)


@pytest.mark.parametrize("kind", KINDS)
def test_the_medoid_has_the_least_sum_of_squared_distances(kind):
    points = cloud(kind).astype(np.float64)
    sums = [np.square(points - x).sum() for x in points]
    assert medoid(points) == np.flatnonzero(np.isclose(sums, min(sums), rtol=1e-11))[0]


@pytest.mark.parametrize("kind", KINDS)
def test_lazy_facility_location_is_naive_greedy(kind):
    similarity = 0.5 + 0.5 * naive_cosines(cloud(kind))
    order = facility_location(Similarity.of_features(cloud(kind)).matrix(), COUNT)
    assert order.tolist() == naive_greedy(facility(similarity), N, COUNT)


@pytest.mark.parametrize("lam", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("kind", KINDS)
def test_graph_cut_is_naive_greedy(kind, lam):
    similarity = 0.5 + 0.5 * naive_cosines(cloud(kind))
    order = graph_cut(Similarity.of_features(cloud(kind)), COUNT, lam)
    assert order.tolist() == naive_greedy(cut(similarity, lam), N, COUNT)


def test_graph_cut_counts_the_similarity_of_an_image_to_itself():
    """All three are as similar to the class; the zero vector is half as similar to itself as others are."""
    points = np.array([[1.0, 2.0], [0.0, 0.0], [-1.0, -2.0]], np.float32)
    assert graph_cut(Similarity.of_features(points), 1, 2.0).tolist() == [1]


def test_facility_location_is_within_its_guarantee_of_the_best():
    from itertools import combinations

    similarity = Similarity.of_features(cloud("normal")[:14]).matrix()
    value = facility(similarity)
    best = max(value(list(chosen)) for chosen in combinations(range(14), 4))
    assert value(facility_location(similarity, 4)) >= (1 - 1 / np.e) * best


# --- prefixes, all, one ---

GREEDY = {
    "herding": herding,
    "kcenter": lambda points, count: kcenter(points, count, 3 % len(points)),
    "facility": lambda points, count: facility_location(Similarity.of_features(points).matrix(), count),
    "cut": lambda points, count: graph_cut(Similarity.of_features(points), count, 2.0),
}
ALL = {**GREEDY, "kmeans": lambda points, count: kmeans_medoids(points, count, 1, 0)}


@pytest.mark.parametrize("name", GREEDY)
def test_a_smaller_count_gives_a_prefix(name):
    points = cloud("relu")
    assert GREEDY[name](points, 20)[:6].tolist() == GREEDY[name](points, 6).tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ALL)
def test_all_are_taken_once_where_all_are_asked_for(name, kind):
    points = cloud(kind)[:40]
    assert sorted(ALL[name](points, 40)) == list(range(40))


@pytest.mark.parametrize("name", ALL)
def test_one_image_is_taken(name):
    chosen = ALL[name](cloud("normal")[:1], 1)
    assert chosen.tolist() == [0]
    assert chosen.dtype == np.int64


@pytest.mark.parametrize("name", ("herding", "kcenter", "facility", "cut"))
def test_duplicates_come_last_where_they_add_nothing(name):
    points = np.repeat(cloud("normal")[:10], 2, axis=0)
    first = GREEDY[name](points, 10)
    if name in ("kcenter", "facility"):
        assert len(set(first // 2)) == 10
    assert len(set(first)) == 10


# --- what the orders are for ---


def mean_error(points, chosen):
    return np.linalg.norm(points[chosen].mean(0) - points.mean(0))


def test_herding_is_better_than_random_and_its_argmax_is_worse():
    points = cloud("relu")
    random = np.mean([mean_error(points, np.random.default_rng(s).permutation(N)[:10]) for s in range(20)])
    assert mean_error(points, herding(points, 10)) < 0.8 * random
    assert mean_error(points, naive_herding(points, 10, worst=True)) > 1.2 * random


def radius(points, chosen):
    return max(min(np.linalg.norm(x - points[c]) for c in chosen) for x in points)


def test_kcenter_covers_better_than_random_and_its_radius_falls():
    points = cloud("normal")
    order = kcenter(points, COUNT, 0)
    radii = [radius(points, order[:k]) for k in range(1, COUNT + 1)]
    assert radii == sorted(radii, reverse=True)
    assert radii[-1] < min(radius(points, np.random.default_rng(s).permutation(N)[:COUNT]) for s in range(20))


def test_graph_cut_falls_below_lam_2_and_is_filled_all_the_same():
    points = cloud("normal")[:40]
    similarity = 0.5 + 0.5 * naive_cosines(points)
    order = graph_cut(Similarity.of_features(points), 40, 1.0)
    values = [cut(similarity, 1.0)(order[:k].tolist()) for k in range(1, 41)]
    assert min(np.diff(values)) < 0
    assert sorted(order) == list(range(40))
    monotone = graph_cut(Similarity.of_features(points), 40, 2.0)
    assert min(np.diff([cut(similarity, 2.0)(monotone[:k].tolist()) for k in range(1, 41)])) > 0


# --- k-means ---


def test_kmeans_takes_one_image_of_each_group_the_largest_first():
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2, 3], [5, 40, 10, 25])
    points = (100 * np.eye(4)[groups] + rng.standard_normal((80, 4))).astype(np.float32)
    chosen = kmeans_medoids(points, 4, 3, 0)
    assert groups[chosen].tolist() == [1, 3, 2, 0]
    for image, group in zip(chosen, groups[chosen], strict=True):
        own = np.flatnonzero(groups == group)
        centre = points[own].astype(np.float64).mean(0)
        assert image == own[np.square(points[own] - centre).sum(1).argmin()]


def test_kmeans_gives_the_next_nearest_where_centres_share_one():
    points = np.array([[0.0], [0.0], [0.0], [9.0]], np.float32)
    assert sorted(kmeans_medoids(points, 3, 1, 0)) == [0, 1, 3]


def test_a_cluster_of_two_gives_its_first():
    """Both are as far from the middle, but for its last digit."""
    points = 10 * np.random.default_rng(0).standard_normal((60, 16)).astype(np.float32)
    points[1::2] = points[::2] + 0.1 * points[1::2]
    assert sorted(kmeans_medoids(points, 30, 10, 0)) == list(range(0, 60, 2))


# --- similarities ---


def some_features(n=30, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    features, logits = rng.standard_normal((n, 8)), 3 * rng.standard_normal((n, classes))
    return features.astype(np.float32), logits.astype(np.float32), rng.integers(classes, size=n)


def test_gradient_similarity_is_that_of_autograd():
    torch = pytest.importorskip("torch")
    features, logits, labels = some_features()
    gradients = []
    layer = torch.nn.Linear(8, 5).double()
    for h, z, y in zip(features, logits, labels, strict=True):
        with torch.no_grad():  # a bias that makes the layer give these logits
            layer.bias += torch.tensor(z).double() - layer(torch.tensor(h).double())
        loss = torch.nn.functional.cross_entropy(layer(torch.tensor(h).double()), torch.tensor(y))
        weight, bias = torch.autograd.grad(loss, (layer.weight, layer.bias))
        gradients.append(torch.cat([weight.flatten(), bias]).numpy())
    found = Similarity.of(Features(features, logits, labels), "gradients")
    np.testing.assert_allclose(found.matrix(), 0.5 + 0.5 * naive_cosines(np.array(gradients)), atol=1e-9)


@pytest.mark.parametrize("space", ["features", "gradients"])
def test_rows_and_sums_are_those_of_the_matrix(space):
    features, logits, labels = some_features()
    features[3] = 0
    similarity = Similarity.of(Features(features, logits, labels), space)
    matrix = similarity.matrix()
    np.testing.assert_allclose(similarity.sums(), matrix.sum(0), rtol=1e-12)
    np.testing.assert_allclose(similarity.to_itself(), np.diag(matrix), rtol=1e-12)
    np.testing.assert_allclose([similarity.row(i) for i in range(30)], matrix, rtol=1e-12)
    assert (matrix == matrix.T).all()
    assert similarity.to_itself()[3] == (0.5 if space == "features" else pytest.approx(1))


def test_gradients_keep_their_direction_where_the_network_is_certain():
    found = output_gradients(np.array([[90.0, 0.0, 1.0]], np.float32), np.array([0]))
    np.testing.assert_allclose(found, [[-np.exp(-89) - np.exp(-90), np.exp(-90), np.exp(-89)]], rtol=1e-6)


def test_unit_length_leaves_zero_alone():
    np.testing.assert_allclose(unit_length(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0.0, 0.0]])


def test_float32_distances_are_as_wrong_as_they_say_and_no_more():
    points = cloud("far")
    place = points[5].astype(np.float64) + 0.3
    found, error = Cloud(points).about(place)
    exact = np.square(points - place).sum(1)
    assert (abs(found - exact) <= error).all()
    assert abs(found - exact).max() > 0.01  # so that the comparison in float64 is needed


# --- CAL ---


def naive_contrast(features, logits, k):
    powers = np.exp(logits.astype(np.float64))
    p = powers / powers.sum(1, keepdims=True)
    scores = []
    for i, x in enumerate(features.astype(np.float64)):
        far = [np.linalg.norm(x - y) for y in features.astype(np.float64)]
        others = sorted((j for j in range(len(features)) if j != i), key=lambda j: far[j])[:k]
        both = [sum(0.5 * p[i] * np.log(p[i] / p[j]) + 0.5 * p[j] * np.log(p[j] / p[i])) for j in others]
        scores.append(np.mean(both))
    return scores


def test_contrast_is_its_definition():
    features, logits, _ = some_features()
    np.testing.assert_allclose(contrast(features, logits, 4), naive_contrast(features, logits, 4), rtol=1e-9)


def test_contrast_of_few_images_takes_all_others():
    features, logits, _ = some_features(4)
    np.testing.assert_allclose(contrast(features, logits, 10), naive_contrast(features, logits, 3), rtol=1e-9)
    assert contrast(features[:1], logits[:1], 10).tolist() == [0.0]


def test_contrast_is_finite_where_a_probability_is_zero():
    features, logits, _ = some_features()
    logits[0] = [5000, -5000, 0, 0, 0]
    scores = contrast(features, logits, 3)
    assert np.isfinite(scores).all()
    assert scores.argmax() == 0 or scores[0] > 1000


def test_contrast_is_large_at_the_boundary():
    """Two groups along a line, predicted by which side they lie on: those at the border contrast most."""
    line = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    logits = np.where(line > 0, [[4.0, 0.0]], [[0.0, 4.0]]).astype(np.float32)
    scores = contrast(line, logits, 5)
    assert set(np.flatnonzero(scores > 0)) <= set(range(15, 25))
    assert {19, 20} <= set(np.flatnonzero(scores > 0))

"""G-VBSM: published numbers, blocks class after class, data densification, running means over blocks, resuming."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax

from ddlight import data as datasets
from ddlight.core import artefact
from ddlight.core.errors import UsageError
from ddlight.methods.recovery import gvbsm
from ddlight.methods.recovery.edc import EDC
from ddlight.methods.recovery.engine.options import RecoveryOverride
from ddlight.methods.recovery.engine.statistics import SmoothedStatistics
from ddlight.methods.recovery.gvbsm import GVBSM, densification, together
from ddlight.networks.students import MLP
from ddlight.networks.teachers import Input, Teacher, TorchvisionTeacher
from ddlight.sets import store


def of_dataset(name, method=GVBSM, **options):
    """The method on a dataset of the table of which there are no files here."""
    return method(getattr(datasets, name)(), **options)


@pytest.fixture(autouse=True)
def seeded():
    """The same random views at every run."""
    torch.manual_seed(0)


# --- numbers and blocks ---

PUBLISHED = {
    "ImageNet1K": (4000, 0.1, 80, 0.01, 10, 0.08, (0, 32), 0.4, 0.0, 16),
    "ImageNette": (4000, 0.1, 100, 0.01, 10, 0.08, (0, 32), 0.4, 0.0, 16),
    "TinyImageNet": (4000, 0.05, 100, 0.01, 10, 0.0, (0, 32), 0.8, 0.4, 4),
    "CIFAR10": (4000, 0.05, 100, 0.01, 10, 0.0, (0, 31), 0.8, 0.4, 4),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers_are_the_defaults(name):
    data = of_dataset(name)
    n = data.numbers
    found = (n.iterations, n.lr, n.batch, n.stat_weight, n.first_weight, n.min_crop, n.shifts)
    assert (*found, data.used_momentum, data.dropped, data.gathered.patch) == PUBLISHED[name]
    assert (n.betas, n.var_weight, data.density, data.tau, data.carry_state) == ((0.5, 0.9), 1.0, 1.0, 4.0, False)


def test_given_numbers_go_before_published_ones():
    data = of_dataset("ImageNet1K", momentum=0.0, drop_rate=0.25, recovery=RecoveryOverride(batch=40))
    assert (data.used_momentum, data.dropped, data.numbers.batch) == (0.0, 0.25, 40)


@pytest.mark.parametrize("ipc", [1, 10, 50])
def test_blocks_go_through_all_images_class_after_class(ipc):
    data = of_dataset("ImageNet1K", ipc=ipc)
    images = [(c, k) for c in range(1000) for k in range(ipc)]
    blocks = data.blocks()
    assert [b.number for b in blocks] == list(range(-(-1000 * ipc // 80)))
    for block in blocks:
        here = images[80 * block.number : 80 * (block.number + 1)]
        assert data.labels(block).tolist() == [c for c, _ in here]
        assert data.places(block).tolist() == [c * ipc + k for c, k in here]
        assert block.classes == tuple(sorted({c for c, _ in here}))
    assert sum(len(data.labels(block)) for block in blocks) == 1000 * ipc


def test_eight_classes_of_ten_images_are_a_block():
    blocks = of_dataset("ImageNet1K").units()
    assert (len(blocks), blocks[1].classes, blocks[1].images) == (125, tuple(range(8, 16)), tuple(range(10)))
    assert len(of_dataset("ImageNet1K", carry_state=True).units()) == 1


def test_teachers_are_published_ones_or_trained():
    data = of_dataset("ImageNet1K")
    assert {type(t) for t in data.networks.ready_made} == {TorchvisionTeacher}
    assert [t.model for t in data.networks.ready_made] == [
        "resnet18",
        "mobilenet_v2",
        "efficientnet_b0",
        "shufflenet_v2_x0_5",
    ]
    assert {t.weights for t in data.networks.ready_made} == {"IMAGENET1K_V1"}
    large, small = (of_dataset(name).scoring_runs for name in ("ImageNette", "CIFAR10"))
    assert [getattr(r.student, "name", "resnet18") for r in large] == [t.model for t in data.networks.ready_made]
    assert [getattr(r.student, "norm", None) for r in small] == ["batch"] * 4


# --- data densification ---


@pytest.mark.parametrize(("side", "pooled"), [(8, 8), (64, 32), (48, 32)])
def test_densification_is_the_divergence_of_softened_eigenvalues(side, pooled):
    views = 0.05 * torch.randn(7, 3, side, side)
    labels, expected = torch.tensor([3, 1, 3, 1, 1, 3, 6]), 0.0
    small = torch.nn.AdaptiveAvgPool2d((pooled, pooled))(views).double().numpy().reshape(7, -1)
    for label in (1, 3, 6):
        rows = small[labels.numpy() == label]
        values = np.linalg.svd(rows, compute_uv=False) ** 2
        expected += rel_entr(softmax(values / 4.0), softmax(values)).sum()
    assert float(densification(views, together(labels), 4.0)) == pytest.approx(expected, rel=1e-3)
    assert expected > 1e-4


def test_a_class_of_one_view_and_eigenvalues_far_apart_add_nothing():
    assert float(densification(torch.randn(3, 1, 8, 8), together(torch.arange(3)), 4.0)) == 0
    views = (30 * torch.randn(4, 3, 32, 32)).requires_grad_(True)
    found = densification(views, together(torch.zeros(4, dtype=torch.long)), 4.0)
    (gradient,) = torch.autograd.grad(found, views)
    assert float(found.detach()) == 0 and torch.isfinite(gradient).all()


def test_no_gradient_flows_through_the_target():
    """The gradient is that of cross-entropy against a constant: d/de = softmax(e) - target."""
    views, labels = (0.1 * torch.randn(4, 1, 8, 8)).requires_grad_(True), torch.zeros(4, dtype=torch.long)
    (gradient,) = torch.autograd.grad(densification(views, together(labels), 4.0), views)
    rows = views.detach().double().numpy().reshape(4, -1)
    values, vectors = np.linalg.eigh(rows @ rows.T)
    slope = softmax(values) - softmax(values / 4)
    expected = 2 * (vectors * slope) @ vectors.T @ rows
    np.testing.assert_allclose(gradient.reshape(4, -1).numpy(), expected, rtol=0, atol=1e-4)
    assert np.allclose(log_softmax(values), np.log(softmax(values)))


def test_following_it_flattens_the_spectrum():
    views, labels = 0.15 * torch.randn(6, 1, 8, 8) + 0.15, torch.zeros(6, dtype=torch.long)

    def share(x):
        values = torch.linalg.eigvalsh(x.flatten(1) @ x.flatten(1).T)
        return float(values.max() / values.sum())

    moved = views.clone()
    for _ in range(30):
        moved.requires_grad_(True)
        (gradient,) = torch.autograd.grad(densification(moved, together(labels), 4.0), moved)
        moved = (moved - 0.05 * gradient).detach()
    assert share(moved) < 0.95 * share(views)


def test_it_is_a_term_of_the_loss_with_its_weight(make_matched, monkeypatch):
    seen, term = [], torch.tensor(3.0)
    monkeypatch.setattr(gvbsm, "densification", lambda *given: seen.append(given) or term)
    data = make_matched(GVBSM, ipc=5, numbers={"batch": 42, "iterations": 3}, density=0.5)
    data.condense()
    assert len(seen) == 6
    views, members, tau = seen[0]
    assert (views.shape, tau) == ((42, 1, 8, 8), 4.0)
    assert [m.tolist() for m in members] == [[[40, 41]], [list(range(5 * c, 5 * c + 5)) for c in range(8)]]
    step = SimpleNamespace(views=views)
    assert float(data.losses(data.blocks()[0])["density"](step)) == 1.5
    plain = make_matched(GVBSM, density=0.0)
    assert plain.losses(plain.blocks()[0]) == {}


# --- sets ---


def test_sets_have_all_images_class_after_class(make_matched):
    data = make_matched(GVBSM, ipc=3)
    stored = store.load(data.condense())
    assert stored.labels.tolist() == [c for c in range(10) for _ in range(3)]
    assert (stored.images.shape, stored.images.dtype) == ((30, 1, 8, 8), np.uint8)
    assert stored.manifest["statistics"] == [real.fingerprint for real in data.gathered.real]
    assert (len(stored.manifest["teachers"]), stored.manifest["source_images"]) == (2, 0)


def test_statistics_of_the_real_images_are_shared_by_sets(make_matched):
    data = make_matched(GVBSM)
    data.condense()
    other = make_matched(GVBSM, seed=1, ipc=1)
    assert all(real.exists for real in other.gathered.real)
    assert other.folder != data.folder


def noted(monkeypatch):
    """Running means at the first and after the last loss of each observer, by the statistics' own identity."""
    seen = {}
    loss = SmoothedStatistics.loss

    def noting(self, measured):
        begun = dict(self.running)
        found = loss(self, measured)
        seen.setdefault(id(self), [self, begun, None])[2] = dict(self.running)
        return found

    monkeypatch.setattr(SmoothedStatistics, "loss", noting)
    return seen


def same(first, second):
    """Whether two sets of running means are equal and not empty."""
    equal = (torch.equal(a, b) for k in first for a, b in zip(first[k], second[k], strict=True))
    return bool(first) and first.keys() == second.keys() and all(equal)


def test_running_means_begin_at_zero_with_every_block(make_matched, monkeypatch):
    seen = noted(monkeypatch)
    make_matched(GVBSM).condense()
    assert len(seen) == 8  # four blocks, two teachers
    assert all(begun == {} and after for _, begun, after in seen.values())


def test_running_means_go_on_where_state_is_carried(make_matched, monkeypatch):
    seen = noted(monkeypatch)
    options = {"drop_rate": 0.0}
    carried = store.load(make_matched(GVBSM, carry_state=True, **options).condense())
    records = list(seen.values())
    for k, (_, begun, _) in enumerate(records):
        assert begun == {} if k < 2 else same(begun, records[k - 2][2])
    reset = store.load(make_matched(GVBSM, **options).condense())
    np.testing.assert_array_equal(carried.labels, reset.labels)
    np.testing.assert_array_equal(carried.images[:6], reset.images[:6])
    assert (carried.images[6:] != reset.images[6:]).any()


@pytest.mark.parametrize("damaged", [False, True])
def test_a_carried_state_outlives_the_process(make_matched, stop_at, damaged):
    alone = make_matched(GVBSM, cache="alone", carry_state=True).condense()
    killed = make_matched(GVBSM, cache="killed", carry_state=True)
    made = stop_at(killed, 2)
    with pytest.raises(stop_at.Stop):
        killed.condense()
    assert made == [0, 1]
    (progress,) = killed.working.glob("*.progress")
    if damaged:
        progress.write_bytes(progress.read_bytes()[:-1] + b"?")
    resumed = make_matched(GVBSM, cache="killed", carry_state=True)
    rest = stop_at(resumed, None)
    folder = resumed.condense()
    assert rest == ([0, 1, 2, 3] if damaged else [2, 3])
    assert artefact.verify(folder)["content_sha256"] == artefact.verify(alone)["content_sha256"]


@pytest.mark.parametrize("method", [GVBSM, EDC])
def test_one_and_two_ranks_and_a_resumed_process_give_the_same_bytes(make_matched, stop_at, method):
    alone = make_matched(method, cache="alone").condense()
    ranks = [make_matched(method, cache="ranks") for _ in range(2)]
    threads = [threading.Thread(target=data.condense, args=(rank, 2)) for rank, data in enumerate(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    killed = make_matched(method, cache="killed")
    stop_at(killed, 2)
    with pytest.raises(stop_at.Stop):
        killed.condense()
    resumed = make_matched(method, cache="killed")
    rest = stop_at(resumed, None)
    hashes = {artefact.verify(folder)["content_sha256"] for folder in (alone, ranks[0].folder, resumed.condense())}
    assert len(hashes) == 1
    assert rest == [2, 3]


# --- errors ---


class Flat(Teacher):
    """A network without convolutions."""

    @property
    def _title(self):
        return "flat"

    def _open(self, num_classes):
        return MLP(8, 2).build(num_classes, 1, 8), Input((0.3,), (0.4,), 8)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"momentum": 1.0}, r"momentum is 1.0; allowed: 0 .* below 1"),
        ({"drop_rate": 1.0}, "drop_rate is 1.0; allowed: 0 or more, below 1"),
        ({"density": -1.0}, "density is 0 or more and tau above 0; given: density=-1.0"),
        ({"tau": 0.0}, "density is 0 or more and tau above 0; given: .*tau=0.0"),
        ({"teachers": []}, None),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make_matched, options, told):
    if told is None:
        assert len(make_matched(GVBSM, **options).scoring_runs) == 4  # an empty list is none given
        return
    with pytest.raises(UsageError, match=told):
        make_matched(GVBSM, **options)


def test_teachers_without_convolutions_are_refused(make_matched):
    with pytest.raises(
        UsageError, match=r"GVBSM matches inputs of BatchNorm layers and convolutions, and flat has none"
    ):
        make_matched(GVBSM, teachers=[Flat()]).condense()

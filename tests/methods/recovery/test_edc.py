"""EDC: published numbers, where images begin, flatness, statistics of classes, resuming, the student's schedule."""

import numpy as np
import pytest
import torch
from torch.nn.functional import softmax
from torchvision.transforms import functional

from ddlight import data as datasets
from ddlight.core import artefact
from ddlight.core.errors import UsageError
from ddlight.data import Digits
from ddlight.methods.patches.rded import RDED
from ddlight.methods.recovery.edc import EDC, Flatness, draw
from ddlight.methods.recovery.engine.options import RecoveryOverride
from ddlight.methods.recovery.engine.statistics import CategoryStatistics
from ddlight.recipes.plan import Setting
from ddlight.recipes.table import resolve
from ddlight.sets import store


def of_dataset(name, **options):
    """EDC on a dataset of the table of which there are no files here."""
    return EDC(getattr(datasets, name)(), **options)


# --- numbers ---

PUBLISHED = {
    ("ImageNet1K", "paper"): (2000, 0.05, 80, 0.1, 0.5, 0.8),
    ("ImageNet1K", "script"): (1000, 0.05, 80, 0.1, 0.5, 0.8),
    ("ImageNette", "paper"): (2000, 0.05, 100, 0.01, 0.5, 0.0),
    ("ImageNette", "script"): (50, 0.05, 100, 0.01, 0.5, 0.0),
    ("TinyImageNet", "paper"): (2000, 0.05, 100, 0.01, 0.5, 0.8),
    ("CIFAR100", "script"): (2000, 0.05, 100, 0.01, 0.5, 0.8),
    ("CIFAR10", "paper"): (75, 0.05, 100, 0.01, 0.08, 0.8),
}


@pytest.mark.parametrize(("name", "length"), PUBLISHED)
def test_published_numbers_are_the_defaults(name, length):
    data = of_dataset(name, length=length)
    n = data.numbers
    assert (n.iterations, n.lr, n.batch, n.stat_weight, n.min_crop, data.used_momentum) == PUBLISHED[name, length]
    assert (n.first_weight, n.shifts, n.betas) == (10.0, (0, 0), (0.5, 0.9))
    assert (data.category_share, data.flatness, data.init, data.category) == (0.5, 0.25, "mosaic", "mean")


def test_the_paper_is_the_default_and_alexnet_is_asked_too():
    data = of_dataset("ImageNet1K")
    assert (data.length, data.numbers.iterations, data.patch_targets) == ("paper", 2000, "right")
    names = ["resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "alexnet"]
    assert [t.model for t in data.networks.ready_made] == names
    assert data.start.patches.teacher is data.networks.ready_made[0]
    few = [run.student for run in of_dataset("ImageNette").scoring_runs]
    assert [getattr(student, "name", "resnet18") for student in few] == names[:4]


@pytest.mark.parametrize(("protocol", "epochs"), [("edc", 300), ("edc_in10", 1000)])
def test_the_students_rate_falls_along_the_smoothed_cosine(protocol, epochs):
    """Half a cosine that ends at half the peak (zeta 2); for ten classes linear from five sixths on."""
    plan = resolve(protocol, Setting(10 if protocol == "edc_in10" else 1000, 10), None, None)
    assert (plan.budget.epochs, plan.recipe.schedule.zeta) == (epochs, 2.0)
    for e in (0, epochs // 2, epochs * 4 // 5, epochs - 1):
        expected = 0.5 * (1 + np.cos(np.pi * e / (2 * epochs)))
        if protocol == "edc_in10" and e > 5 * epochs / 6:
            expected = 0.5 * (1 + np.cos(5 * np.pi / 12)) * (1 - e / epochs)
        assert plan.recipe.schedule.factor(e / epochs) == pytest.approx(expected, abs=1e-6)


# --- where images begin ---


def test_draws_are_uniform_with_replacement_or_prefer_what_was_drawn_less():
    rng = np.random.default_rng(0)
    uniform = np.bincount(draw(6000, 6, False, rng), minlength=6)
    assert uniform.min() > 850 and uniform.max() < 1150
    unique = [[len(set(draw(10, 10, balanced, rng))) for _ in range(400)] for balanced in (False, True)]
    assert np.mean(unique[0]) == pytest.approx(10 * (1 - 0.9**10), abs=0.2)  # 6.5 of 10
    assert np.mean(unique[1]) > np.mean(unique[0]) + 0.5
    second = np.mean([len(set(draw(2, 2, True, rng))) == 2 for _ in range(4000)])
    assert second == pytest.approx(1 / (1 + np.exp(-1)), abs=0.03)  # softmax of (-1, 0)


def begun(data):
    """First images of all blocks as bytes, before anything moves them."""
    data.prepare()
    return np.concatenate([np.rint(as_bytes(data, block)) for block in data.blocks()]).astype(int)


def as_bytes(data, block):
    """A block's first images, in grey levels."""
    mean, std = data.dataset.info.mean[0], data.dataset.info.std[0]
    return (data.initial(block).numpy() * std + mean) * 255


def test_images_begin_as_mosaics_of_their_class(make_matched, teacher):
    data = make_matched(EDC, ipc=4, numbers={"batch": 6})
    found = begun(data)
    mosaics = RDED(Digits(size=8), 4, 0, data.cache, teacher=teacher)
    assert mosaics.folder == data.start.patches.folder and artefact.is_sealed(mosaics.folder)
    stored = store.load(mosaics.folder)
    for label in range(10):
        rows, mirrored = data.start.drawn(label, 4)
        assert not mirrored.any()  # digits are not
        expected = stored.images[stored.labels == label][rows]
        np.testing.assert_array_equal(found[4 * label : 4 * label + 4], expected)
    assert artefact.read_manifest(data.condense())["source_images"] == 40


class Mirrored(Digits):
    """Digits that may be mirrored."""

    @property
    def info(self):
        from dataclasses import replace

        return replace(super().info, flip=True)


def test_images_that_may_be_are_mirrored_one_by_one(home, teacher):
    data = EDC(Mirrored(size=8), 4, teachers=[teacher], init="real", recovery=RecoveryOverride(iterations=1))
    found, train = begun(data), data.dataset.split("train")
    turned = 0
    for label in range(10):
        pool = np.flatnonzero(train.labels == label)
        rows, mirrored = data.start.drawn(label, len(pool))
        for k in range(4):
            image = torch.tensor(train.images[pool[rows[k]]])
            expected = functional.hflip(image) if mirrored[k] else image
            np.testing.assert_array_equal(found[4 * label + k], expected.numpy())
        turned += mirrored.sum()
    assert 10 < turned < 30


def test_an_image_begins_alike_whatever_its_block(make_matched):
    first, second = (begun(make_matched(EDC, ipc=3, numbers={"batch": b})) for b in (4, 30))
    np.testing.assert_array_equal(first, second)
    assert (begun(make_matched(EDC, ipc=3, seed=1, numbers={"batch": 30})) != second).any()


# --- flatness ---


def test_flatness_compares_with_the_running_mean_of_the_images(make_matched, monkeypatch):
    """Against a loop that keeps the running mean itself and asks the teachers, which have no hooks."""
    seen = []
    call = Flatness.__call__

    def noting(self, step):
        running = dict(step.observer.statistics.running)
        found = call(self, step)
        after = step.observer.statistics.running
        assert running.keys() == after.keys() and all(running[k] is after[k] for k in running)
        seen.append((step, step.images.detach().clone(), float(found.detach()), found.requires_grad))
        return found

    monkeypatch.setattr(Flatness, "__call__", noting)
    data = make_matched(EDC, ipc=1, numbers={"batch": 10, "iterations": 6, "lr": 0.5}, flatness=0.7)
    data.condense()
    assert len(seen) == 6
    mean, info = seen[0][1], data.dataset.info
    for t, (step, images, found, graded) in enumerate(seen):
        pixels = [step.view(x) * info.std[0] + info.mean[0] for x in (images, mean)]
        now, before = (softmax(data.loaded_teachers[t % 2].logits(x) / 4, 1).double() for x in pixels)
        expected = 0.7 * float((before * (before / now).log()).sum(1).mean())
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-6) and graded
        mean = 0.99 * mean + 0.01 * images
    assert seen[0][2] == pytest.approx(0, abs=1e-6) and seen[-1][2] > 1e-3


def test_flatness_can_be_left_out_and_begins_anew_with_each_block(make_matched):
    data = make_matched(EDC)
    first, second = (data.losses(block)["flatness"] for block in data.blocks()[:2])
    assert first is not second and first.images is None
    assert (first.weight, first.beta, first.tau) == (0.25, 0.99, 4.0)
    plain = make_matched(EDC, flatness=0.0)
    assert plain.losses(plain.blocks()[0]) == {}
    assert plain.operations() < data.operations()


# --- statistics of classes ---


def test_blocks_aim_at_their_own_classes(make_matched):
    """Images of classes 1, 1, 2, 2, 2, 3 in a block: their rows, weighted by how often they occur."""
    data = make_matched(EDC, ipc=3, numbers={"batch": 6})
    data.prepare()
    data.places = lambda block: np.array([4, 5, 6, 7, 8, 9])
    block = data.blocks()[1]
    for number, observer in enumerate(data.observers(block)):
        aims, real = observer.statistics, data.gathered.real[number]
        assert isinstance(aims, CategoryStatistics)
        assert (aims.share, aims.momentum, aims.first, aims.patch) == (0.5, 0.8, 10.0, 4)
        rows = real.of_classes(np.array([1, 2, 3]), data.device)
        for layer, found in aims.categories.items():
            for place, value in enumerate(found):
                one, two, three = rows[layer][place]
                torch.testing.assert_close(value, (2 * one + 3 * two + three) / 6, rtol=1e-5, atol=1e-6)
        for layer, found in real.of_all(data.device).items():
            assert all(torch.equal(a, b) for a, b in zip(found, aims.real[layer], strict=True))


def test_patch_targets_can_be_swapped_as_in_the_code(make_matched):
    right, swapped = (make_matched(EDC, patch_targets=way) for way in ("right", "swapped"))
    sets = [artefact.verify(data.condense())["content_sha256"] for data in (right, swapped)]
    block = right.blocks()[0]
    a, b = (data.observers(block)[0].statistics for data in (right, swapped))
    for layer, found in a.categories.items():
        other = b.categories[layer]
        order = [0, 1, 3, 2] if a.by_patches(layer) else [0, 1]
        assert len(found) == len(order)
        assert all(torch.equal(found[k], other[place]) for place, k in enumerate(order))
        assert all(torch.equal(x, y) for x, y in zip(a.real[layer], b.real[layer], strict=True))
    assert len(set(sets)) == 2


# --- sets ---


@pytest.mark.parametrize(
    "options", [{}, {"category": "classes"}, {"init": "real"}, {"draw": "balanced"}, {"category_share": 0.0}], ids=str
)
def test_options_make_other_sets_of_the_same_labels(make_matched, options):
    data = make_matched(EDC, **options)
    stored = store.load(data.condense())
    assert stored.labels.tolist() == [c for c in range(10) for _ in range(2)]
    assert ("mosaics" in stored.manifest) == (data.init == "mosaic")
    if options:
        plain = store.load(make_matched(EDC).condense())
        assert data.fingerprint != plain.manifest["fingerprint"] and (stored.images != plain.images).any()


def test_carried_means_are_one_unit_that_goes_on_after_a_kill(make_matched, stop_at):
    alone = make_matched(EDC, cache="alone", carry_state=True).condense()
    killed = make_matched(EDC, cache="killed", carry_state=True)
    assert len(killed.units()) == 1
    stop_at(killed, 3)
    with pytest.raises(stop_at.Stop):
        killed.condense()
    resumed = make_matched(EDC, cache="killed", carry_state=True)
    rest = stop_at(resumed, None)
    assert artefact.verify(resumed.condense())["content_sha256"] == artefact.verify(alone)["content_sha256"]
    assert rest == [3]
    reset = make_matched(EDC, cache="alone").condense()
    assert artefact.verify(reset)["content_sha256"] != artefact.verify(alone)["content_sha256"]


def test_images_are_moved_towards_what_the_networks_know(make_matched, teacher):
    scores = []
    for iterations in (1, 150):
        numbers = {"batch": 20, "iterations": iterations, "min_crop": 0.0, "lr": 0.1}
        stored = store.load(make_matched(EDC, numbers=numbers, teachers=[teacher]).condense())
        logits = teacher.logits(torch.from_numpy(stored.images).float() / 255)
        scores.append(float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(stored.labels))))
    assert scores[1] < 0.85 * scores[0]


# --- errors ---


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"category_share": 1.5}, "category_share is 0 to 1 and flatness 0 or more; given: category_share=1.5"),
        ({"flatness": -1.0}, "category_share is 0 to 1 and flatness 0 or more; given: .*flatness=-1.0"),
        ({"momentum": -0.1}, "momentum is -0.1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make_matched, options, told):
    with pytest.raises(UsageError, match=told):
        make_matched(EDC, **options)


def test_more_images_than_there_are_to_begin_with_are_refused_before_anything_is_made(make_matched):
    data = make_matched(EDC, ipc=1000)
    with pytest.raises(UsageError, match=r"ipc=1000 takes 1000 different images of each class.*--data.ipc="):
        data.condense()
    assert not list(data.gathered.real[0].place.glob("*"))

"""Statistics of convolutions, patches and classes against plain loops in numpy; running means; what is left out."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import functional

from ddlight.methods.images import NormalisedSpace
from ddlight.methods.recovery.engine.observer import Observer
from ddlight.methods.recovery.engine.statistics import (
    CategoryStatistics,
    EachImage,
    LayerInputs,
    SmoothedStatistics,
    Statistics,
    packed,
    patch_statistics,
    unpack,
)
from ddlight.networks.students import ConvNet

CPU = torch.device("cpu")
SPACE = NormalisedSpace((0.5,) * 3, (0.25,) * 3)
PATCH = 4


def rows_of(values):
    """Mean and biased variance of each row."""
    return [np.array([row.mean() for row in values]), np.array([((row - row.mean()) ** 2).mean() for row in values])]


def patches_by_hand(maps, side):
    """Mean and variance of every patch's place, one place after another."""
    height, width = (-(-n // side) * side for n in maps.shape[2:])
    resized = functional.resize(maps.detach(), [height, width], antialias=False).double().numpy()
    places = [(i, j) for i in range(0, height, side) for j in range(0, width, side)]
    return rows_of([resized[:, :, i : i + side, j : j + side].ravel() for i, j in places])


def by_hand(network, images, side=PATCH):
    """Statistics of what enters each BatchNorm layer and convolution, walking through a ConvNet: lists of arrays."""
    found, maps = [], images
    for layer in network.features:
        if isinstance(layer, nn.BatchNorm2d | nn.Conv2d):
            channels = rows_of(maps.detach().double().numpy().transpose(1, 0, 2, 3).reshape(maps.shape[1], -1))
            patches = patches_by_hand(maps, side) if isinstance(layer, nn.Conv2d) else []
            found.append([*channels, *patches])
        maps = layer(maps)
    return found


def norm(a, b):
    """Length of a difference."""
    return np.sqrt(((np.asarray(a) - np.asarray(b)) ** 2).sum())


def distance(found, target, var_weight=1.0):
    """Norms of means, and of variances with their weight, added up."""
    return sum(norm(a, b) * (var_weight if k % 2 else 1) for k, (a, b) in enumerate(zip(found, target, strict=True)))


@pytest.fixture
def real(untrained):
    """A teacher, and what made-up real images give in its layers."""
    teacher = untrained(ConvNet(3, 6, "batch"))
    return teacher, by_hand(teacher.network, 2 * torch.randn(9, 3, 16, 16))


def as_tensors(statistics):
    """By layer number, float32."""
    return {k: tuple(torch.tensor(np.asarray(v), dtype=torch.float32) for v in s) for k, s in enumerate(statistics)}


def targets(teacher, real):
    """What each layer aims at: running statistics of BatchNorm, the real images' elsewhere."""
    layers = [m for m in teacher.network.features if isinstance(m, nn.BatchNorm2d | nn.Conv2d)]
    running = [
        [m.running_mean.numpy(), m.running_var.numpy()] if isinstance(m, nn.BatchNorm2d) else None for m in layers
    ]
    return [r or s for r, s in zip(running, real, strict=True)]


def smoothed(teacher, real, momentum=0.4, drop_rate=0.0, rng=None, first=10.0, var_weight=1.0):
    """An observer with running means."""
    options = {"real": as_tensors(real), "momentum": momentum, "drop_rate": drop_rate, "rng": rng}
    return Observer(teacher, SPACE, CPU, lambda n: SmoothedStatistics(n, first, var_weight, PATCH, **options))


# --- patches ---


@pytest.mark.parametrize(("height", "width", "side"), [(8, 8, 4), (6, 7, 4), (3, 2, 4), (9, 16, 8)])
def test_patches_are_those_of_a_plain_loop(height, width, side):
    maps = torch.randn(5, 3, height, width)
    for found, expected in zip(patch_statistics(maps, side), patches_by_hand(maps, side), strict=True):
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("size", "count"), [(224, 196), (112, 49), (56, 16), (28, 4), (16, 1), (7, 1)])
def test_photographs_have_the_published_number_of_patches(size, count):
    assert [len(s) for s in patch_statistics(torch.zeros(1, 1, size, size), 16)] == [count, count]


def test_each_image_by_itself(untrained):
    teacher, images = untrained(ConvNet(2, 6, "batch")), torch.randn(4, 3, 16, 16)
    _, measured = Observer(teacher, SPACE, CPU, lambda n: EachImage(n, patch=PATCH))(images)
    for row in range(4):
        for layer, expected in enumerate(by_hand(teacher.network, images[row : row + 1])):
            assert len(measured[layer]) == len(expected) == (4 if layer % 2 == 0 else 2)
            for found, value in zip(measured[layer], expected, strict=True):
                np.testing.assert_allclose(found[row].numpy(), value, rtol=0, atol=1e-4)


# --- running means ---


@pytest.mark.parametrize("momentum", [0.0, 0.4, 0.8])
def test_the_loss_is_that_of_running_means_from_zero(real, momentum):
    teacher, statistics = real
    observer, aims = smoothed(teacher, statistics, momentum, first=10.0, var_weight=2.0), targets(teacher, statistics)
    means = [[0.0 * np.asarray(v) for v in s] for s in statistics]
    for _ in range(4):
        images = torch.randn(5, 3, 16, 16)
        found = by_hand(teacher.network, images)
        means = [
            [momentum * m + (1 - momentum) * s for m, s in zip(*layer, strict=True)]
            for layer in zip(means, found, strict=True)
        ]
        expected = sum((10 if k == 0 else 1) * distance(m, aims[k], 2.0) for k, m in enumerate(means))
        assert float(observer.statistics.loss(observer(images)[1])) == pytest.approx(expected, rel=1e-4)


def test_the_first_layer_is_the_first_convolution(real):
    teacher, statistics = real
    found = [smoothed(teacher, statistics, first=first).statistics for first in (10.0, 1.0)]
    assert isinstance(found[0].matched[0], nn.Conv2d) and len(found[0].matched) == 6
    measured = LayerInputs(teacher.network, patch=PATCH).measure(0, torch.randn(5, 3, 16, 16))
    assert float(found[0].loss({0: measured})) == pytest.approx(10 * float(found[1].loss({0: measured})), rel=1e-6)


def test_without_momentum_batch_norm_layers_give_the_plain_loss(real):
    teacher, statistics = real
    images = torch.randn(5, 3, 16, 16)
    observer, plain = (
        smoothed(teacher, statistics, 0.0, first=1.0),
        Observer(teacher, SPACE, CPU, lambda n: Statistics(n, 1.0)),
    )
    norms = {k: s for k, s in observer(images)[1].items() if not observer.statistics.by_patches(k)}
    expected = plain.statistics.loss(plain(images)[1])
    torch.testing.assert_close(observer.statistics.loss(norms), expected, rtol=1e-5, atol=0)


def test_the_gradient_is_that_of_the_images_at_hand(real):
    """As if the running mean were moved by the whole change of the batch's statistics."""
    teacher, statistics = real
    observer, aims = smoothed(teacher, statistics, 0.8), as_tensors(targets(teacher, statistics))
    observer.statistics.loss(observer(torch.randn(5, 3, 16, 16))[1])
    before = dict(observer.statistics.running)
    images = torch.randn(5, 3, 16, 16, requires_grad=True)
    measured = observer(images)[1]
    (gradient,) = torch.autograd.grad(observer.statistics.loss(measured), images)
    total = 0
    for k, s in observer(images)[1].items():
        for old, value, aim in zip(before[k], s, aims[k], strict=True):
            shifted = (0.8 * old + 0.2 * value).detach() + value - value.detach()
            total = total + (10 if k == 0 else 1) * (shifted - aim).pow(2).sum().sqrt()
    (expected,) = torch.autograd.grad(total, images)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_convolutions_are_left_out_as_drawn_and_norms_are_not(real):
    teacher, statistics = real
    observer = smoothed(teacher, statistics, 0.5, 0.4, np.random.default_rng(7))
    drawn = np.random.default_rng(7)
    kept, aims, means = [], targets(teacher, statistics), {}
    for _ in range(12):
        images = torch.randn(3, 3, 16, 16)
        total, found = 0.0, by_hand(teacher.network, images)
        for k, s in enumerate(found):
            if k % 2 == 0 and drawn.random() < 0.4:
                kept.append(0)
                continue
            kept += [1] * (k % 2 == 0)
            means[k] = [0.5 * m + 0.5 * v for m, v in zip(means.get(k, [0] * len(s)), s, strict=True)]
            total += (10 if k == 0 else 1) * distance(means[k], aims[k])
        assert float(observer.statistics.loss(observer(images)[1])) == pytest.approx(total, rel=1e-4)
    assert 0.3 < np.mean(kept) < 0.9


def test_running_means_can_be_packed_and_unpacked(real):
    teacher, statistics = real
    first, second = ([smoothed(teacher, statistics).statistics for _ in range(2)] for _ in range(2))
    measure = LayerInputs(teacher.network, patch=PATCH).measure
    first[0].loss({0: measure(0, torch.randn(5, 3, 16, 16)), 1: measure(1, torch.randn(5, 6, 16, 16))})
    first[1].loss({4: measure(4, torch.randn(5, 6, 4, 4))})
    unpack(packed(first), second, CPU)
    assert [sorted(s.running) for s in second] == [[0, 1], [4]]
    for a, b in zip(first, second, strict=True):
        for layer, means in a.running.items():
            assert len(means) == len(b.running[layer])
            assert all(torch.equal(m, n) for m, n in zip(means, b.running[layer], strict=True))
    unpack({}, second, CPU)
    assert sorted(second[0].running) == [0, 1]


# --- classes ---

LABELS = torch.tensor([2, 2, 2, 4, 7, 7])


@pytest.fixture
def classes(real):
    """Build an observer of images with the labels above, and what their classes give: classes(share, each)."""
    teacher, statistics = real
    of_class = [by_hand(teacher.network, torch.randn(3, 3, 16, 16) + c) for c in range(3)]
    rows = {k: [np.stack([s[k][place] for s in of_class]) for place in range(len(s))] for k, s in enumerate(statistics)}

    def build(share, each, momentum=0.8):
        def measure(network):
            options = {"real": as_tensors(statistics), "momentum": momentum, "share": share, "each": each}
            categories = as_tensors([rows[k] for k in range(6)])
            return CategoryStatistics(network, 10.0, 1.0, PATCH, labels=LABELS, categories=categories, **options)

        return Observer(teacher, SPACE, CPU, measure), rows

    return build


def test_all_images_are_matched_with_the_mean_of_their_classes(real, classes):
    teacher, statistics = real
    (observer, rows), aims = classes(0.3, False), targets(teacher, statistics)
    means = [[0.0 * np.asarray(v) for v in s] for s in statistics]
    for _ in range(3):
        images, expected = torch.randn(6, 3, 16, 16), 0.0
        for k, found in enumerate(by_hand(teacher.network, images)):
            means[k] = [0.8 * m + 0.2 * s for m, s in zip(means[k], found, strict=True)]
            own = [(3 * s[0] + s[1] + 2 * s[2]) / 6 for s in rows[k]]
            expected += (10 if k == 0 else 1) * (0.7 * distance(means[k], aims[k]) + 0.3 * distance(means[k], own))
        assert float(observer.statistics.loss(observer(images)[1])) == pytest.approx(expected, rel=1e-4)


def test_images_of_each_class_are_matched_with_their_own(real, classes):
    teacher, statistics = real
    (observer, rows), aims = classes(0.5, True, 0.0), targets(teacher, statistics)
    images, expected = torch.randn(6, 3, 16, 16), 0.0
    whole = by_hand(teacher.network, images)
    parts = [by_hand(teacher.network, images[c == LABELS]) for c in (2, 4, 7)]
    for k, found in enumerate(whole):
        own = sum(distance(part[k], [s[c] for s in rows[k]]) for c, part in enumerate(parts))
        expected += (10 if k == 0 else 1) * (0.5 * distance(found, aims[k]) + 0.5 * own)
    assert float(observer.statistics.loss(observer(images)[1])) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("each", [False, True])
def test_without_a_share_classes_do_not_count(real, classes, each):
    teacher, statistics = real
    images = torch.randn(6, 3, 16, 16)
    observer, plain = classes(0.0, each)[0], smoothed(teacher, statistics, 0.8)
    expected = plain.statistics.loss(plain(images)[1])
    torch.testing.assert_close(observer.statistics.loss(observer(images)[1]), expected, rtol=1e-6, atol=0)

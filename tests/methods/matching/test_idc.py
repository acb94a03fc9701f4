"""IDC: tiles, distances, augmentation, networks that learn from real images."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.nn.functional import cross_entropy

from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.data import CIFAR10, MNIST, Digits, FashionMNIST
from ddlight.methods.matching.idc import IDC, MultiFormation, augmented, kernel_distance
from ddlight.networks.students import ConvNet
from ddlight.sets import store

SHORT = {"inner": 2, "batch_real": 4, "real_images": 20, "iterations": 1}


def test_tiles_are_cut_row_by_row_and_resized():
    pixels = torch.rand(3, 2, 8, 8)
    images = MultiFormation(pixels, 2, (0.5, 0.4), (0.2, 0.3))
    whole = images.decoded()
    for n, (row, column) in [(0, (0, 0)), (1, (0, 4)), (2, (4, 0)), (3, (4, 4))]:
        tile = pixels[1, :, row : row + 4, column : column + 4]
        expected = F.interpolate(tile[None], size=8, mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(whole[4 + n], expected)
    torch.testing.assert_close(images(slice(1, 2))[:, 1], (whole[4:8, 1] - 0.4) / 0.3)
    torch.testing.assert_close(images.kept(), whole)


def test_sides_that_are_no_multiple_are_filled_with_grey():
    pixels = torch.zeros(1, 1, 8, 8)
    last = MultiFormation(pixels, 3, (0.0,), (1.0,)).decoded()[8]  # tiles of 3 pixels: the last has one column of grey
    assert len(MultiFormation(pixels, 3, (0.0,), (1.0,)).decoded()) == 9
    assert last[0, 0, 0] == 0 and last[0, -1, -1] == 0.5


def test_images_begin_as_mosaics_of_different_real_ones(make):
    data = make(IDC, ipc=3)
    pixels, info = data.begin().images.pixels.detach(), data.dataset.info
    assert pixels.shape == (30, 1, 8, 8) and 0 <= float(pixels.min()) <= float(pixels.max()) <= 1
    split = data.dataset.split("train")
    small = F.interpolate(torch.from_numpy(split.images[split.labels == 7]) / 255, size=4, mode="bilinear")
    tiles = pixels[21:24].unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(12, 1, 4, 4)
    apart = (tiles[:, None] - small[None]).abs().amax((2, 3, 4))
    assert (apart.amin(1) < 1e-5).all() and info.channels == 1
    order = data.real.rows[7][apart.argmin(1).numpy()]
    drawn = generator(0, "matching real", 7).choice(data.real.rows[7], 12, replace=False)
    np.testing.assert_array_equal(split.images[order], split.images[drawn])


@pytest.mark.parametrize("metric", ["l1", "mse"])
def test_the_distance_is_of_kernels_alone(metric):
    torch.manual_seed(0)
    network = ConvNet(1, 4).build(3, 1, 8)
    one, other = (tuple(torch.randn_like(p) for p in network.parameters()) for _ in range(2))
    kernels = [(a - b).numpy().ravel() for a, b in zip(one, other, strict=True) if a.shape == (4, 1, 3, 3)]
    expected = np.abs(kernels[0]).sum() if metric == "l1" else (kernels[0] ** 2).sum()
    assert float(kernel_distance(one, other, metric)) == pytest.approx(expected, rel=1e-5)


def test_a_round_moves_one_class_after_another(make):
    data = make(IDC, **{**SHORT, "inner": 1}, dsa="none", factor=1, lr=0.01)
    learned, network = data.begin(), data.fresh(0)
    pixels, velocity = learned.images.pixels.detach().clone(), torch.zeros(20, 1, 8, 8)
    mean, std = data.dataset.info.mean[0], data.dataset.info.std[0]
    weights = list(network.parameters())
    for c in range(10):
        rng = generator(0, "idc step", 0, 0, c)
        real, images = data.real.draw(c, 4, rng), pixels.clone().requires_grad_(True)
        target = [torch.full((n,), c) for n in (4, 2)]
        goal = torch.autograd.grad(cross_entropy(network(real), target[0]), weights)[0]
        own = cross_entropy(network((images[2 * c : 2 * c + 2] - mean) / std), target[1])
        distance = (torch.autograd.grad(own, weights, create_graph=True)[0] - goal).abs().sum()
        velocity = 0.5 * velocity + torch.autograd.grad(distance, images)[0]
        pixels = pixels - 0.01 * velocity
    data.step(learned, 0)
    torch.testing.assert_close(learned.images.pixels.detach(), pixels.clamp(0, 1), rtol=1e-4, atol=1e-5)


def test_named_flips_colour_and_cutout_are_always_applied_and_shared():
    images = torch.rand(5, 3, 8, 8)
    same = augmented(images[:1].repeat(5, 1, 1, 1), "color_crop_cutout", generator(0, "a"), shared=True)
    torch.testing.assert_close(same, same[:1].repeat(5, 1, 1, 1))
    cut = augmented(torch.ones(5, 3, 8, 8), "cutout_scale", generator(0, "b"), shared=False)
    assert all((image == 0).any() for image in cut)
    assert not torch.equal(cut[0], cut[1])


def test_networks_learn_from_real_images(make):
    data = make(IDC, real_images=1000)
    network = data.fresh(0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    images, labels = data.real.take(np.arange(300)), data.dataset.index("train").labels[:300]
    before = float((network(images).argmax(1).numpy() == labels).mean())
    for round_ in range(3):
        data._train(network, optimizer, 0, round_)
    assert float((network(images).argmax(1).numpy() == labels).mean()) > before + 0.3


def test_the_set_is_what_students_see(make):
    data = make(IDC, **SHORT)
    stored = store.load(data.condense())
    assert stored.images.shape == (80, 1, 8, 8) and data.expected_images == 80
    assert stored.images.min() >= 0 and stored.images.max() <= 1
    assert stored.labels.tolist() == np.arange(10).repeat(8).tolist()
    assert (stored.manifest["space"], stored.manifest["factor"], stored.manifest["stored_images"]) == ("pixel", 2, 20)


def test_numbers_are_published(home):
    grey, colour, digits = IDC(FashionMNIST()), IDC(CIFAR10(), ipc=50), IDC(MNIST())
    assert (grey.distance, grey.trained_on, grey.mixes, grey.ops) == ("l1", 500, True, "color_crop_cutout")
    assert (colour.distance, colour.trained_on) == ("mse", 2000)
    assert (digits.mixes, digits.ops) == (False, "color_crop")
    assert [data.numbers.lr for data in (grey, colour, digits)] == pytest.approx([7.65625e-5, 0.025, 1e-4])
    with pytest.raises(UsageError, match="factor is 17; images of 32 pixels allow 1 to 16"):
        IDC(Digits(), factor=17)
    with pytest.raises(UsageError, match="ipc=200 is more than"):
        IDC(Digits(), ipc=50).prepare()

"""The pass over the real images against one written out with torchvision and numpy; one folder for all who ask."""

import threading

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import functional

from ddlight.core import artefact
from ddlight.core.errors import DataError
from ddlight.core.randomness import generator
from ddlight.data import Digits
from ddlight.methods.recovery.engine import gathered
from ddlight.methods.recovery.engine.gathered import RealStatistics
from ddlight.networks.students import ConvNet
from ddlight.networks.teachers import Input
from ddlight.views.crop import CROP_UNIFORMS, crop_boxes

CPU = torch.device("cpu")


class FewDigits(Digits):
    """Digits of 8 pixels, a few of each class and not equally many; mirrored unless told otherwise."""

    flips = True

    @property
    def info(self):
        from dataclasses import replace

        return replace(super().info, flip=self.flips)

    def _read(self, name):
        found = super()._read(name)
        if "train" in found:
            train = found["train"]
            rows = np.concatenate([np.flatnonzero(train.labels == c)[: 3 + c] for c in range(10)])
            found["train"] = train.take(np.sort(rows))
        return found


@pytest.fixture
def real(tmp_path, untrained, monkeypatch):
    """Build the statistics of a teacher of grey images: real(size=8, cache="cache")."""
    monkeypatch.setattr(gathered, "eval_batch", lambda info: 4)

    class Ten(untrained):
        def load(self, num_classes, channels, size, *names):
            super().load(10, channels, size)

    def build(size=8, cache="cache", seed=0, data=None, photographs=False):
        monkeypatch.setattr(gathered, "LARGE", 8 if photographs else 9)
        teacher = Ten(ConvNet(2, 5, "batch"), 1, size, Input((0.2,), (0.4,), size), seed)
        return RealStatistics(teacher, data or FewDigits(size=8), tmp_path / cache, 4)

    return build


def views(real, label, photographs=False):
    """A class's images as torchvision cuts them, or as slices of a frame of zeros, normalised."""
    dataset, size = real.dataset, real.teacher.input.size
    rows = np.flatnonzero(dataset.index("train").labels == label)
    u = generator(0, "real statistics", label).random((len(rows), CROP_UNIFORMS + 1))
    seen = []
    for row, draws in zip(rows, u, strict=True):
        image = torch.from_numpy(dataset.take("train", np.array([row])))
        if photographs:
            top, left, height, width = crop_boxes(draws[:-1], 8, (0.08, 1.0)).tolist()
        else:  # one pixel is an eighth of the side
            image = torch.from_numpy(np.pad(image.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1))))
            top, left, height, width = int(3 * draws[0]), int(3 * draws[1]), 8, 8
        view = functional.resized_crop(image, top, left, height, width, [size, size], antialias=True)
        view = functional.hflip(view) if draws[-1] < 0.5 and dataset.flips else view
        seen.append((view.float() / 255 - 0.2) / 0.4)
    return torch.cat(seen)


def inputs(network, images):
    """What enters each layer that counts: (layer, maps in numpy)."""
    maps = images
    for layer in network.features:
        if isinstance(layer, nn.BatchNorm2d | nn.Conv2d):
            yield layer, maps.double().numpy()
        maps = layer(maps)


def groups(layer, maps, side=4):
    """Pixels that a statistic is taken over: those of each channel, and for a convolution those of each patch."""
    found = [[maps[:, c] for c in range(maps.shape[1])]]
    if isinstance(layer, nn.Conv2d):
        size = -(-maps.shape[2] // side) * side
        wide = functional.resize(torch.from_numpy(maps), [size, size], antialias=False).numpy()
        found.append(
            [wide[..., i : i + side, j : j + side] for i in range(0, size, side) for j in range(0, size, side)]
        )
    return found


@pytest.mark.parametrize(("size", "photographs"), [(8, False), (12, False), (8, True), (12, True)])
def test_statistics_are_those_of_a_plain_loop(real, size, photographs):
    one = real(size, photographs=photographs)
    one.ensure()
    network, all_views = one.teacher.network, {c: views(one, c, photographs) for c in range(10)}
    found = one.of_all(CPU)
    for k, (layer, maps) in enumerate(inputs(network, torch.cat(list(all_views.values())))):
        for place, parts in enumerate(groups(layer, maps)):
            np.testing.assert_allclose(found[k][2 * place], [p.mean() for p in parts], rtol=0, atol=2e-3)
            np.testing.assert_allclose(found[k][2 * place + 1], [p.var() for p in parts], rtol=2e-2, atol=2e-3)
    chosen = one.of_classes(np.array([3, 7, 4]), CPU)
    for row, label in enumerate((3, 7, 4)):
        for k, (layer, maps) in enumerate(inputs(network, all_views[label])):
            each = [groups(layer, maps[i : i + 1]) for i in range(len(maps))]
            for place in range(len(each[0])):
                means = np.mean([[p.mean() for p in image[place]] for image in each], 0)
                variances = np.mean([[p.var() for p in image[place]] for image in each], 0)
                np.testing.assert_allclose(chosen[k][2 * place][row], means, rtol=0, atol=2e-3)
                np.testing.assert_allclose(chosen[k][2 * place + 1][row], variances, rtol=2e-2, atol=2e-3)


def test_the_pass_is_made_once_and_found_by_name(real, monkeypatch):
    first = real()
    assert not first.exists
    folder = first.ensure()
    seen = []
    monkeypatch.setattr(RealStatistics, "views", lambda self, label: seen.append(label) or iter(()))
    again = real(data=FewDigits(size=8))
    assert again.exists and again.ensure() == folder
    assert not seen
    assert artefact.read_manifest(folder)["images"] == sum(range(3, 13))
    assert len({first.fingerprint, real(seed=1).fingerprint, real(size=12).fingerprint}) == 3
    assert real(photographs=True).fingerprint != first.fingerprint


def test_a_stopped_pass_goes_on_and_two_processes_share_it(real, monkeypatch):
    alone, seen, views_of = real(cache="alone"), [], RealStatistics.views
    alone.ensure()

    def stopping(self, label):
        if len(seen) == 4:
            raise KeyboardInterrupt
        seen.append(label)
        return views_of(self, label)

    monkeypatch.setattr(RealStatistics, "views", stopping)
    with pytest.raises(KeyboardInterrupt):
        real(cache="stopped").ensure()
    monkeypatch.setattr(RealStatistics, "views", lambda self, label: seen.append(label) or views_of(self, label))
    workers = [threading.Thread(target=real(cache="stopped").ensure) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert sorted(seen) == list(range(10))
    resumed = real(cache="stopped")
    assert (resumed.folder / gathered.FILE).read_bytes() == (alone.folder / gathered.FILE).read_bytes()
    assert not list(resumed.folder.parent.glob("*.partial"))


def test_a_damaged_file_is_an_error(real):
    one = real()
    file = one.ensure() / gathered.FILE
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match=r"record of real statistics .* is not what was sealed"):
        real().of_all(CPU)


def test_data_that_are_not_mirrored_are_not(real):
    straight = FewDigits(size=8)
    straight.flips = False
    one = real(cache="straight", data=straight)
    torch.testing.assert_close(torch.cat(list(one.views(2))), views(one, 2), rtol=0, atol=0.011)


def test_a_class_without_images_and_weights_that_are_not_finite_are_errors(real):
    class Empty(FewDigits):
        def _read(self, name):
            found = super()._read(name)
            return {k: s.take(s.labels != 5) if k == "train" else s for k, s in found.items()}

    with pytest.raises(DataError, match=r"Class '5' of .* has no training images"):
        real(data=Empty(size=8)).ensure()
    broken = real(cache="broken")
    broken.teacher.network.features[0].weight.data[0] = torch.nan
    with pytest.raises(DataError, match="Layers of the teacher untrained are not finite"):
        broken.ensure()

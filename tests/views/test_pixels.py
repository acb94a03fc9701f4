"""Images that are no dense array: the same views from files, workers, resumed runs and two ranks; full-size crops."""

import numpy as np
import pytest
import torch
from PIL import Image

from ddlight.core.errors import UsageError
from ddlight.data import ImageFolder
from ddlight.data.decoded import read_full
from ddlight.methods.base import Synthesiser
from ddlight.methods.baselines.random import Random
from ddlight.networks.students import ConvNet
from ddlight.networks.teachers import RunTeacher
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.hard_label import HardLabel
from ddlight.regimes.soft_label import SoftLabel
from ddlight.sets import store
from ddlight.sets.store import Synthesis
from ddlight.train.trainer import Trainer
from ddlight.views import pixels
from ddlight.views.crop import CROP_UNIFORMS, crop_boxes
from ddlight.views.loader import RunLoader
from ddlight.views.pixels import Encoded, FullSize, WorkerLoader

MIXED = Override(batch=4, mix="cutmix", crop_scale=(0.3, 1.0))


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Two classes of images of many sizes, all larger than the squares of 24 pixels."""
    monkeypatch.setenv("DDLIGHT_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 4)):
        for name in ("ant", "bee"):
            place = tmp_path / "tree" / part / name
            place.mkdir(parents=True)
            for i in range(count):
                coarse = Image.fromarray(rng.integers(0, 255, (6, 7, 3), np.uint8))
                coarse.resize((40 + 5 * i, 30 + 3 * i), Image.Resampling.BICUBIC).save(place / f"{i}.png")
    return str(tmp_path / "tree")


def fit(data, home, steps=7, model=None, **options):
    model = model or HardLabel(ConvNet(1, 4), recipe=MIXED, budget=Budget(steps=steps))
    trainer = Trainer(run=str(home), accelerator="cpu", devices=1, progress=False, **options)
    trainer.fit_run(model, data)
    return {k: v.clone() for k, v in model.network.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


class Painted(Synthesiser):
    """Pictures of noise."""

    def estimate_seconds(self):
        return 0.0

    def make(self, unit):
        rng = np.random.default_rng(unit.number)
        images = rng.integers(0, 255, (self.ipc, 3, 24, 24), np.uint8)
        return Synthesis(images, np.full(self.ipc, unit.number), 3)


@pytest.mark.parametrize("method", [Random, Painted])
def test_a_set_in_its_files_trains_as_the_same_set_in_memory(tree, tmp_path, monkeypatch, method):
    def data():
        return method(ImageFolder(tree, size=24), ipc=5)

    monkeypatch.setattr(pixels, "WORKERS", 2)
    expected = fit(data(), tmp_path / "dense")
    for accumulate in (1, 2):
        monkeypatch.setenv(pixels.LIMIT_VARIABLE, "1e-6")
        own = data()
        got = fit(own, tmp_path / f"files{accumulate}", accumulate_grad_batches=accumulate)
        assert isinstance(own.require().images, Encoded)
        assert isinstance(own.train_dataloader(), WorkerLoader)
        monkeypatch.delenv(pixels.LIMIT_VARIABLE)
        reference = expected if accumulate == 1 else fit(data(), tmp_path / "two", accumulate_grad_batches=2)
        assert same(reference, got)


def test_soft_labels_of_images_in_files_are_those_of_images_in_memory(tree, tmp_path, monkeypatch):
    fit(Random(ImageFolder(tree, size=24), ipc=5), tmp_path / "teacher")
    labels = []
    for limit in ("1", "1e-6"):
        monkeypatch.setenv(pixels.LIMIT_VARIABLE, limit)
        teacher = RunTeacher(str(tmp_path / "teacher"))
        model = SoftLabel(ConvNet(1, 4), teacher=teacher, recipe=Override(batch=4), budget=Budget(steps=1))
        fit(Random(ImageFolder(tree, size=24), ipc=5), tmp_path / limit, model=model)
        labels.append(model.frozen)
    assert torch.equal(*labels)


def batches(loader):
    return [(b.epoch, b.index, b.ids.tolist(), b.crops[0].clone()) for b in loader]


class Cut:
    """Crops that say which batch they were cut for."""

    def __call__(self, batch):
        from dataclasses import replace

        return replace(batch, crops=(batch.own[:, None].float() + 100 * batch.epoch,))


def test_workers_hand_out_in_order_and_a_resumed_loader_goes_on_where_it_was():
    def loader():
        return WorkerLoader(RunLoader(10, 4, 9, seed=1), Cut(), workers=2)

    whole = batches(loader())
    plain = RunLoader(10, 4, 9, seed=1)
    assert [row[:3] for row in whole] == [(b.epoch, b.index, b.ids.tolist()) for b in plain]
    assert all(torch.equal(c[:, 0], torch.tensor(i).float() + 100 * e) for e, _, i, c in whole)
    stopped, taken = loader(), []
    for batch in stopped:
        taken.append(batch)
        if len(taken) == 5:
            break
    again = loader()
    again.load_state_dict(stopped.state_dict())
    rest = batches(again)
    assert [row[:3] for row in rest] == [row[:3] for row in whole[5:]]


@pytest.mark.parametrize("keep", [True, False])
def test_full_size_crops_are_those_of_pil_on_the_whole_image(tree, keep):
    data = ImageFolder(tree, size=24)
    files = data.encoded("train")
    sizes = [Image.open(file).size for file in files]
    limit = sum(3 * width * height for width, height in sizes) - (0 if keep else 1)
    source = FullSize(files, read_full, lambda rows: data.take("train", rows), 24, limit)
    assert pixels.decodes(source) != keep
    rows, u = np.array([11, 0, 5, 5]), np.random.default_rng(3).random((4, CROP_UNIFORMS))
    crops = source.cut(rows, u, (0.2, 1.0), (3 / 4, 4 / 3)).numpy()
    for crop, row, numbers in zip(crops, rows, u, strict=True):
        image = Image.open(files[row])
        top, left, height, width = crop_boxes(numbers, (image.height, image.width), (0.2, 1.0), (3 / 4, 4 / 3)).tolist()
        box = (left, top, left + width, top + height)
        expected = np.asarray(image.crop(box).resize((24, 24), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        assert np.abs(crop.astype(int) - expected).max() <= 1
    turned = source.cut(rows, u, (0.2, 1.0), (3 / 4, 4 / 3), np.array([True, False, False, True])).numpy()
    np.testing.assert_array_equal(turned[[0, 3]], crops[[0, 3], :, :, ::-1])
    np.testing.assert_array_equal(turned[1:3], crops[1:3])


def test_full_size_is_another_crop_domain_and_another_identity(tree, tmp_path):
    square, full = (ImageFolder(tree, size=24, full_size=flag) for flag in (False, True))
    assert square.identity() != full.identity()
    data = Random(full, ipc=5)
    weights = fit(data, tmp_path / "full")
    assert isinstance(data.require().images, FullSize)
    assert not same(weights, fit(Random(square, ipc=5), tmp_path / "square"))
    whole = ImageFolder(tree, size=24).split("train").images
    chosen, _ = store.read_selection(data.folder)
    np.testing.assert_array_equal(data.require().images[torch.arange(10)].numpy(), whole[chosen])


def test_full_size_needs_a_protocol_that_crops(tree, tmp_path):
    for wrong in (Override(batch=4), Override(batch=4, crop_scale=(0.5, 1.0), patches=2)):
        model = HardLabel(ConvNet(1, 4), recipe=wrong, budget=Budget(steps=1))
        with pytest.raises(UsageError, match="full_size: images are cut from the whole picture"):
            fit(Random(ImageFolder(tree, size=24, full_size=True), ipc=5), tmp_path, model=model)


def test_full_size_files_and_memory_train_alike(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "WORKERS", 1)
    weights = []
    for limit in ("1", "1e-6"):
        monkeypatch.setenv(pixels.LIMIT_VARIABLE, limit)
        weights.append(fit(Random(ImageFolder(tree, size=24, full_size=True), ipc=5), tmp_path / limit))
    assert same(*weights)


def test_a_limit_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv(pixels.LIMIT_VARIABLE, "much")
    with pytest.raises(UsageError, match=r"DDLIGHT_SET_GB is a number of gigabytes.*'much'"):
        pixels.memory_limit()

"""Views: the same whoever builds them and in whatever order, and each augmentation as its transform does it."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import ndtri
from torch import nn

from ddlight.core.randomness import generator
from ddlight.core.result import Seconds
from ddlight.data import Digits
from ddlight.data.table import TABLE
from ddlight.methods.baselines.random import Random
from ddlight.networks import compiling
from ddlight.networks.students import ConvNet
from ddlight.networks.teachers import RunTeacher
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Augment, Override
from ddlight.regimes.hard_label import HardLabel
from ddlight.regimes.soft_label import SoftLabel
from ddlight.regimes.teacher_label import TeacherLabel
from ddlight.train.record import record
from ddlight.views import colour, crop, dsa, mix, patches
from ddlight.views.loader import Batch, RunLoader
from ddlight.views.normalise import normalise
from ddlight.views.view import Viewer, to_input, to_unit
from ddlight.views.whiten import fit_whitening

COUNT, BATCH, SIZE, SEED = 30, 8, 12, 5
INFO = replace(TABLE["CIFAR10"], size=SIZE)
MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in (INFO.mean, INFO.std))
PIXELS = torch.from_numpy(generator(0, "pixels").integers(0, 256, (COUNT, 3, SIZE, SIZE), dtype=np.uint8))
LABELS = torch.arange(COUNT) % 10

ONE = {
    "none": Augment(),
    "patches": Augment(patches=3),
    "crop": Augment(crop_scale=(0.3, 0.9), crop_ratio=(0.8, 1.2)),
    "tiles": Augment(crop_scale=(0.3, 0.9), tiles=3),
    "flip": Augment(flip=True),
    "jitter": Augment(jitter=0.4),
    "lighting": Augment(lighting=0.1),
    "dsa": Augment(dsa="color_crop_cutout_flip_scale_rotate"),
    "cutmix": Augment(mix="cutmix"),
    "cutmix per image": Augment(mix="cutmix", mix_per="sample", mix_alpha=0.7),
    "mixup": Augment(mix="mixup", mix_alpha=0.8),
    "mixup per image": Augment(mix="mixup", mix_per="sample"),
}
ALL = Augment(2, (0.3, 1.0), flip=True, jitter=0.4, lighting=0.1, dsa="color_crop_cutout_flip_scale_rotate")
MANY = {**ONE, "all": replace(ALL, mix="cutmix"), "all per image": replace(ALL, mix="mixup", mix_per="sample")}


def viewer(augment, space="pixel", images=COUNT, seed=SEED):
    return Viewer(augment, INFO, space, BATCH, images, seed)


def batches(steps=16, ranks=1, rank=0, accumulate=1, images=PIXELS):
    return [b.attach(images, LABELS) for b in RunLoader(COUNT, BATCH, steps, SEED, accumulate, rank, ranks)]


def equal(a, b):
    return all(
        torch.equal(getattr(a, f), getattr(b, f)) for f in ("images", "labels", "partner_labels", "share", "ids")
    )


# --- who builds them ---


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_parts_of_a_view_are_the_view(name, parts):
    whole = [viewer(MANY[name])(batch) for batch in batches()]
    found = [[viewer(MANY[name])(b) for b in batches(ranks=parts, rank=rank) if b.weight] for rank in range(parts)]
    weights = [[b.weight > 0 for b in batches(ranks=parts, rank=rank)] for rank in range(parts)]
    for step, expected in enumerate(whole):
        own = [views[sum(kept[:step])] for views, kept in zip(found, weights, strict=True) if kept[step]]
        for field in ("images", "labels", "partner_labels", "share", "ids", "partner_ids"):
            assert torch.equal(torch.cat([getattr(v, field) for v in own]), getattr(expected, field)), (step, field)


@pytest.mark.parametrize("name", MANY)
def test_a_view_does_not_know_what_was_seen_before(name):
    all_batches = batches()
    fresh = [viewer(MANY[name])(batch) for batch in all_batches]
    forward, backward = viewer(MANY[name]), viewer(MANY[name])
    assert all(equal(forward(batch), view) for batch, view in zip(all_batches, fresh, strict=True))
    assert all(equal(backward(batch), view) for batch, view in zip(all_batches[::-1], fresh[::-1], strict=True))
    assert [b.epoch for b in all_batches[::4]] == [0, 1, 2, 3]


@pytest.mark.parametrize("name", [name for name in MANY if name != "none"])
def test_views_differ_between_passes_and_seeds(name):
    batch = Batch(torch.arange(8), (0, 8), 1.0, 0, 0, PIXELS, LABELS)
    pictures = [viewer(MANY[name], seed=seed)(replace(batch, epoch=e)).images for seed in (0, 1) for e in range(6)]
    assert len({picture.numpy().tobytes() for picture in pictures}) > 6


def test_the_set_is_left_as_it_is():
    before = PIXELS.clone()
    for augment in MANY.values():
        viewer(augment)(batches()[5])
    assert torch.equal(PIXELS, before)


@pytest.mark.parametrize("name", MANY)
def test_a_view_waits_for_no_device(name, monkeypatch):
    """On a device without numbers nothing can be read back; and nothing goes there that the host waits for."""
    there, copies, to = torch.device("meta"), [], torch.Tensor.to

    def spy(tensor, *args, **kwargs):
        if torch.device("meta") in args and tensor.device.type == "cpu":
            copies.append(kwargs.get("non_blocking", False))
        return to(tensor, *args, **kwargs)

    batch = replace(batches()[0], images=PIXELS.to(there), labels=LABELS.to(there))
    monkeypatch.setattr(torch.Tensor, "to", spy)
    assert viewer(MANY[name])(batch).images.device == there
    assert copies and all(copies)


# --- what they show ---


def draws(purpose, epoch, shape):
    return generator(SEED, purpose, epoch).random(shape)


def plain(images):
    return (images.double() / 255 - MEAN.double()) / STD.double()


def expected(name, batch):
    """The augmentation by direct calls of the transforms, for the whole set and then for the batch."""
    a, ids, e = MANY[name], batch.ids.numpy(), batch.epoch
    images = PIXELS[batch.ids]
    if a.patches > 1:
        u = draws("patches", e, (COUNT, 2 * a.patches))[ids]
        images = patches.shuffle_patches(images, a.patches, patches.patch_orders(u, a.patches))
    if a.crop_scale:
        u, side = draws("crop", e, (COUNT, crop.CROP_UNIFORMS))[ids], SIZE // a.tiles
        if a.tiles > 1:  # a tile is cut out first, and is the image then
            tile = (draws("tile", e, COUNT)[ids] * a.tiles**2).astype(int)
            images = torch.stack(
                [
                    i.unfold(1, side, side).unfold(2, side, side).flatten(1, 2)[:, k]
                    for i, k in zip(images, tile, strict=True)
                ]
            )
        images = crop.resized_crop(images, crop.crop_boxes(u, side, a.crop_scale, a.crop_ratio), SIZE)
    if a.flip:
        images = torch.where(
            torch.tensor(draws("flip", e, COUNT)[ids] < 0.5)[:, None, None, None], images.flip(3), images
        )
    images = images.float() / 255
    if a.jitter:
        images = colour.jitter(images, draws("jitter", e, (COUNT, colour.JITTER_UNIFORMS))[ids], a.jitter)
    if a.lighting:
        images = colour.lighting(images, ndtri(draws("lighting", e, (COUNT, 3))[ids]), a.lighting)
    images = (images - MEAN) / STD
    if a.dsa:
        op, u = draws("dsa_op", e, 4)[batch.index], draws("dsa", e, (COUNT, dsa.DSA_UNIFORMS))[ids]
        images = dsa.apply(images, *dsa.draw(dsa.Strategy(a.dsa), op, u, SIZE))
    return mixed(a, images, batch)


def mixed(a, images, batch):
    """One image after the other."""
    start, count = batch.index * BATCH, len(batch.ids)
    partners = np.argsort(draws("partner", batch.epoch, COUNT)[start : start + count])
    per_batch = draws("mix", batch.epoch, (4, 3))[[batch.index] * count]
    u = per_batch if a.mix_per == "batch" else draws("mix", batch.epoch, (COUNT, 3))[batch.ids.numpy()]
    out, shares = images.clone(), torch.ones(count)
    for i in range(count if a.mix != "none" else 0):
        lam = float(mix.beta_draw(u[i, 0], a.mix_alpha))
        if a.mix == "mixup":
            out[i], shares[i] = lam * images[i] + (1 - lam) * images[partners[i]], lam
            continue
        top, bottom, left, right = mix.cutmix_draw(u[i], SIZE, a.mix_alpha)
        out[i, :, top:bottom, left:right] = images[partners[i], :, top:bottom, left:right]
        shares[i] = 1 - (bottom - top) * (right - left) / SIZE**2
    return out, shares, (partners if a.mix != "none" else np.arange(count))


@pytest.mark.parametrize("name", MANY)
def test_a_view_is_what_the_transforms_make_of_its_draws(name):
    for batch in batches(9):
        view = viewer(MANY[name])(batch)
        images, shares, partners = expected(name, batch)
        grey = 1 / 255 / min(INFO.std) if MANY[name].tiles > 1 else 0.0  # halves may be rounded either way in a tile
        torch.testing.assert_close(view.images, images, rtol=0, atol=grey + 2e-5)
        torch.testing.assert_close(view.share, shares, rtol=0, atol=1e-6)
        assert view.images.dtype == torch.float32 and view.mixed == (MANY[name].mix != "none")
        assert view.ids.tolist() == batch.ids.tolist()
        assert view.partner_ids.tolist() == batch.ids[partners].tolist()
        assert torch.equal(view.labels, LABELS[view.ids]) and torch.equal(view.partner_labels, LABELS[view.partner_ids])


def test_partners_are_a_permutation_of_the_whole_batch_and_not_the_same_in_each():
    found = [viewer(ONE["cutmix"])(batch) for batch in batches()]
    for view in found:
        assert sorted(view.partner_ids.tolist()) == sorted(view.ids.tolist())
    assert any(v.partner_ids.tolist() != v.ids.tolist() for v in found)


def test_soft_labels_are_carried_along():
    soft = torch.rand(COUNT, 7)
    batch = replace(batches()[2], labels=soft)
    view = viewer(ONE["mixup"])(batch)
    assert torch.equal(view.labels, soft[view.ids]) and torch.equal(view.partner_labels, soft[view.partner_ids])


# --- where images live ---


@pytest.mark.parametrize("name", MANY)
def test_spaces_agree(name):
    """Bytes, floats in [0, 1] and normalised floats of the same images look the same, to a rounded grey level."""
    pixel, normalised = PIXELS.float() / 255, normalise(PIXELS, INFO.mean, INFO.std)
    for index in (1, 7):
        views = [
            viewer(MANY[name], space)(batches(images=images)[index]).images
            for images, space in ((PIXELS, "pixel"), (pixel, "pixel"), (normalised, "normalised"))
        ]
        grey = 0.0 if MANY[name].crop_scale is None else 2 / 255 / min(INFO.std)  # bytes are rounded after the crop
        torch.testing.assert_close(views[1], views[0], rtol=0, atol=grey + 2e-5)
        torch.testing.assert_close(views[2], views[1], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("side", [SIZE, 48])
def test_views_do_not_depend_on_how_the_sets_bytes_lie_in_memory(name, side):
    """Files are decoded with a pixel's channels together; arrays come plane by plane."""
    info, times = replace(INFO, size=side), side // SIZE
    planes = PIXELS.repeat_interleave(times, 2).repeat_interleave(times, 3)
    together = planes.contiguous(memory_format=torch.channels_last)
    assert together.stride() != planes.stride()
    for index in (1, 7):
        views = [
            Viewer(MANY[name], info, "pixel", BATCH, COUNT, SEED)(batches(images=images)[index]).images
            for images in (planes, together)
        ]
        assert torch.equal(*views) and all(view.is_contiguous() for view in views)
    assert to_unit(together, info, "pixel").is_contiguous()


def test_a_set_without_augmentation_is_just_normalised():
    view = viewer(ONE["none"])(batches()[0])
    torch.testing.assert_close(view.images.double(), plain(PIXELS[view.ids]), rtol=0, atol=1e-5)
    floats = torch.randn(COUNT, 3, SIZE, SIZE)
    view = viewer(ONE["none"], "normalised")(batches(images=floats)[0])
    assert torch.equal(view.images, floats[view.ids])  # as they are, not clamped


def test_to_unit():
    torch.testing.assert_close(to_unit(PIXELS, INFO, "pixel"), PIXELS.float() / 255)
    floats = torch.rand(4, 3, SIZE, SIZE)
    assert torch.equal(to_unit(floats, INFO, "pixel"), floats)
    torch.testing.assert_close(to_unit((floats - MEAN) / STD, INFO, "normalised"), floats)


WHITENING = fit_whitening([PIXELS], "zca", INFO.std)


def test_a_whitened_set_is_as_it_is_and_real_images_are_whitened_alike():
    whitened = WHITENING.apply(PIXELS)
    view = Viewer(ONE["none"], INFO, "zca", BATCH, COUNT, SEED, WHITENING)(batches(images=whitened)[0])
    assert torch.equal(view.images, whitened[view.ids])
    assert torch.equal(to_input(PIXELS, INFO, WHITENING), whitened)
    torch.testing.assert_close(to_unit(whitened, INFO, "zca", WHITENING), PIXELS / 255, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["jitter", "lighting"])
def test_whitened_images_are_coloured_as_pixels(name):
    """The same draws colour the pixels that the whitened images stand for; flips and crops act where they live."""
    whitened = WHITENING.apply(PIXELS)
    view = Viewer(ONE[name], INFO, "zca", BATCH, COUNT, SEED, WHITENING)(batches(images=whitened)[0])
    pixels = viewer(ONE[name])(batches()[0])
    expected = WHITENING.apply(to_unit(pixels.images, INFO, "normalised"))
    assert (view.images - whitened[view.ids]).abs().max() > 0.01
    torch.testing.assert_close(view.images, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", [16, 24])
def test_larger_images_are_cropped_to_the_datasets_size(size):
    large = torch.randint(0, 256, (COUNT, 3, size, size), dtype=torch.uint8)
    view = viewer(ONE["crop"])(batches(images=large)[0])
    assert view.images.shape == (BATCH, 3, SIZE, SIZE)


# --- compiled networks ---


@pytest.fixture
def compiled(monkeypatch):
    """Modules that were compiled, by the backend that only traces."""
    found, inner = [], nn.Module.compile

    def eager(self, *args, **kwargs):
        found.append(self)
        return inner(self, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", eager)
    return found


def test_a_compiled_student_keeps_its_names(fit, compiled):
    model = HardLabel(
        ConvNet(depth=1, width=4), recipe=Override(batch=8), budget=Budget(steps=2), compile_networks=True
    )
    trainer = fit(model, Random(Digits(size=8), ipc=1))
    names = set(ConvNet(depth=1, width=4).build(10, 1, 8).state_dict())
    assert compiled == [model.network] and set(model.network.state_dict()) == names
    assert (trainer.run / "student.safetensors").exists()


@pytest.mark.parametrize("regime", [TeacherLabel, SoftLabel])
def test_only_teachers_that_label_views_are_compiled(fit, compiled, regime):
    data, student = Random(Digits(size=8), ipc=1), ConvNet(depth=1, width=4)
    taught = fit(HardLabel(student, recipe=Override(batch=8), budget=Budget(steps=1)), data, run="teacher").run
    plain, fast = (
        regime(
            student,
            teacher=RunTeacher(str(taught)),
            recipe=Override(batch=8),
            budget=Budget(steps=2),
            compile_networks=c,
        )
        for c in (False, True)
    )
    for name, model in (("plain", plain), ("fast", fast)):
        fit(model, data, run=name)
    assert compiled == [fast.network, fast.teacher.network][: 1 + (regime is TeacherLabel)]
    assert fast.teacher.flops == plain.teacher.flops and fast.scores["test"].acc == plain.scores["test"].acc


@pytest.mark.parametrize(("steps", "long"), [(4, False), (40, True)])
def test_auto_compiles_where_the_run_is_long_and_never_to_evaluate(fit, monkeypatch, steps, long):
    graphs, inner = [], nn.Module.compile

    def count(graph, inputs):
        graphs.append(torch.is_grad_enabled())
        return graph

    monkeypatch.setattr(nn.Module, "compile", lambda self: inner(self, backend=count))
    monkeypatch.setattr(compiling, "COSTS", compiling.SAVED["cpu"] * (4 * 8 * 8 + 10) * 10 * 20)
    student, recipe = ConvNet(depth=1, width=4), Override(batch=10)
    models = [
        HardLabel(student, recipe=recipe, budget=Budget(steps=steps), compile_networks=c, test_curve=2)
        for c in (False, "auto")
    ]
    trainers = [fit(model, Random(Digits(size=8), ipc=1), run=str(n)) for n, model in enumerate(models)]
    assert graphs == [True] * long and models[1].compiled == long
    assert models[0].scores["test"].acc == pytest.approx(models[1].scores["test"].acc, abs=0.6)
    found = record(trainers[1], models[1], trainers[1].datamodule, "x", Seconds(0.0, 0.0, 0.0, 0.0)).machine.precision
    assert found == ("32-true, compiled" if long else "32-true")


def test_auto_compiles_nothing_without_a_compiler(monkeypatch, caplog):
    caplog.set_level("INFO", "ddlight")
    monkeypatch.setattr(logging.getLogger("ddlight"), "propagate", True)
    assert compiling.pays(10**6, 10**6, torch.device("cpu"))
    monkeypatch.setenv("PATH", "")
    assert not compiling.pays(10**6, 10**6, torch.device("cpu"))
    assert "saves about 4000 s" in caplog.messages[0] and "no C++ compiler" in caplog.messages[1]

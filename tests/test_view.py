"""Views: what the student sees depends on seed, pass, image and batch alone, and is what the transforms say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ddlight.condensed.loader import RunLoader
from ddlight.datasets import Digits
from ddlight.protocols import Augment
from ddlight.randomness import generator
from ddlight.transforms import crop, dsa, mix
from ddlight.transforms.normalise import denormalise, normalise
from ddlight.transforms.view import Viewer, to_unit

INFO = Digits().info
COUNT, BATCH = 50, 20
EVERYTHING = Augment(patches=2, crop_scale=(0.5, 1.0), flip=True, jitter=0.4, mix="cutmix")
AUGMENTS = {
    "none": Augment(),
    "everything": EVERYTHING,
    "dsa": Augment(dsa="color_crop_cutout_flip_scale_rotate"),
    "mixup per image": Augment(crop_scale=(0.5, 1.0), mix="mixup", mix_per="sample"),
    "cutmix per image": Augment(mix="cutmix", mix_per="sample"),
}


@pytest.fixture(scope="module")
def tensors():
    split = Digits().split("train")
    return torch.from_numpy(split.images[:COUNT].copy()), torch.from_numpy(split.labels[:COUNT].copy())


def views(augment, tensors, epochs=2, ranks=1, rank=0, accumulate=1, space="pixel", seed=3):
    viewer = Viewer(augment, INFO, space, BATCH, COUNT, seed)
    loader = RunLoader(COUNT, BATCH, 3 * epochs, seed, accumulate, rank, ranks)
    return [(batch, viewer(batch.attach(*tensors))) for batch in loader]


@pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS.keys())
@pytest.mark.parametrize(("ranks", "accumulate"), [(2, 1), (1, 3), (2, 2)])
def test_parts_make_up_the_whole(augment, tensors, ranks, accumulate):
    whole = [view for _, view in views(augment, tensors)]
    parts = [views(augment, tensors, ranks=ranks, rank=r, accumulate=accumulate) for r in range(ranks)]
    for step, view in enumerate(whole):
        own = [parts[r][step * accumulate + m][1] for m in range(accumulate) for r in range(ranks)]
        for field in ("images", "labels", "partner_labels", "share", "ids", "partner_ids"):
            assert torch.equal(torch.cat([getattr(v, field) for v in own]), getattr(view, field)), field


@pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS.keys())
def test_views_do_not_depend_on_history(augment, tensors):
    all_views = views(augment, tensors, epochs=3)
    viewer = Viewer(augment, INFO, "pixel", BATCH, COUNT, 3)
    batch, view = all_views[-2]
    assert torch.equal(viewer(batch.attach(*tensors)).images, view.images)


@pytest.mark.parametrize("augment", [a for n, a in AUGMENTS.items() if n != "none"])
def test_views_change_with_pass_and_seed(augment, tensors):
    first = torch.cat([v.images[v.ids.argsort()] for _, v in views(augment, tensors)[:3]])
    second = torch.cat([v.images[v.ids.argsort()] for _, v in views(augment, tensors)[3:]])
    other = torch.cat([v.images[v.ids.argsort()] for _, v in views(augment, tensors, seed=4)[:3]])
    assert not torch.equal(first, second) and not torch.equal(first, other)


def test_plain_view_is_the_normalised_image(tensors):
    batch, view = views(Augment(), tensors)[1]
    expected = (tensors[0][batch.ids].float() / 255 - INFO.mean[0]) / INFO.std[0]
    assert torch.allclose(view.images, expected, atol=2e-6)
    assert torch.equal(view.labels, tensors[1][batch.ids]) and not view.mixed
    assert view.share.eq(1).all() and torch.equal(view.partner_labels, view.labels)


def test_crop_and_flip_are_those_of_the_draws(tensors):
    batch, view = views(Augment(crop_scale=(0.3, 1.0), flip=True), tensors)[4]
    u = generator(3, "crop", 1).random((COUNT, crop.CROP_UNIFORMS))[batch.ids.numpy()]
    boxes = crop.crop_boxes(u, INFO.size, (0.3, 1.0), (3 / 4, 4 / 3))
    mirrored = generator(3, "flip", 1).random(COUNT)[batch.ids.numpy()] < 0.5
    images = crop.resized_crop(tensors[0][batch.ids], boxes, INFO.size)
    expected = torch.stack([i.flip(-1) if m else i for i, m in zip(images, mirrored, strict=True)])
    assert torch.equal(view.images, normalise(expected, INFO.mean, INFO.std))
    assert 0 < mirrored.sum() < len(mirrored)


def test_cutmix_takes_the_box_from_the_partner(tensors):
    _, view = views(Augment(mix="cutmix"), tensors)[2]
    clean = normalise(tensors[0], INFO.mean, INFO.std)
    box = mix.cutmix_draw(generator(3, "mix", 0).random((3, mix.CUTMIX_UNIFORMS))[2], INFO.size)
    top, bottom, left, right = box
    expected = clean[view.ids].clone()
    expected[:, :, top:bottom, left:right] = clean[view.partner_ids][:, :, top:bottom, left:right]
    assert torch.equal(view.images, expected)
    assert view.share[0] == pytest.approx(1 - (bottom - top) * (right - left) / INFO.size**2)
    assert sorted(view.partner_ids.tolist()) == sorted(view.ids.tolist()) and view.mixed
    assert torch.equal(view.partner_labels, tensors[1][view.partner_ids])
    assert not torch.equal(view.partner_ids, view.ids)


def test_mixup_blends_with_its_share(tensors):
    _, view = views(Augment(mix="mixup", mix_alpha=0.8, mix_per="sample"), tensors)[0]
    clean = normalise(tensors[0], INFO.mean, INFO.std)
    share = view.share[:, None, None, None]
    assert torch.allclose(view.images, share * clean[view.ids] + (1 - share) * clean[view.partner_ids], atol=1e-5)
    assert len(view.share.unique()) == BATCH


def test_dsa_is_one_operation_a_batch(tensors):
    name = "crop_flip"
    batch, view = views(Augment(dsa=name), tensors)[3]
    op_draw = generator(3, "dsa_op", 1).random(3)[0]
    u = generator(3, "dsa", 1).random((COUNT, dsa.DSA_UNIFORMS))[batch.ids.numpy()]
    clean = normalise(tensors[0][batch.ids], INFO.mean, INFO.std)
    assert torch.equal(view.images, dsa.apply(clean, *dsa.draw(dsa.Strategy(name), op_draw, u, INFO.size)))


def test_normalised_sets_are_taken_as_they_are(tensors):
    images = normalise(tensors[0], INFO.mean, INFO.std)
    batch, view = views(Augment(), (images, tensors[1]), space="normalised")[0]
    assert torch.equal(view.images, images[batch.ids])
    assert torch.allclose(to_unit(images, INFO, "normalised"), tensors[0] / 255, atol=1e-6)
    pixel = views(replace(EVERYTHING, patches=1), tensors)[0][1]
    normalised = views(replace(EVERYTHING, patches=1), (images, tensors[1]), space="normalised")[0][1]
    difference = denormalise(pixel.images - normalised.images, (0.0,), INFO.std).abs()
    assert difference.max() < 1.5 / 255  # uint8 crops are rounded to grey levels, float ones are not


def test_draws_are_uniform_over_images():
    u = generator(0, "crop", 5).random((4000, 2))
    assert np.abs(np.quantile(u, [0.25, 0.5, 0.75]) - [0.25, 0.5, 0.75]).max() < 0.03

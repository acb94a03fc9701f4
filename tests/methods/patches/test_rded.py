"""RDED against its released code, written out step by step: crops, canvas, best of each image, ranks, mosaics."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from ddlight.core import artefact
from ddlight.core.artefact import Unit
from ddlight.core.errors import DataError, UsageError
from ddlight.core.randomness import generator
from ddlight.data import Digits
from ddlight.data.folder import ImageFolder
from ddlight.methods.patches.mosaic import mosaics
from ddlight.methods.patches.rded import RDED, on_canvas
from ddlight.sets import store
from ddlight.views.crop import CROP_UNIFORMS, crop_boxes

UNIT = Unit(3, (3,))


@pytest.fixture
def build(home, patch_teacher):
    """RDED of 16-pixel digits, with its teacher's plain network."""

    def make(**options):
        judge, network = patch_teacher()
        data = RDED(Digits(size=16), cache=str(home / "cache"), teacher=judge, **{"factor": 2, "ipc": 3, **options})
        return data, network

    return make


def class_rows(data, label=3):
    return np.flatnonzero(data.dataset.split("train").labels == label)


def loss_of(network, patch, size, label, mean, std):
    """RDED's score of one uint8 patch (C, s, s): normalised, padded with zeros to the image's size, cross-entropy."""
    m, s = (torch.tensor(v, dtype=torch.float32)[:, None, None] for v in (mean, std))
    normalised = (torch.from_numpy(patch.copy()).float() / 255 - m) / s
    before = (size - patch.shape[-1]) // 2
    after = size - patch.shape[-1] - before
    with torch.no_grad():
        logits = network(F.pad(normalised, (before, after, before, after))[None]).double()[0]
    return float(logits.logsumexp(0) - logits[label])


def mix_images(patches, size, factor, n):
    """The code's stitching: blocks of n patches, nearest pixels, the first strips a pixel wider."""
    side, rest = size // factor, size % factor
    out, k, top = torch.zeros(n, patches.shape[1], size, size), 0, 0
    for i in range(factor):
        high, left = side + (i < rest), 0
        for j in range(factor):
            wide = side + (j < rest)
            part = F.interpolate(patches[k * n : (k + 1) * n].float(), size=(high, wide))
            out[:, :, top : top + high, left : left + wide] = part
            left, k = left + wide, k + 1
        top += high
    return out


# --- the steps ---


@pytest.mark.parametrize(("side", "size"), [(8, 16), (5, 16), (16, 16), (7, 15)])
def test_a_patch_is_scored_in_the_middle_of_a_canvas_that_is_zero_once_normalised(build, patch_teacher, side, size):
    judge, network = patch_teacher(size)
    data = RDED(Digits(size=16), teacher=judge)
    judge.load(10, 1, size)
    rng = np.random.default_rng(side)
    patches = rng.integers(0, 256, (6, 1, side, side), dtype=np.uint8)
    canvas = on_canvas(torch.from_numpy(patches) / 255, size, judge.input.mean)
    assert canvas.shape == (6, 1, size, size)
    assert (judge.preprocess(canvas) == 0).sum() >= 6 * (size**2 - side**2)
    expected = [loss_of(network, patch, size, 3, [0.31], [0.4]) for patch in patches]
    found = F.cross_entropy(judge.logits(canvas), torch.full((6,), 3), reduction="none")
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)
    if size == 16:
        np.testing.assert_allclose(data.losses(torch.from_numpy(patches), 3), expected, rtol=1e-4)


def test_grey_patches_are_repeated_on_a_canvas_of_three_colours():
    patches = torch.rand(2, 1, 4, 4)
    canvas = on_canvas(patches, 8, (0.1, 0.2, 0.3))
    assert torch.equal(canvas[:, :, 2:6, 2:6], patches.expand(2, 3, 4, 4))
    assert canvas[0, :, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize(("size", "factor", "m"), [(8, 2, 5), (9, 2, 3), (28, 3, 4), (32, 1, 6), (10, 4, 2)])
def test_mosaics_are_those_of_the_code(size, factor, m):
    side = size // factor
    pieces = np.random.default_rng(0).integers(0, 256, (m * factor**2, 3, side, side), dtype=np.uint8)
    expected = mix_images(torch.from_numpy(pieces), size, factor, m).byte().numpy()
    np.testing.assert_array_equal(mosaics(pieces, factor, size), expected)


def test_every_mosaic_mixes_ranks():
    """Mosaic j of m = 5 holds ranks j, 5 + j, 10 + j, 15 + j, row by row; the first one has the very best patch."""
    ranks = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
    found = mosaics(ranks, 2, 8)
    for j in range(5):
        assert [found[j, 0, y, x] for y in (0, 7) for x in (0, 7)] == [j, 5 + j, 10 + j, 15 + j]


def by_hand(data, network, pool, label=3):
    """Best crop of each image of the pool, best image first: the code's `selector`, one crop after the other."""
    rows, images = class_rows(data, label), data.dataset.split("train").images
    u = generator(data.seed, "patches", label).random((len(rows), data.crops, CROP_UNIFORMS))
    best = []
    for row in sorted(pool):
        tried = []
        for box in crop_boxes(u[list(rows).index(row)], 16, data.crop_scale, (1, 1)).tolist():
            top, left, height, width = box
            crop = torch.from_numpy(images[row][:, top : top + height, left : left + width].copy())
            crop = F.interpolate(crop.float()[None], (8, 8), mode="bilinear", antialias=True)[0]
            patch = (crop + 0.5).clamp(max=255).byte().numpy()
            tried.append((loss_of(network, patch, 16, label, [0.31], [0.4]), patch))
        best.append(min(tried, key=lambda t: t[0]))
    return sorted(best, key=lambda t: t[0])


def test_a_set_is_the_best_patches_of_the_pool_in_the_order_of_their_ranks(build):
    data, network = build(pool_size=40, seed=7)
    made = data.make(UNIT)
    pool = data.pool(UNIT, class_rows(data))
    assert len(set(pool.tolist())) == 40 and set(pool) < set(class_rows(data))
    ranked = by_hand(data, network, pool.tolist())[:12]
    expected = mix_images(torch.from_numpy(np.stack([patch for _, patch in ranked])), 16, 2, 3).byte().numpy()
    assert made.images.dtype == np.uint8
    differ = np.abs(made.images.astype(int) - expected.astype(int))
    assert differ.max() <= 1  # a grey level where a half is rounded
    assert made.labels.tolist() == [3, 3, 3] and made.source_images == 12


def test_one_patch_of_each_image_at_most(build):
    data, _ = build(pool_size=13)
    rows = class_rows(data)
    best = data.best_crops(UNIT, rows, np.sort(data.pool(UNIT, rows)))
    assert len(best.images) == len(set(best.rows.tolist())) == 13
    cut = data.cut(best.rows, generator(0, "patches", 3).random((len(rows), 5, CROP_UNIFORMS))[:13])
    assert len(cut) == 65


def test_pictures_are_cropped_whole(home, pictures, patch_teacher):
    """At their own shape, within a grey level of PIL, not from the squares that other methods see."""
    judge, _ = patch_teacher(16, 2, colour=True)
    dataset = ImageFolder(str(pictures), size=16)
    data = RDED(dataset, ipc=2, teacher=judge, factor=2, crops=3, cache=str(home / "cache"))
    rows, draws = np.arange(12), generator(0, "patches", 0).random((12, 3, CROP_UNIFORMS))
    cut = data.cut(rows, draws).numpy().reshape(12, 3, 3, 8, 8)
    for row, path in enumerate(dataset.encoded("train")[:12]):
        with Image.open(path) as image:
            for k, (top, left, h, w) in enumerate(crop_boxes(draws[row], image.size[::-1], (0.08, 1), (1, 1)).tolist()):
                assert h == w
                crop = image.crop((left, top, left + w, top + h)).resize((8, 8), Image.Resampling.BILINEAR)
                assert np.abs(cut[row, k].astype(int) - np.asarray(crop).transpose(2, 0, 1)).max() <= 1
    assert store.load(data.condense()).images.shape == (4, 3, 16, 16)


# --- pool, seeds, defaults ---


def test_pools_are_drawn_and_contain_smaller_ones(build):
    data, _ = build()
    rows = class_rows(data)
    pools = {}
    for size in (20, 60, 0.5, "exact", "rded"):
        data.pool_size = size
        pools[size] = data.pool(UNIT, rows).tolist()
    assert [len(pools[s]) for s in (20, 60, 0.5, "exact")] == [20, 60, -(-len(rows) // 2), 12]
    assert sorted(pools["rded"]) == rows.tolist()  # 300 are more than there are
    assert pools["exact"] == pools[60][:12] and pools[20] == pools[60][:20]
    assert pools[20] != sorted(pools[20])


def test_300_images_unless_there_are_more_patches(build):
    data, _ = build(ipc=10)
    assert data.pool_count(1300) == 300
    assert RDED(Digits(), ipc=100, factor=2).pool_count(1300) == 400
    assert RDED(Digits(), ipc=100, factor=2).pool_count(350) == 350


def test_the_crops_of_an_image_do_not_depend_on_the_pool(build):
    data, _ = build()
    rows = class_rows(data)
    whole, few = (data.best_crops(UNIT, rows, part) for part in (rows, rows[[4, 9, 30]]))
    np.testing.assert_array_equal(whole.images[[4, 9, 30]], few.images)


def test_another_seed_is_another_set_and_classes_differ(build):
    sets = [build(pool_size=30, seed=seed)[0].make(UNIT).images for seed in (0, 0, 1)]
    np.testing.assert_array_equal(sets[0], sets[1])
    assert not np.array_equal(sets[0], sets[2])
    data, _ = build(pool_size=30)
    assert data.pool(UNIT, np.arange(50)).tolist() != data.pool(Unit(4, (4,)), np.arange(50)).tolist()


@pytest.mark.parametrize(("size", "factor"), [(32, 1), (64, 1), (96, 2), (128, 2), (224, 2)])
def test_mosaics_from_96_pixels_on(size, factor):
    assert RDED(Digits(size=size)).tile_factor == factor
    assert RDED(Digits(size=size), factor=3).tile_factor == 3


def test_what_the_manifest_says(build):
    data, _ = build(pool_size=20)
    manifest = artefact.verify(data.condense())
    assert (manifest["source_images"], manifest["images"], manifest["tile_factor"]) == (120, 30, 2)
    assert manifest["args"]["teacher"]["weights"] == data.teacher.fingerprint()
    assert manifest["scored_crops"] == 10 * 20 * 5
    assert manifest["flops_synthesis"] == pytest.approx(1000 * data.teacher.flops)
    assert 0 <= manifest["teacher_acc_train"] <= 100
    assert manifest["selected_on"] == "none"


def test_the_teacher_is_part_of_the_sets_name(build, patch_teacher):
    data, _ = build()
    first = data.fingerprint
    other, network = patch_teacher(16)
    with torch.no_grad():
        next(network.parameters()).add_(1)
    torch.save(network.state_dict(), other.file)
    assert RDED(Digits(size=16), 3, teacher=other, factor=2).fingerprint != first


# --- errors ---


def test_no_teacher(home):
    for call in (lambda d: d.condense(), lambda d: d.fingerprint, lambda d: d.make(UNIT)):
        with pytest.raises(UsageError, match=r"RDED needs a teacher.*--data\.teacher=RunTeacher"):
            call(RDED(Digits(), cache=str(home / "cache")))


def test_no_teacher_by_the_command(command):
    answer = command("condense", "--data=RDED", "--data.dataset=Digits")
    assert answer.code == 2
    assert "RDED needs a teacher" in answer.err and "Traceback" not in answer.err
    words = ("--data.teacher=RunTeacher", "--data.teacher.run=nowhere")
    answer = command("condense", "--data=RDED", "--data.dataset=Digits", *words)
    assert answer.code == 3
    assert "nowhere" in answer.err and "Traceback" not in answer.err
    answer = command("condense", "--dry-run", "--data=RDED", "--data.dataset=Digits", "--trainer.accelerator=cpu")
    assert answer.code == 0
    assert "missing   RDED needs a teacher" in answer.out


def test_a_teacher_of_other_classes(build, patch_teacher):
    data, _ = build()
    data.teacher, _ = patch_teacher(16, 7)
    with pytest.raises((UsageError, DataError), match="7"):
        data.condense()


def test_a_teacher_at_chance_is_warned_of_once(build, caplog):
    data, _ = build(pool_size=20)
    with caplog.at_level("WARNING", "ddlight"):
        data.prepare()
        data.condense()
    assert caplog.text.count("may be chance") == 1


def test_a_teacher_that_did_not_train(build, patch_teacher):
    data, network = build(pool_size=20)
    weights = {k: v * float("nan") if v.is_floating_point() else v for k, v in network.state_dict().items()}
    torch.save(weights, data.teacher.file)
    with pytest.raises(DataError, match="not finite"):
        data.condense()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ipc": 50}, r"ipc=50 mosaics of 2 x 2 takes 200 different images of each class; class '.' has \d+\. Use "),
        ({"pool_size": 11}, r"takes 12 different images.*pool_size 11 takes 11 of class.*--data\.ipc=2 or less"),
        ({"pool_size": 3}, r"pool_size 3 takes 3 of class.*--data\.factor=1"),
        ({"factor": 17, "ipc": 1}, r"factor 17 cuts images of 16 pixels.*--data\.factor=16 or less"),
    ],
)
def test_mosaics_that_cannot_be_filled(build, options, said):
    data, _ = build(**options)
    with pytest.raises(UsageError, match=said):
        data.condense()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"crops": 0}, "crops is at least 1"),
        ({"factor": 0}, "factor is at least 1"),
        ({"pool_size": 0}, "pool_size is 0; allowed"),
        ({"pool_size": 1.0}, "pool_size is 1.0; allowed"),
        ({"pool_size": 0.0}, "pool_size is 0.0; allowed"),
    ],
)
def test_numbers_without_sense_are_refused(options, said):
    with pytest.raises(UsageError, match=said):
        RDED(Digits(), **options)


@pytest.mark.parametrize(("word", "value"), [("rded", "rded"), ("exact", "exact"), ("40", 40), ("0.5", 0.5)])
def test_the_pool_by_the_command(command, word, value):
    from ddlight.cli.command_line import run

    words = ["--data=RDED", "--data.dataset=Digits", f"--data.pool_size={word}", "--trainer.accelerator=cpu"]
    found = run(["condense", "--dry-run", *words]).datamodule.pool_size
    assert (found, type(found)) == (value, type(value))

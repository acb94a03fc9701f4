"""Published labels against folders written by torchvision, PIL and torch's own sampler, and what is refused."""

import itertools
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import RandomSampler, Sampler

from ddlight.core.errors import DataError, UsageError
from ddlight.core.randomness import generator
from ddlight.data.table import TABLE
from ddlight.networks.torch_file import SAFE
from ddlight.sets.readers.fkd import PublishedLabels, SamplerOrder, StoredBatch, agreement, replay

COUNT, CLASSES, BATCH, EPOCHS, SIZE = 23, 5, 5, 3, 24
INFO = replace(TABLE["CIFAR10"], size=SIZE)
MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in (INFO.mean, INFO.std))
KINDS = np.arange(COUNT) % CLASSES
LABELS = torch.from_numpy(KINDS)
COLOURS = np.array([[230, 20, 20], [20, 230, 20], [20, 20, 230], [230, 230, 20], [20, 230, 230]])


def pictures(height, width):
    """Each image in its class's colour, with noise and a gradient that tell images and places apart."""
    rng = generator(0, "pictures", height, width)
    noise = rng.integers(-20, 20, (COUNT, 3, height, width)) + np.linspace(-30, 30, width)
    return (COLOURS[KINDS][:, :, None, None] + noise).clip(0, 255).astype(np.uint8)


def teacher(views):
    """Logits (B, K): how close the mean colour of a view is to each class's."""
    mean = ((views * STD + MEAN) * 255).mean((2, 3))
    return -torch.cdist(mean, torch.from_numpy(COLOURS).float()) / 40


class OneDraw(Sampler):
    """RandomSampler as it was: one permutation a pass."""

    def __init__(self, data, generator):
        self.data, self.generator = data, generator

    def __len__(self):
        return len(self.data)

    def __iter__(self):
        return iter(torch.randperm(len(self.data), generator=self.generator).tolist())


@pytest.fixture
def folder(tmp_path, relabel):
    """Labels of six items with CutMix."""
    relabel(tmp_path / "labels", pictures(SIZE, SIZE), teacher, INFO, epochs=EPOCHS, batch=BATCH)
    return tmp_path / "labels"


# --- replay ---

CASES = [
    (6, "cutmix", (SIZE, SIZE)),
    (6, "mixup", (SIZE, SIZE)),
    (6, "none", (SIZE, SIZE)),
    (6, "cutmix", (52, 40)),
    (7, "cutmix", (40, 52)),
    (8, "cutmix", (SIZE, SIZE)),
    (8, "cutmix", (52, 40)),
    (8, "mixup", (40, 52)),
]


@pytest.mark.parametrize(("items", "mixing", "shape"), CASES)
def test_views_and_labels_are_those_of_the_published_scripts(tmp_path, relabel, items, mixing, shape):
    images = pictures(*shape)
    options = {"epochs": EPOCHS, "batch": BATCH, "items": items, "mixing": mixing}
    seen = relabel(tmp_path, images, teacher, INFO, **options)
    labels = PublishedLabels(tmp_path, COUNT)
    shape = (labels.items, labels.mixing, labels.epochs, labels.batches, labels.batch_size, labels.classes)
    assert shape == (items, mixing, EPOCHS, 5, BATCH, CLASSES)
    for (epoch, index), (ids, views) in seen.items():
        stored = labels.batch(epoch, index)
        np.testing.assert_array_equal(stored.ids, ids.numpy())
        view = replay(torch.from_numpy(images), LABELS, stored, INFO)
        away = float(((view.images - views) * STD).abs().max()) * 255  # in grey levels; EDC's views are not rounded
        assert away <= (0.01 if items == 8 else 1.001)
        assert (view.stored - teacher(view.images)).abs().max() < 0.03
        assert view.stored.dtype == torch.float32 and stored.logits.dtype == torch.float16
        assert torch.equal(view.labels, LABELS[ids]) and torch.equal(view.ids, ids)
        assert view.mixed == (mixing != "none")
        assert torch.equal(view.partner_ids, ids[torch.from_numpy(stored.permutation)])


def test_the_share_is_that_of_the_box(folder):
    labels = PublishedLabels(folder, COUNT)
    for epoch, index in itertools.product(range(EPOCHS), range(5)):
        stored = labels.batch(epoch, index)
        board = np.ones((SIZE, SIZE))
        top, left, bottom, right = stored.box
        board[top:bottom, left:right] = 0
        view = replay(torch.from_numpy(pictures(SIZE, SIZE)), LABELS, stored, INFO)
        assert torch.allclose(view.share, torch.full((len(stored),), board.mean(), dtype=torch.float32))


def test_mixup_keeps_the_drawn_share(tmp_path, relabel):
    relabel(tmp_path, pictures(SIZE, SIZE), teacher, INFO, epochs=1, batch=BATCH, mixing="mixup", half=False)
    stored = PublishedLabels(tmp_path, COUNT).batch(0, 0)
    assert stored.logits.dtype == torch.float32
    written = torch.load(tmp_path / "epoch_0" / "batch_0.tar", weights_only=True)
    view = replay(torch.from_numpy(pictures(SIZE, SIZE)), LABELS, stored, INFO)
    assert view.share.tolist() == pytest.approx([written[3]] * BATCH)


def test_parts_of_a_view_are_the_view_and_images_may_be_fetched(folder):
    images, stored = torch.from_numpy(pictures(SIZE, SIZE)), PublishedLabels(folder, COUNT).batch(1, 2)
    whole = replay(images, LABELS, stored, INFO)
    asked = []

    def fetch(ids):
        asked.append(ids)
        return images[torch.from_numpy(ids)]

    parts = [replay(fetch, LABELS, stored, INFO, rows) for rows in ((0, 2), (2, 3), (3, BATCH))]
    for name in ("images", "labels", "partner_labels", "share", "ids", "partner_ids", "stored"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
    assert sum(map(len, asked)) == 2 * BATCH


def test_a_box_beyond_the_views_is_refused(folder):
    labels, small = PublishedLabels(folder, COUNT), replace(INFO, size=4)
    batches = (labels.batch(epoch, index) for epoch in range(EPOCHS) for index in range(5))
    stored = next(stored for stored in batches if max(stored.box) > 4)
    with pytest.raises(DataError, match="size that was relabelled"):
        replay(torch.from_numpy(pictures(SIZE, SIZE)), LABELS, stored, small)


def stored_crops(crops, on_tensors):
    n = len(crops)
    rest = (np.zeros(n, bool), np.arange(n), 1.0, None, torch.zeros(n, CLASSES), "none", on_tensors)
    return StoredBatch(np.arange(n), np.asarray(crops, np.float32), *rest)


def drawn_crops(height, width, count=400):
    """Boxes inside an image of this size: top, left, height, width."""
    rng = generator(0, "boxes", height, width)
    h, w = rng.integers(1, height + 1, count), rng.integers(1, width + 1, count)
    return np.stack([rng.integers(0, height - h + 1), rng.integers(0, width - w + 1), h, w], 1)


@pytest.mark.parametrize("on_tensors", [False, True])
def test_crops_of_the_relabelled_size_come_back_exactly(on_tensors):
    boxes = drawn_crops(224, 150)
    rows, columns = (150, 224) if on_tensors else (224, 150)
    stored = stored_crops(boxes / [rows, columns, rows, columns], on_tensors)
    np.testing.assert_array_equal(stored.boxes(224, 150), boxes)


def test_crops_of_another_size_are_rounded_as_pil_does():
    places = Image.fromarray(np.arange(61 * 47, dtype=np.int32).reshape(61, 47))
    stored = stored_crops(drawn_crops(224, 224) / 224, on_tensors=False)
    for fractions, (top, left, height, width) in zip(stored.crops.tolist(), stored.boxes(61, 47).tolist(), strict=True):
        t, l, h, w = np.multiply(fractions, [61, 47, 61, 47])  # noqa: E741
        crop = np.asarray(places.crop((l, t, l + w, t + h)))
        if crop.size:
            np.testing.assert_array_equal(crop, np.asarray(places)[top : top + height, left : left + width])
        assert height > 0 and width > 0


def test_crops_of_another_size_are_rounded_as_edc_does():
    stored = stored_crops(drawn_crops(224, 224) / 224, on_tensors=True)
    for fractions, box in zip(stored.crops.tolist(), stored.boxes(61, 61).tolist(), strict=True):
        top, left, height, width = (round(f * 61) for f in fractions)
        if 0 < height <= 61 - top and 0 < width <= 61 - left:
            assert box == [top, left, height, width]
        assert box[0] + box[2] <= 61 and box[1] + box[3] <= 61 and min(box[2:]) > 0


# --- the order that six items do not tell ---


@pytest.mark.parametrize(("sampler", "draws"), [(RandomSampler, 2), (OneDraw, 1)])
def test_order_is_that_of_the_sampler(sampler, draws):
    source = torch.Generator()
    source.manual_seed(42)
    theirs = sampler(range(COUNT), generator=source)
    expected = [list(theirs) for _ in range(6)]
    order = SamplerOrder(COUNT, draws)
    assert [order(epoch).tolist() for epoch in range(6)] == expected
    backwards = SamplerOrder(COUNT, draws)
    assert [backwards(epoch).tolist() for epoch in (5, 0, 3, 3)] == [expected[e] for e in (5, 0, 3, 3)]


def test_naive_orders_are_wrong(tmp_path, relabel):
    seen = relabel(tmp_path, pictures(SIZE, SIZE), teacher, INFO, epochs=EPOCHS, batch=BATCH)
    one_a_pass = SamplerOrder(COUNT, 1)
    for epoch in range(1, EPOCHS):
        true = torch.cat([seen[epoch, index][0] for index in range(5)]).numpy()
        assert (true != one_a_pass(epoch)).any() and (true != np.arange(COUNT)).any()
        np.testing.assert_array_equal(true, one_a_pass(2 * epoch))
        read = [PublishedLabels(tmp_path, COUNT).batch(epoch, index).ids for index in range(5)]
        np.testing.assert_array_equal(true, np.concatenate(read))


def test_labels_in_the_right_order_agree_with_the_images(folder):
    labels = PublishedLabels(folder, COUNT)
    assert labels.check_order(KINDS) > 0.8
    counts = np.sum([agreement(labels.batch(2, index), KINDS) for index in range(5)], axis=0)
    assert counts[0] == COUNT and counts[1] > 0.8 * COUNT
    assert counts[2] == pytest.approx(COUNT * (1 - 0.8**2), rel=0.05)


def test_labels_in_the_order_of_another_rule_are_refused(folder):
    with pytest.raises(DataError, match=r"last passes .* draws=1"):
        PublishedLabels(folder, COUNT, draws=1).check_order(KINDS)


def test_labels_of_early_torch_need_the_other_rule(tmp_path, relabel):
    relabel(tmp_path, pictures(SIZE, SIZE), teacher, INFO, epochs=EPOCHS, batch=BATCH, sampler=OneDraw)
    PublishedLabels(tmp_path, COUNT, draws=1).check_order(KINDS)
    with pytest.raises(DataError, match="chance gives"):
        PublishedLabels(tmp_path, COUNT).check_order(KINDS)


def test_labels_of_a_set_in_another_order_are_refused(folder):
    with pytest.raises(DataError, match=r"last passes .* sorted by class folder"):
        PublishedLabels(folder, COUNT).check_order(KINDS[::-1] * 2 % CLASSES)


@pytest.mark.parametrize("items", [7, 8])
def test_labels_that_name_their_images_need_no_rule(tmp_path, relabel, items):
    images = pictures(SIZE, SIZE)
    relabel(tmp_path, images, teacher, INFO, epochs=2, batch=BATCH, items=items, sampler=OneDraw)
    labels = PublishedLabels(tmp_path, COUNT)
    assert labels.order is None
    labels.check_order(KINDS)


def test_one_pass_is_checked_by_itself(tmp_path, relabel):
    relabel(tmp_path, pictures(SIZE, SIZE), teacher, INFO, epochs=1, batch=BATCH)
    for draws in (1, 2):  # pass 0 is the same by both rules
        assert PublishedLabels(tmp_path, COUNT, draws).check_order(KINDS) > 0.8
    with pytest.raises(DataError, match="do not fit the images"):
        PublishedLabels(tmp_path, COUNT).check_order(KINDS[::-1] * 2 % CLASSES)


def test_few_views_a_pass_are_judged_over_many_passes(tmp_path, relabel):
    """Ten views agree in six or seven cases, which is too few for one pass to show."""
    images, rng = pictures(SIZE, SIZE)[:10], np.random.default_rng(0)

    def doubtful(views):
        logits = teacher(views)
        return logits[:, torch.from_numpy(rng.permutation(CLASSES))] if rng.random() < 0.5 else logits

    relabel(tmp_path, images, doubtful, INFO, epochs=40, batch=10)
    assert 0.5 < PublishedLabels(tmp_path, 10).check_order(KINDS[:10]) < 0.8
    with pytest.raises(DataError, match="of 390 views"):
        PublishedLabels(tmp_path, 10, draws=1).check_order(KINDS[:10])


def test_rules_that_do_not_exist_are_refused(folder):
    with pytest.raises(UsageError, match="1 or 2"):
        PublishedLabels(folder, COUNT, draws=3)


# --- layouts of LPLD, LPQLD and HALD ---


def check_views(labels, seen, near=0.03):
    """Every stored batch shows the images and views that its maker saw, and its labels are those of these views."""
    images = torch.from_numpy(pictures(SIZE, SIZE))
    assert labels.places.tolist() == [list(place) for place in seen]
    for place, (ids, views) in seen.items():
        stored = labels.batch(*place)
        np.testing.assert_array_equal(stored.ids, ids.numpy())
        view = replay(images, LABELS, stored, INFO)
        assert float(((view.images - views) * STD).abs().max()) * 255 <= 1.001
        yield view.stored, teacher(views)


@pytest.mark.parametrize("kept", [10, 8, 5, 3, 1], ids=lambda kept: f"{kept} batches")
def test_pruned_labels_end_anywhere_and_leave_the_remainder_out(tmp_path, relabel, kept):
    """LPLD: 23 images in batches of 5 give four a pass, and the last pass ends where enough are kept."""
    seen = relabel(tmp_path, pictures(SIZE, SIZE), teacher, INFO, epochs=3, batch=BATCH, pruned=kept)
    labels = PublishedLabels(tmp_path, COUNT)
    assert len(labels.places) == kept and labels.sizes.sum() == sum(f.stat().st_size for f in tmp_path.rglob("*.tar"))
    for found, expected in check_views(labels, seen):
        assert (found - expected).abs().max() < 0.03
    with pytest.raises(UsageError, match="was asked for"):
        labels.batch(2, 3)


def test_the_order_beside_the_labels_counts_and_not_the_samplers(tmp_path, relabel):
    seen = relabel(tmp_path, pictures(SIZE, SIZE), teacher, INFO, epochs=3, batch=BATCH, pruned=10, sampler=OneDraw)
    assert len(list(check_views(PublishedLabels(tmp_path, COUNT), seen))) == 10
    (tmp_path / "sampler_indices_epoch.json").unlink()  # then the sampler's order is taken, and found to be wrong
    with pytest.raises(DataError, match="do not fit the images"):
        PublishedLabels(tmp_path, COUNT).check_order(KINDS)


def test_pruned_labels_without_an_order_beside_them_are_those_of_the_sampler(tmp_path, relabel, caplog):
    seen = relabel(tmp_path, pictures(SIZE, SIZE), teacher, INFO, epochs=3, batch=BATCH, pruned=10)
    (tmp_path / "sampler_indices_epoch.json").unlink()
    assert len(list(check_views(PublishedLabels(tmp_path, COUNT), seen))) == 10
    assert "epoch_2/batch_2.tar is missing" in caplog.text


@pytest.mark.parametrize("gone", ["epoch_1/batch_3.tar", "epoch_2/batch_1.tar", "epoch_1"])
def test_files_that_pruned_labels_lost_are_missed(tmp_path, relabel, gone):
    relabel(tmp_path, pictures(SIZE, SIZE), teacher, INFO, epochs=3, batch=BATCH, pruned=10)
    for file in [tmp_path / gone] if gone.endswith(".tar") else list((tmp_path / gone).iterdir()):
        file.unlink()
    with pytest.raises(DataError, match=r"not complete|files are missing"):
        PublishedLabels(tmp_path, COUNT)


@pytest.mark.parametrize("text", ["[]", '{"0": "abc"}', '{"0": [0.5]}', '{"a": [1]}', "{"])
def test_an_order_that_is_none_is_refused(tmp_path, relabel, text):
    relabel(tmp_path, pictures(SIZE, SIZE), teacher, INFO, epochs=1, batch=BATCH, pruned=4)
    (tmp_path / "sampler_indices_epoch.json").write_text(text)
    with pytest.raises(DataError, match=r"sampler_indices_epoch.json"):
        PublishedLabels(tmp_path, COUNT)


@pytest.mark.parametrize("kept", [10, 3])
def test_labels_of_the_largest_logits_alone_are_spread_over_the_classes(tmp_path, relabel, kept):
    """LPQLD: softmax over what is kept is softmax over all where the others are -inf."""
    seen = relabel(tmp_path, pictures(SIZE, SIZE), teacher, INFO, epochs=3, batch=BATCH, pruned=kept, top=2)
    labels = PublishedLabels(tmp_path, COUNT, classes=CLASSES)
    assert (labels.largest_only, labels.classes, labels.probabilities) == (True, CLASSES, False)
    for found, expected in check_views(labels, seen):
        largest = expected.topk(2, 1)
        by_hand = torch.zeros_like(expected).scatter(1, largest.indices, (largest.values / 3).softmax(1))
        assert ((found / 3).softmax(1) - by_hand).abs().max() < 0.01
    assert labels.check_order(KINDS) > 0.8
    with pytest.raises(DataError, match="the dataset has 2 classes"):
        PublishedLabels(tmp_path, COUNT, classes=2)


@pytest.mark.parametrize("unpacked", [False, True])
def test_labels_that_are_softened_already_are_probabilities(tmp_path, relabel, unpacked):
    """HALD, a file a pass; and what comes of unpacking it into FKD's layout."""
    seen = relabel(tmp_path, pictures(SIZE, SIZE), teacher, INFO, epochs=2, batch=BATCH, softened=4)
    if unpacked:
        for epoch in range(2):
            (tmp_path / f"epoch_{epoch}").mkdir()
            for index, items in enumerate(content(tmp_path / f"epoch_{epoch}.tar")):
                torch.save(items, tmp_path / f"epoch_{epoch}" / f"batch_{index}.tar")
            (tmp_path / f"epoch_{epoch}.tar").unlink()
    labels = PublishedLabels(tmp_path, COUNT)
    assert labels.probabilities and not labels.largest_only
    for found, expected in check_views(labels, seen):
        assert (found - (expected / 4).softmax(1)).abs().max() < 0.01


def test_a_pass_with_fewer_batches_than_the_first_is_named(tmp_path, relabel):
    relabel(tmp_path, pictures(SIZE, SIZE), teacher, INFO, epochs=2, batch=BATCH, softened=4)
    torch.save(content(tmp_path / "epoch_1.tar")[:-1], tmp_path / "epoch_1.tar")
    with pytest.raises(DataError, match=r"epoch_1.tar holds 4 batches, fewer than the first pass"):
        PublishedLabels(tmp_path, COUNT).batch(1, 4)


# --- files ---


def first(folder):
    return folder / "epoch_0" / "batch_0.tar"


def last(folder):
    return folder / "epoch_2" / "batch_4.tar"


def content(path):
    with torch.serialization.safe_globals(SAFE):
        return torch.load(path, weights_only=True)


def test_bytes_are_those_on_disk(folder):
    (folder / "sampler_indices_epoch.json").write_text("{}")  # LPLD leaves one beside the passes
    labels = PublishedLabels(folder, COUNT)
    assert labels.sizes.sum() == sum(path.stat().st_size for path in folder.rglob("*.tar"))
    assert labels.sizes[2, 4] == last(folder).stat().st_size


def test_asking_for_what_is_not_stored_is_refused(folder):
    labels = PublishedLabels(folder, COUNT)
    for epoch, index in ((EPOCHS, 0), (-1, 0), (0, 5)):
        with pytest.raises(UsageError, match="passes 0 to 2 with batches 0 to 4"):
            labels.batch(epoch, index)


def renamed(path, old, new):
    """Rewrite the pickle inside a file of torch.save."""
    with zipfile.ZipFile(path) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            assert old in part or not name.endswith("data.pkl")
            archive.writestr(name, part.replace(old, new) if name.endswith("data.pkl") else part)


def test_boxes_of_numpy_integers_are_read_from_numpy_1_and_2(folder):
    before = PublishedLabels(folder, COUNT).batch(0, 0).box
    assert b"numpy._core.multiarray" in first(folder).read_bytes()
    renamed(first(folder), b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy._core" not in first(folder).read_bytes()
    after = PublishedLabels(folder, COUNT).batch(0, 0).box
    assert before == after == tuple(content(first(folder))[4])


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("place", [0, 3, 4])
def test_a_file_that_would_run_code_is_refused_and_does_not_run_it(folder, tmp_path, place):
    mark = tmp_path / "ran"
    items = content(last(folder))
    items[place] = Evil(mark)
    torch.save(items, last(folder))
    with pytest.raises(DataError, match=r"batch_4\.tar holds more than tensors and numbers"):
        PublishedLabels(folder, COUNT).batch(2, 4)
    assert not mark.exists()
    torch.load(last(folder), weights_only=False)
    assert mark.exists()  # the file would have


def test_a_bare_pickle_is_refused_and_not_read(folder, tmp_path):
    first(folder).write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(DataError, match=r"holds more than tensors"):
        PublishedLabels(folder, COUNT)
    assert not (tmp_path / "ran").exists()


def test_files_cut_short_are_refused(folder):
    whole = last(folder).read_bytes()
    last(folder).write_bytes(whole[:20])
    with pytest.raises(DataError, match=r"batch_4\.tar is truncated: 20 bytes"):
        PublishedLabels(folder, COUNT)
    last(folder).write_bytes(whole[:-200])
    with pytest.raises(DataError, match=r"batch_4\.tar is damaged"):
        PublishedLabels(folder, COUNT).batch(2, 4)


def test_changed_bytes_are_found_wherever_numbers_lie(folder):
    labels = PublishedLabels(folder, COUNT)
    whole = last(folder).read_bytes()
    logits = content(last(folder))[5].numpy().tobytes()
    for start in (whole.index(logits), whole.index(logits) + len(logits) - 1, whole.index(b"_rebuild_tensor")):
        changed = bytearray(whole)
        changed[start] ^= 4
        last(folder).write_bytes(changed)
        with pytest.raises(DataError, match=r"batch_4\.tar is damaged: the checksum"):
            labels.batch(2, 4)


@pytest.mark.parametrize("gone", ["epoch_1", "epoch_2/batch_4.tar", "epoch_0/batch_0.tar"])
def test_missing_files_are_named(folder, gone):
    path = folder / gone
    for file in [path] if path.is_file() else list(path.iterdir()):
        file.unlink()
    named = gone if gone.endswith(".tar") else f"{gone}/batch_0.tar and 4 more"
    with pytest.raises(DataError, match=f"not complete: .*{named} is missing"):
        PublishedLabels(folder, COUNT)


def test_a_file_that_goes_away_is_named(folder):
    labels = PublishedLabels(folder, COUNT)
    last(folder).unlink()
    with pytest.raises(DataError, match=r"batch_4\.tar is missing"):
        labels.batch(2, 4)


def test_folders_without_labels_are_refused(folder, tmp_path):
    with pytest.raises(DataError, match=r"There is no folder .*nowhere"):
        PublishedLabels(tmp_path / "nowhere", COUNT)
    with pytest.raises(DataError, match=r"Did you mean .*labels\?"):
        PublishedLabels(tmp_path, COUNT)
    (tmp_path / "empty" / "epoch_0").mkdir(parents=True)
    with pytest.raises(DataError, match=r"epoch_0/batch_0\.tar is missing"):
        PublishedLabels(tmp_path / "empty", COUNT)


def test_labels_of_a_set_of_another_size_are_refused(folder):
    with pytest.raises(DataError, match="for 23 images; the condensed set has 25"):
        PublishedLabels(folder, 25)


def change(place, value):
    def apply(items):
        items[place] = value(items[place]) if callable(value) else value
        return items

    return apply


WRONG = {
    "a dictionary": (lambda items: {"labels": items[5]}, "holds dict"),
    "five items": (lambda items: items[:5], "holds 5 items"),
    "nine items": (lambda items: [*items, 0, 0, 0], "holds 9 items"),
    "crops of five numbers": (change(0, lambda t: torch.cat([t, t[:, :1]], 1)), "item 0"),
    "crops in pixels": (change(0, lambda t: t * 224), "item 0"),
    "crops that are not numbers": (change(0, lambda t: t * float("nan")), "item 0"),
    "flips that are cutouts": (change(1, lambda t: torch.rand(len(t), 7)), "item 1"),
    "no permutation": (change(2, lambda t: t * 0), "item 2"),
    "a weight above one": (change(3, 1.5), "item 3"),
    "no weight": (change(3, None), "item 3"),
    "a box of three": (change(4, lambda box: box[:3]), "item 4"),
    "a box inside out": (change(4, [9, 0, 3, 8]), "item 4"),
    "a box of floats": (change(4, [0.5, 0.0, 3.0, 8.0]), "item 4"),
    "whole numbers for logits": (change(5, lambda t: t.int()), "item 5"),
    "logits of fewer rows": (change(5, lambda t: t[:2]), "item 0"),
    "infinite logits": (change(5, lambda t: t / 0), "not finite"),
    "repeated positions": (lambda items: [*items, torch.zeros(3, dtype=torch.int64)], "item 6"),
    "negative positions": (lambda items: [*items, torch.tensor([0, -1, 1])], "item 6"),
    "more classes": (change(5, lambda t: torch.cat([t, t], 1)), "was expected"),
    "another mix": (change(4, None), "was expected"),
    "other items": (lambda items: [*items, torch.arange(3), torch.zeros(3, 2, 2).int()], "was expected"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_content_is_refused(folder, name):
    change, message = WRONG[name]
    torch.save(change(content(last(folder))), last(folder))
    labels = PublishedLabels(folder, COUNT)
    with pytest.raises(DataError, match=rf"batch_4\.tar.*{message}"):
        labels.batch(2, 4)


def test_positions_beyond_the_set_are_refused(tmp_path, relabel):
    relabel(tmp_path, pictures(SIZE, SIZE), teacher, INFO, epochs=1, batch=BATCH, items=7)
    items = content(first(tmp_path))
    items[6] = items[6] + COUNT
    torch.save(items, first(tmp_path))
    with pytest.raises(DataError, match="but the set has 23"):
        PublishedLabels(tmp_path, COUNT).batch(0, 0)

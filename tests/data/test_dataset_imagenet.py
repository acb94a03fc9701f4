"""ImageNet and its subsets in the layouts that people have: labels follow from wnids, wherever the images lie."""

import random
import zlib

import numpy as np
import pytest
from PIL import Image

from ddlight.core.errors import DataError, UsageError
from ddlight.data import ImageNet1K, ImageNet100, ImageNette, ImageWoof, TinyImageNet
from ddlight.data.table import TABLE

WNIDS = ("n01440764", "n01443537", "n03888257")


def colour(path, level):
    """An image whose pixels say which class it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (10, 8), (level, level, level)).save(path, quality=100)


def folders(root, wnids, part, count, below=""):
    for level, wnid in enumerate(wnids):
        for i in range(count):
            colour(root / part / wnid / below / f"{wnid}_{i}.JPEG", 10 * level)


def loose(root, wnids, file):
    """val/ as it was published, two images a class in no order, and Kaggle's file of their classes."""
    order = [wnid for wnid in wnids for _ in range(2)]
    random.Random(0).shuffle(order)
    lines = []
    for n, wnid in enumerate(order):
        name = f"ILSVRC2012_val_{n + 1:08d}"
        colour(root / "val" / f"{name}.JPEG", 10 * wnids.index(wnid))
        lines.append(f"{name},{wnid} 1 2 3 4 {wnid} 5 6 7 8 ")
    random.Random(9).shuffle(lines)
    file.write_text("\n".join(["ImageId,PredictionString", *lines]))


def levels(split):
    """Class that each image's pixels say."""
    return ((split.images[:, 0, 4, 4].astype(int) + 5) // 10).tolist()


@pytest.mark.parametrize("depth", [0, 3])
def test_loose_validation_images_get_their_classes_from_kaggles_file(tmp_path, depth):
    root = tmp_path / "ILSVRC" / "Data" / "CLS-LOC"
    folders(root, WNIDS, "train", 2)
    loose(root, WNIDS, [root, root.parent, root.parent.parent, tmp_path][depth] / "LOC_val_solution.csv")
    test = ImageNet1K(str(tmp_path), size=8, resize=8, wnids=list(WNIDS)).split("test")
    assert test.labels.tolist() == levels(test) == [0, 0, 1, 1, 2, 2]
    part = ImageNet1K(str(tmp_path), size=8, resize=8, wnids=[WNIDS[2], WNIDS[0]]).split("test")
    assert part.labels.tolist() == [0, 0, 1, 1]
    assert levels(part) == [0, 0, 2, 2]
    assert all(sample.startswith("val/ILSVRC2012_val_") for sample in test.ids)


def test_a_list_that_does_not_fit_the_images_is_refused(tmp_path):
    folders(tmp_path, WNIDS, "train", 1)
    loose(tmp_path, WNIDS, tmp_path / "LOC_val_solution.csv")
    stray = tmp_path / "val" / "ILSVRC2012_val_00000099.JPEG"
    colour(stray, 0)
    with pytest.raises(DataError, match=r"LOC_val_solution.csv has no label for ILSVRC2012_val_00000099.JPEG"):
        ImageNet1K(str(tmp_path), wnids=list(WNIDS)).index("test")
    stray.unlink()
    folders(tmp_path, ["n02102040"], "train", 1)
    with pytest.raises(DataError, match=r"val has no image of n02102040"):
        ImageNet1K(str(tmp_path), wnids=[*WNIDS, "n02102040"]).index("test")


PLACES = [
    (ImageNette, TABLE["ImageNette"].classes, "imagenette2-320"),
    (ImageNette, TABLE["ImageNette"].classes, "imagenette2"),
    (ImageWoof, TABLE["ImageWoof"].classes, "imagewoof2-160"),
    (ImageNet100, TABLE["ImageNet100"].classes, "imagenet100"),
    *((kind, TABLE[kind.name].classes, "imagenet") for kind in (ImageNet100, ImageNette, ImageWoof)),
]


@pytest.mark.parametrize(("kind", "wnids", "place"), PLACES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_subset_has_its_own_classes_whatever_else_lies_there(tmp_path, monkeypatch, kind, wnids, place):
    others = ["n01443537"] if place == "imagenet" else []  # no class of the three
    for part in ("train", "val"):
        for wnid in [*wnids, *others]:
            colour(tmp_path / place / part / wnid / "0.JPEG", 0)
    monkeypatch.setenv("DDLIGHT_DATA", str(tmp_path))
    data = kind(size=8, resize=8)
    assert data.info.classes == tuple(sorted(wnids)) == wnids
    assert data.index("train").ids.tolist() == [f"train/{wnid}/0.JPEG" for wnid in wnids]
    assert data.info.name == f"{kind.__name__}-8"


def test_imagenet_100_is_the_list_of_cmc():
    assert len(set(TABLE["ImageNet100"].classes)) == 100
    assert (TABLE["ImageNet100"].classes[0], TABLE["ImageNet100"].classes[-1]) == ("n01558993", "n13040303")
    assert ImageNet1K(wnids=list(TABLE["ImageNet100"].classes)).info.classes == TABLE["ImageNet100"].classes


def test_a_list_of_wnids_may_be_a_file(tmp_path):
    folders(tmp_path, WNIDS, "train", 1)
    folders(tmp_path, WNIDS, "val", 1)
    mine = tmp_path / "mine.txt"
    mine.write_text("n03888257\nn01440764\n")
    assert ImageNet1K(str(tmp_path), wnids=str(mine)).info.classes == (WNIDS[0], WNIDS[2])
    mine.write_text("n03888257\nn01440765\n")
    with pytest.raises(UsageError, match=r"n01440765 not among ILSVRC 2012's 1,000. Did you mean"):
        ImageNet1K(str(tmp_path), wnids=str(mine)).index("train")
    with pytest.raises(UsageError, match=r"there is no file none.txt"):
        ImageNet1K(str(tmp_path), wnids="none.txt").index("train")


@pytest.mark.parametrize("sorted_val", [False, True])
def test_tiny_imagenet_as_published_and_sorted(tmp_path, sorted_val):
    root = tmp_path / "tiny-imagenet-200"
    folders(root, WNIDS, "train", 2, "images")
    if sorted_val:
        folders(root, WNIDS, "val", 2)
    else:
        names = [f"val_{n}.JPEG" for n in (3, 1, 0, 2, 5, 4)]
        for n, name in enumerate(names):
            colour(root / "val" / "images" / name, 10 * (n // 2))
        lines = [f"{name}\t{WNIDS[n // 2]}\t0\t0\t9\t9" for n, name in enumerate(names)]
        (root / "val" / "val_annotations.txt").write_text("\n".join(lines[::-1]) + "\n")
    data = TinyImageNet(str(tmp_path), size=8)
    for name in ("train", "test"):
        split = data.split(name)
        assert split.labels.tolist() == levels(split) == [0, 0, 1, 1, 2, 2]
    assert data.info.classes == WNIDS
    assert (data.info.train, data.info.test, data.info.name) == (6, 6, "TinyImageNet-8")


def test_smaller_pictures_are_another_tiny_imagenet(tmp_path, monkeypatch):
    monkeypatch.setenv("DDLIGHT_DATA", str(tmp_path))
    for part in ("train", "val"):
        for wnid in WNIDS:
            picture(tmp_path / "tiny32" / part / wnid / "0.JPEG", 32, 32)
    assert TinyImageNet(size=32).info.name == "TinyImageNet-32"
    assert TinyImageNet().info.name == "TinyImageNet"  # nothing is found, so that the table speaks
    with pytest.raises(DataError, match=r"tiny32 have 32 pixels, and 64 are asked for: set the dataset's size to 32"):
        TinyImageNet().index("train")


def picture(path, width, height):
    """A picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(str(path).encode()))
    Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path)


@pytest.mark.parametrize(("sides", "short"), [((28, 28), 8), ((30, 28), round(8 * 256 / 224))])
def test_squares_are_read_whole_and_others_as_is_usual(tmp_path, sides, short):
    for part in ("train", "val"):
        for wnid in TABLE["ImageNette"].classes:
            picture(tmp_path / part / wnid / "0.png", *sides)
    data = ImageNette(str(tmp_path), size=8)
    with Image.open(tmp_path / "val" / "n02102040" / "0.png") as image:
        resized = image.resize((sides[0] * short // 28, short), Image.Resampling.BILINEAR)
    left, top = round((resized.width - 8) / 2), round((short - 8) / 2)
    expected = np.asarray(resized.crop((left, top, left + 8, top + 8))).transpose(2, 0, 1)
    np.testing.assert_array_equal(data.split("test").images[1], expected)
    assert (data.info.name, data.identity()["resize"]) == ("ImageNette-8", short)
    assert ImageNette(str(tmp_path), size=8, resize=8).identity()["resize"] == 8


def test_fewer_images_a_class_are_drawn_and_the_rest_can_be_held_out(tmp_path):
    folders(tmp_path, WNIDS, "train", 6)
    folders(tmp_path, WNIDS, "val", 1)
    options = {"wnids": list(WNIDS), "size": 8}
    data, whole = ImageNet1K(str(tmp_path), per_class=2, held_out=3, **options), ImageNet1K(str(tmp_path), **options)
    train, held = data.index("train"), data.index("held_out")
    assert train.labels.tolist() == [0, 0, 1, 1, 2, 2] and held.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert not {*train.ids} & {*held.ids} and {*train.ids, *held.ids} < {*whole.index("train").ids}
    assert levels(data.split("held_out")) == held.labels.tolist()
    assert (data.info.name, data.info.train, data.info.held_out) == ("ImageNet1K-6-8", 6, 9)
    assert data.identity() != ImageNet1K(str(tmp_path), held_out=3, **options).identity()
    assert ImageNette(size=64, per_class=500).info.name == "ImageNette-5k-64"
    with pytest.raises(UsageError, match=r"held_out: 5 .*0 to 4"):
        ImageNet1K(str(tmp_path), per_class=2, held_out=5, **options).index("train")
    with pytest.raises(UsageError, match=r"per_class: 7 .*has 6 .*"):
        ImageNet1K(str(tmp_path), per_class=7, **options).index("train")
    with pytest.raises(UsageError, match="per_class is a number of training images"):
        ImageNette(per_class=0)


def test_tiny_imagenet_that_is_not_whole_is_refused(tmp_path):
    with pytest.raises(DataError, match="TinyImageNet was not found"):
        TinyImageNet(str(tmp_path)).index("train")
    folders(tmp_path, WNIDS, "train", 1, "images")
    colour(tmp_path / "val" / "images" / "val_0.JPEG", 0)
    (tmp_path / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn01440764\nval_1.JPEG\tn99999999\n")
    with pytest.raises(DataError, match=r"n99999999 without training images, val_1.JPEG not in"):
        TinyImageNet(str(tmp_path)).index("test")

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from timm.data import ImageNetInfo

from ddlight.core.errors import DataError, UsageError
from ddlight.data import ImageFolder, ImageNet1K, ImageNette
from ddlight.data import folder as folder_module
from ddlight.data.folder import read_rgb
from ddlight.data.table import TABLE


def noise(seed: int, width: int, height: int, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(seed)
    channels = {"RGB": (3,), "RGBA": (4,), "L": ()}[mode]
    return Image.fromarray(rng.integers(0, 256, (height, width, *channels), dtype=np.uint8))


def plain(path, value: int, size: tuple[int, int] = (12, 10)) -> None:
    """Save an image of one colour, (value, 0, 255 - value)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 255 - value)).save(path)


def build(folder, classes: dict[str, int], ext: str = "png") -> None:
    """Make `<folder>/<class>/<k>.<ext>`; red is 20 times the position of the class plus k."""
    for c, (name, count) in enumerate(sorted(classes.items())):
        for k in range(count):
            plain(folder / name / f"{k}.{ext}", 20 * c + k)


@pytest.fixture
def split_root(tmp_path):
    root = tmp_path / "pets"
    build(root / "train", {"dog": 4, "cat": 3, "owl": 5})
    build(root / "test", {"dog": 2, "cat": 2, "owl": 1})
    return root


@pytest.fixture
def whole_root(tmp_path):
    root = tmp_path / "whole"
    build(root, {"b": 10, "a": 5, "c": 2})
    return root


def reds(split) -> list[int]:
    return split.images[:, 0, 3, 3].tolist()


def test_split_folder(split_root):
    data = ImageFolder(str(split_root), size=8)
    train, test = data.split("train"), data.split("test")
    assert data.info.classes == ("cat", "dog", "owl") and data.num_classes == 3
    assert (data.info.train, data.info.test, data.info.size) == (12, 5, 8)
    assert data.info.name == f"ImageFolder-{split_root.name}"
    assert train.labels.tolist() == [0] * 3 + [1] * 4 + [2] * 5
    assert reds(train) == [0, 1, 2, 20, 21, 22, 23, 40, 41, 42, 43, 44]
    assert test.ids.tolist() == [f"test/{name}.png" for name in ("cat/0", "cat/1", "dog/0", "dog/1", "owl/0")]
    assert train.images.shape == (12, 3, 8, 8) and train.images.dtype == np.uint8 and train.labels.dtype == np.int64
    assert (
        train.images.transpose(0, 2, 3, 1).flags.c_contiguous
        and not train.images.flags.writeable
        and train.ids.dtype.kind == "U"
    )
    assert data.split("train") is train
    assert data.info.flip and not ImageFolder(str(split_root), flip=False).info.flip


def test_val_is_the_test_split_where_there_is_no_test(split_root):
    (split_root / "test").rename(split_root / "val")
    assert ImageFolder(str(split_root)).split("test").ids[0] == "val/cat/0.png"
    build(split_root / "test", {"dog": 1, "cat": 1, "owl": 1})
    assert len(ImageFolder(str(split_root)).split("test")) == 3


def test_whole_folder_is_split_by_class(whole_root):
    data = ImageFolder(str(whole_root), size=8)
    train, test = data.split("train"), data.split("test")
    assert np.bincount(test.labels).tolist() == [1, 2, 1]  # a fifth, at least one, and one is left to train on
    assert np.bincount(train.labels).tolist() == [4, 8, 1]
    assert not set(train.ids) & set(test.ids) and "a/0.png" in {*train.ids, *test.ids}
    assert ImageFolder(str(whole_root), size=8).split("test").ids.tolist() == test.ids.tolist()
    half = ImageFolder(str(whole_root), size=8, test_fraction=0.5).split("test")
    assert np.bincount(half.labels).tolist() == [2, 5, 1]
    for split in (train, test):
        assert reds(split) == [20 * "abc".index(i[0]) + int(i[2]) for i in split.ids]


def test_a_class_may_be_called_train(tmp_path):
    build(tmp_path, {"train": 3, "tram": 3, "bus": 3})
    assert ImageFolder(str(tmp_path)).info.classes == ("bus", "train", "tram")


def test_held_out_images_come_from_train(split_root):
    data = ImageFolder(str(split_root), size=8, held_out=2)
    train, held = data.split("train"), data.split("held_out")
    assert np.bincount(held.labels).tolist() == [2, 2, 2] and np.bincount(train.labels).tolist() == [1, 2, 3]
    assert sorted([*train.ids, *held.ids]) == ImageFolder(str(split_root)).split("train").ids.tolist()
    assert sorted(reds(train) + reds(held)) == [0, 1, 2, 20, 21, 22, 23, 40, 41, 42, 43, 44]
    assert (data.info.train, data.info.held_out) == (6, 6)
    assert len(ImageFolder(str(split_root)).split("held_out")) == 0
    with pytest.raises(UsageError, match=r"held_out: 3 .*class 'cat' has 3.*0 to 2"):
        ImageFolder(str(split_root), held_out=3).split("train")


def test_nested_folders_links_and_other_files(split_root, tmp_path):
    plain(split_root / "train" / "cat" / "images" / "x.JPEG", 9)
    (split_root / "train" / "cat" / "boxes.txt").write_text("0 0 1 1")
    (split_root / "train" / ".cache").mkdir()
    plain(split_root / "train" / "cat" / "._9.png", 9)
    plain(tmp_path / "elsewhere" / "y.png", 11)
    (split_root / "train" / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    ids = ImageFolder(str(split_root)).split("train").ids
    assert [i for i in ids if "cat" in i] == [
        "train/cat/0.png", "train/cat/1.png", "train/cat/2.png", "train/cat/images/x.JPEG", "train/cat/more/y.png",
    ]  # fmt: skip


@pytest.mark.parametrize("size", [(50, 37), (37, 51), (24, 24), (9, 30), (200, 33)])
@pytest.mark.parametrize("resize", [16, 21])
def test_pixels_are_torchvisions_resize_and_centre_crop(tmp_path, size, resize):
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    image = noise(1, *size)
    image.save(tmp_path / "x.png")
    expected = Compose([Resize(resize, InterpolationMode.BILINEAR), CenterCrop(16)])(image)
    np.testing.assert_array_equal(read_rgb(tmp_path / "x.png", 16, resize).transpose(1, 2, 0), np.asarray(expected))


def test_grey_transparent_and_jpeg_images_become_rgb(tmp_path):
    noise(2, 20, 20, "L").save(tmp_path / "grey.png")
    grey = read_rgb(tmp_path / "grey.png", 20, 20)
    assert (grey == np.asarray(noise(2, 20, 20, "L"))).all()
    noise(3, 20, 20, "RGBA").save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(
        read_rgb(tmp_path / "alpha.png", 20, 20).transpose(1, 2, 0), np.asarray(noise(3, 20, 20, "RGBA"))[..., :3]
    )
    noise(4, 20, 20).convert("CMYK").save(tmp_path / "cmyk.jpg")
    assert read_rgb(tmp_path / "cmyk.jpg", 8, 10).shape == (3, 8, 8)


def test_resize_option_crops(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for k in range(2):
            noise(k, 40, 40).save(tmp_path / name / f"{k}.png")
    cropped, whole = (ImageFolder(str(tmp_path), size=20, resize=r).split("test").images for r in (40, None))
    name = ImageFolder(str(tmp_path), size=20).split("test").ids[0]
    original = np.asarray(Image.open(tmp_path / name)).transpose(2, 0, 1)
    np.testing.assert_array_equal(cropped[0], original[:, 10:30, 10:30])
    assert (cropped != whole).any()


def test_identity_follows_files_and_options(split_root, whole_root):
    def identity(**options) -> str:
        return json.dumps(ImageFolder(str(split_root), **options).identity())

    first = identity()
    assert identity() == first and json.loads(first)["files"]["count"] == 17
    changed = [identity(size=8), identity(held_out=1), identity(resize=80), identity(flip=False)]
    assert len({first, *changed}) == 5
    assert identity(test_fraction=0.3) == first  # the folder has a split of its own
    one, other = (ImageFolder(str(whole_root), test_fraction=f).identity() for f in (0.2, 0.3))
    assert one != other
    image = split_root / "train" / "cat" / "0.png"
    image.write_bytes(image.read_bytes() + b"\0")
    grown = identity()
    image.rename(image.with_name("7.png"))
    assert len({first, grown, identity()}) == 3
    dogs = [split_root / "train" / "dog" / f"{k}.png" for k in (0, 1)]
    dogs[0].write_bytes(dogs[0].read_bytes() + b"\0")
    one_grown = identity()
    dogs[0].write_bytes(dogs[0].read_bytes()[:-1])
    dogs[1].write_bytes(dogs[1].read_bytes() + b"\0")
    assert identity() != one_grown  # names and total as before, the sizes of two files not
    moved = split_root.parent / "moved"
    before = identity()
    split_root.rename(moved)
    assert json.dumps(ImageFolder(str(moved)).identity()) == before


# Wrong trees


def refused(root, *words: str) -> None:
    with pytest.raises(DataError) as error:
        ImageFolder(str(root)).split("train")
    for word in words:
        assert word in str(error.value)


def test_missing_root(tmp_path):
    refused(tmp_path / "none", f"Searched:\n  {tmp_path}/none", "<root>/train/<class>", "`root`")
    with pytest.raises(UsageError, match="needs a folder"):
        _ = ImageFolder().info


def test_no_class_folders(tmp_path):
    refused(tmp_path, str(tmp_path), "no class folders")


def test_images_at_top_level(split_root, tmp_path):
    plain(tmp_path / "flat" / "x.png", 1)
    refused(tmp_path / "flat", "in no class folder, such as x.png")
    plain(split_root / "test" / "y.png", 1)
    refused(split_root, f"{split_root}/test holds 1 images", "y.png")


def test_empty_class(split_root):
    for part in ("train", "test"):
        (split_root / part / "emu").mkdir()
    (split_root / "test" / "emu" / "clip.mp4").write_bytes(b"")
    refused(split_root, f"{split_root}/train has no images in 1 of its 4 class folders: emu")
    plain(split_root / "train" / "emu" / "0.png", 1)
    refused(split_root, f"{split_root}/test has no images in 1 of its 4 class folders: emu", ".png")


def test_different_classes(split_root):
    (split_root / "test" / "owl").rename(split_root / "test" / "cow")
    refused(split_root, "different class folders", "owl only in train/", "cow only in test/")


def test_train_without_test_and_test_without_train(split_root):
    (split_root / "test").rename(split_root.parent / "gone")
    refused(split_root, "no test/ or val/", f"root: {split_root}/train")
    (split_root / "train").rename(split_root / "val")
    refused(split_root, "val/ and no train/")


def test_one_folder_too_high(split_root):
    refused(split_root.parent, "only one class folder, pets/", f"root: {split_root}")


def test_class_of_one_image_cannot_be_split(whole_root):
    (whole_root / "c" / "0.png").unlink()
    refused(whole_root, f"{whole_root}/c holds one image")


def test_damaged_images_are_named(split_root):
    cat = split_root / "train" / "cat"
    (cat / "0.png").write_bytes(b"not an image")
    (cat / "1.png").write_bytes((cat / "1.png").read_bytes()[:50])
    refused(split_root, "2 of 12 images", f"{cat}/0.png: ", f"{cat}/1.png: ")
    assert len(ImageFolder(str(split_root)).split("test")) == 5
    noise(0, 99, 99).save(cat / "2.jpg")
    (cat / "2.jpg").write_bytes((cat / "2.jpg").read_bytes()[:900])
    Image.fromarray(np.full((9, 9), 3000, dtype=np.uint16)).save(split_root / "train" / "owl" / "0.png")
    for k in range(4):
        (split_root / "train" / "dog" / f"{k}.png").write_bytes(b"")
    refused(split_root, "8 of 13 images", "and 3 more")
    with pytest.raises(ValueError, match="8-bit"):
        read_rgb(split_root / "train" / "owl" / "0.png", 8, 8)


def test_options_are_checked():
    for options in ({"size": 0}, {"size": 64, "resize": 63}, {"test_fraction": 0.0}, {"test_fraction": 1.0}):
        with pytest.raises(UsageError):
            ImageFolder("x", **options)


def test_arrays_larger_than_memory_are_refused(split_root, monkeypatch):
    monkeypatch.setattr(folder_module, "total_memory", lambda: 1e4)
    with pytest.raises(UsageError, match="12 images of 64x64"):
        ImageFolder(str(split_root)).split("train")


# ImageNet


WNIDS = ["n01440764", "n01443537", "n03888257"]


@pytest.fixture
def imagenet(tmp_path):
    """Three classes in ILSVRC's layout, and its unlabelled test images, which are not read."""
    root = tmp_path / "imagenet"
    build(root / "train", dict.fromkeys(WNIDS, 3), "JPEG")
    build(root / "val", dict.fromkeys(WNIDS, 2), "JPEG")
    plain(root / "test" / "ILSVRC2012_test_00000001.JPEG", 0)
    return tmp_path


def test_imagenet_subset(imagenet, monkeypatch):
    chosen = [WNIDS[2], WNIDS[0]]
    data = ImageNet1K(str(imagenet), size=8, resize=10, wnids=chosen)
    assert data.info.classes == (WNIDS[0], WNIDS[2]) and data.num_classes == 2  # sorted, whatever the order given
    train, test = data.split("train"), data.split("test")
    assert train.labels.tolist() == [0] * 3 + [1] * 3 and len(test) == 4
    assert test.ids[0] == f"val/{WNIDS[0]}/0.JPEG"
    for split in (train, test):  # labels follow the wnid's folder
        assert [data.info.classes[label] for label in split.labels] == [i.split("/")[1] for i in split.ids]
    assert data.class_names() == ("tench, Tinca tinca", "parachute, chute")
    assert (data.info.train, data.info.test, data.info.name) == (6, 4, "ImageNet1K-8")
    assert data.wnids == chosen
    assert len(ImageNet1K(str(imagenet / "imagenet"), wnids=WNIDS).tree.classes) == 3
    monkeypatch.setenv("DDLIGHT_DATA", str(imagenet))
    assert ImageNet1K(wnids=WNIDS).tree.root == imagenet / "imagenet"
    assert ImageNet1K(wnids=WNIDS).identity() != ImageNet1K(wnids=chosen).identity()


def test_imagenet_with_too_few_classes_is_refused_with_counts(imagenet):
    with pytest.raises(
        DataError, match=r"train has 3 class folders, 3 of the 1,000 wanted.*and 992 more missing.*wnids: \["
    ):
        ImageNet1K(str(imagenet)).split("train")


def test_imagenet_complete_tree(tmp_path):
    wnids = ImageNetInfo("imagenet-1k").label_names()
    plain(tmp_path / "one.JPEG", 100)
    for part in ("train", "val"):
        for wnid in wnids:
            (tmp_path / part / wnid).mkdir(parents=True)
            (tmp_path / part / wnid / "x.JPEG").hardlink_to(tmp_path / "one.JPEG")
    data = ImageNet1K(str(tmp_path), size=4, resize=4)
    assert data.info.classes == tuple(sorted(wnids)) and data.num_classes == 1000
    assert data.split("test").labels.tolist() == list(range(1000))
    for part in ("train", "val"):
        (tmp_path / part / "n00000000").mkdir()
    with pytest.raises(DataError, match=r"1,001 class folders.*n00000000 not of ILSVRC"):
        _ = ImageNet1K(str(tmp_path)).tree


def test_imagenet_absent_shows_the_tree_and_the_line(tmp_path):
    with pytest.raises(DataError) as error:
        ImageNet1K(str(tmp_path)).split("train")
    info = ImageNet1K(str(tmp_path), size=160).info
    assert (info.num_classes, info.size, info.train) == (1000, 160, 1_281_167)  # known without the files
    for word in (str(tmp_path / "imagenet"), "train/<wnid>/*.JPEG", "val/<wnid>/*.JPEG", "image-net.org", "python -c"):
        assert word in str(error.value)


def test_imagenet_wnids_are_checked(imagenet):
    for wnids, words in (
        (["n01440765", WNIDS[0]], "n01440765 not among.*Did you mean n01440764"),
        ([WNIDS[0], WNIDS[0]], "each once"),
        ([WNIDS[0]], "two or more"),
    ):
        with pytest.raises(UsageError, match=words):
            ImageNet1K(str(imagenet), wnids=wnids).split("train")
    with pytest.raises(DataError, match="n02102040 missing"):
        ImageNet1K(str(imagenet), wnids=[*WNIDS, "n02102040"]).split("train")


def test_imagenet_validation_images_that_were_not_sorted(imagenet):
    val = imagenet / "imagenet" / "val"
    plain(val / "ILSVRC2012_val_00000001.JPEG", 1)
    with pytest.raises(DataError, match=r"holds loose images and no class folders, and LOC_val_solution\.csv"):
        ImageNet1K(str(imagenet), wnids=WNIDS).split("test")


def test_imagenette(tmp_path):
    for part, count in (("train", 2), ("val", 1)):
        build(tmp_path / "imagenette2" / part, dict.fromkeys([*TABLE["ImageNette"].classes, WNIDS[1]], count), "JPEG")
    data = ImageNette(str(tmp_path), held_out=1, size=8, resize=8)
    assert data.info.classes == TABLE["ImageNette"].classes and data.info.name == "ImageNette-8"
    assert data.split("held_out").labels.tolist() == list(range(10))
    indices = [ImageNetInfo("imagenet-1k").label_names().index(w) for w in data.info.classes]
    assert indices == [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]


def test_classes_that_the_table_lists_are_read_in_its_order(split_root, monkeypatch):
    monkeypatch.setitem(TABLE, "ImageFolder", replace(TABLE["ImageFolder"], classes=("owl", "cat")))
    data = ImageFolder(str(split_root), size=8)
    assert data.info.classes == ("owl", "cat")
    assert np.bincount(data.index("train").labels).tolist() == [5, 3]
    monkeypatch.setitem(TABLE, "ImageFolder", replace(TABLE["ImageFolder"], classes=("owl", "cow")))
    with pytest.raises(DataError, match=r"train has 1 of the 2 class folders of ImageFolder: cow missing"):
        ImageFolder(str(split_root), size=8).index("train")

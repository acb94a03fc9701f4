"""What counts as a picture of a user's folder: each real file once, and nothing that systems leave behind."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddlight.core.errors import DataError
from ddlight.data import ImageFolder
from ddlight.data.walk import EXTENSIONS


def draw(path, value, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, 0, 0)).save(path, **options)


@pytest.fixture
def photos(tmp_path):
    """Three classes of four photographs, each of another red."""
    for c, name in enumerate(("ant", "bee", "cat")):
        for i in range(4):
            draw(tmp_path / "photos" / name / f"{i}.png", 10 * c + i)
    return tmp_path / "photos"


def found(root, **options):
    data = ImageFolder(root=str(root), size=8, **options)
    return sorted([*data.index("train").ids.tolist(), *data.index("test").ids.tolist()])


PLAIN = [f"{name}/{i}.png" for name in ("ant", "bee", "cat") for i in range(4)]
LITTER = (".ipynb_checkpoints", "@eaDir", ".Trash-1000", "__MACOSX", "#recycle", "deeper/.thumbnails", "$RECYCLE.BIN")


@pytest.mark.parametrize("name", LITTER)
@pytest.mark.parametrize("place", ["", "ant"])
def test_hidden_and_system_folders_hold_no_pictures_at_any_depth(photos, place, name):
    if not place and "/" in name:
        name = name.rpartition("/")[2]
    draw(photos / place / name / "0-checkpoint.png", 99)
    assert found(photos) == PLAIN


LINKS = {
    "parent": ("ant/up", "."),
    "own class": ("ant/self", "ant"),
    "other class": ("ant/more", "bee"),
    "a picture": ("ant/again.png", "ant/0.png"),
    "a picture of another class": ("bee/wrong.png", "ant/0.png"),
    "nothing": ("ant/gone.png", "nowhere.png"),
}


@pytest.mark.parametrize("case", LINKS)
def test_links_to_what_is_there_count_no_picture_twice(photos, case, caplog):
    link, target = LINKS[case]
    (photos / link).symlink_to((photos / target).resolve())
    caplog.set_level("INFO", "ddlight")
    assert found(photos) == PLAIN
    assert "12 pictures of 3 classes, 4 a class; left out: 1 " in caplog.text


def test_links_to_elsewhere_are_followed_once_and_loops_end(photos, tmp_path):
    draw(tmp_path / "more" / "deep" / "x.png", 77)
    (tmp_path / "more" / "deep" / "loop").symlink_to(tmp_path / "more")
    (photos / "ant" / "more").symlink_to(tmp_path / "more")
    (photos / "bee" / "more").symlink_to(tmp_path / "more")
    (photos / "cat" / "one.png").symlink_to(tmp_path / "more" / "deep" / "x.png")
    assert found(photos) == sorted([*PLAIN, "ant/more/deep/x.png", "cat/one.png"])


def test_classes_may_be_links_but_not_two_to_one_folder(photos, tmp_path):
    draw(tmp_path / "elsewhere" / "0.png", 70)
    draw(tmp_path / "elsewhere" / "1.png", 71)
    (photos / "dog").symlink_to(tmp_path / "elsewhere")
    assert found(photos) == [*PLAIN, "dog/0.png", "dog/1.png"]
    (photos / "eel").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"eel and .*dog are one folder"):
        found(photos)


def test_a_link_from_one_split_to_the_other_adds_nothing(tmp_path):
    for part, first in (("train", 0), ("test", 50)):
        for c, name in enumerate(("ant", "bee")):
            for i in range(2):
                draw(tmp_path / part / name / f"{i}.png", first + 10 * c + i)
    plain = found(tmp_path)
    (tmp_path / "train" / "ant" / "all").symlink_to(tmp_path / "test" / "ant")
    (tmp_path / "test" / "bee" / "x.png").symlink_to(tmp_path / "train" / "bee" / "0.png")
    assert len(plain) == 8 and found(tmp_path) == plain


def test_pictures_that_lie_in_two_splits_or_classes_are_said(tmp_path, caplog):
    for part, first in (("train", 0), ("test", 50)):
        for c, name in enumerate(("ant", "bee")):
            draw(tmp_path / part / name / "0.png", first + 10 * c)
    caplog.set_level("WARNING", "ddlight")
    ImageFolder(root=str(tmp_path), size=8).identity()
    assert "pictures are in" not in caplog.text
    draw(tmp_path / "test" / "ant" / "copy.png", 0)
    draw(tmp_path / "train" / "bee" / "wrong.png", 0)
    ImageFolder(root=str(tmp_path), size=8).identity()
    assert (
        "1 pictures are in the training and the test split, such as train/ant/0.png and test/ant/copy.png"
        in caplog.text
    )
    assert "1 pictures are in two classes, such as train/ant/0.png and train/bee/wrong.png" in caplog.text


@pytest.mark.parametrize("ending", ["jfif", "jpe", "gif", "JPEG", *(["avif"] if ".avif" in EXTENSIONS else [])])
def test_other_endings_of_pictures_are_read(photos, ending):
    path = photos / "ant" / f"x.{ending}"
    kind = {"jfif": "JPEG", "jpe": "JPEG"}.get(ending, ending.upper())
    frames = {"save_all": True, "append_images": [Image.new("RGB", (8, 8))]} if ending == "gif" else {}
    draw(path, 200, format=kind, **frames)
    assert f"ant/x.{ending}" in found(photos)
    red = ImageFolder(root=str(photos), size=8).read(path)[0]
    assert np.abs(red.astype(int) - 200).max() < 12


def test_pictures_that_are_not_read_and_pipes_are_said(photos, caplog):
    (photos / "ant" / "raw.heic").write_bytes(b"x")
    os.mkfifo(photos / "bee" / "pipe.png")
    caplog.set_level("INFO", "ddlight")
    assert found(photos) == PLAIN
    assert "1 broken links, pipes and devices, 1 pictures that end in .heic, which is not read" in caplog.text


def test_names_that_are_no_text_are_refused(photos):
    os.close(os.open(os.fsencode(photos / "ant") + b"/\xff\xfe.png", os.O_CREAT))
    with pytest.raises(DataError, match=r"ant holds a name that is not UTF-8: b'\\xff\\xfe.png'. Rename it"):
        found(photos)
    Path(os.fsdecode(os.fsencode(photos / "ant") + b"/\xff\xfe.png")).unlink()
    Path(os.fsdecode(os.fsencode(photos) + b"/\xff")).mkdir()
    with pytest.raises(DataError, match=r"photos holds a name that is not UTF-8"):
        found(photos)


SPLITS = (
    ("Train", "Test"),
    ("training", "validation"),
    ("TRAIN", "val"),
    ("train_set", "test-set"),
    ("train", "Valid"),
)


@pytest.mark.parametrize(("train", "test"), SPLITS)
def test_splits_however_they_are_spelt_are_splits(tmp_path, train, test):
    for c, name in enumerate(("ant", "bee")):
        draw(tmp_path / train / name / "0.png", c)
        draw(tmp_path / test / name / "0.png", 50 + c)
    data = ImageFolder(root=str(tmp_path), size=8)
    assert data.info.classes == ("ant", "bee")
    assert (data.index("train").ids[0], data.index("test").ids[0]) == (f"{train}/ant/0.png", f"{test}/ant/0.png")


def test_what_may_be_a_split_or_a_class_is_asked_about(tmp_path):
    for name in ("Training/ant", "Training/bee", "Test/ant", "Test/bee", "dog"):
        draw(tmp_path / name / "0.png", 5)
    with pytest.raises(DataError, match="Training, Test, which look like splits, and dog beside: are they classes"):
        found(tmp_path)


def test_classes_may_be_called_like_splits_where_they_hold_pictures(tmp_path):
    for c, name in enumerate(("Train", "Tram", "eval")):
        for i in range(2):
            draw(tmp_path / name / f"{i}.png", 10 * c + i)
    assert ImageFolder(root=str(tmp_path), size=8).info.classes == ("Train", "Tram", "eval")


def test_one_split_alone_is_asked_about(tmp_path):
    for name in ("Test/ant", "Test/bee"):
        draw(tmp_path / name / "0.png", 5)
    with pytest.raises(DataError, match="has a folder Test/ and no train/ beside it"):
        found(tmp_path)
    (tmp_path / "Test").rename(tmp_path / "Training")
    with pytest.raises(DataError, match=r"no test/ or val/"):
        found(tmp_path)

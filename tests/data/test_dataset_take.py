"""Parts of a split without the rest: labels without pixels, rows without their neighbours, pixels decoded once."""

import numpy as np
import pytest
from PIL import Image

from ddlight.core.errors import DataError
from ddlight.core.files import cache_folder
from ddlight.data import Digits, ImageFolder
from ddlight.data import folder as folder_module


@pytest.fixture
def tree(tmp_path):
    """Two classes, six training and four test images each, of several sizes."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 4)):
        for name in ("bee", "ant"):
            place = tmp_path / "tree" / part / name
            place.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 255, (20 + i, 25, 3), np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.png")
    return str(tmp_path / "tree")


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that are decoded."""
    seen, read = [], folder_module.read_rgb
    monkeypatch.setattr(folder_module, "read_rgb", lambda path, *a: seen.append(path.name) or read(path, *a))
    return seen


@pytest.mark.parametrize("name", ["train", "held_out", "test"])
def test_index_and_take_are_parts_of_the_split(tree, name):
    for data, other in (
        (ImageFolder(tree, held_out=1, size=16), ImageFolder(tree, held_out=1, size=16)),
        (Digits(held_out=2), Digits(held_out=2)),
    ):
        whole, index = other.split(name), data.index(name)
        np.testing.assert_array_equal(index.labels, whole.labels)
        np.testing.assert_array_equal(index.ids, whole.ids)
        rows = np.array([len(index) - 1, 0])
        np.testing.assert_array_equal(data.take(name, rows), whole.images[rows])


def test_listing_decodes_nothing_and_taking_decodes_the_rows_alone(tree, reads):
    data = ImageFolder(tree, size=16)
    assert len(data.index("train")) == 12
    assert data.encoded("train")[7].name == "1.png"
    assert not reads
    data.take("train", np.array([7, 2]))
    assert sorted(reads) == ["1.png", "2.png"]


def test_a_large_split_is_decoded_into_a_file_once(tree, reads, monkeypatch):
    monkeypatch.setattr(folder_module, "KEPT_BYTES", 100)
    expected = ImageFolder(tree, size=16).split("test").images
    reads.clear()
    data = ImageFolder(tree, size=16)
    np.testing.assert_array_equal(data.take("test", np.arange(8)), expected)
    assert len(reads) == 8
    np.testing.assert_array_equal(ImageFolder(tree, size=16).take("test", np.array([5, 1])), expected[[5, 1]])
    assert len(reads) == 8
    (file,) = (cache_folder() / "decoded").iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    np.testing.assert_array_equal(ImageFolder(tree, size=16).take("test", np.array([5, 1])), expected[[5, 1]])
    assert len(reads) == 16
    other = ImageFolder(tree, size=8)
    other.take("test", np.array([0]))
    assert len(list((cache_folder() / "decoded").iterdir())) == 2  # named by what was decoded
    assert len(reads) == 24


def test_small_splits_are_decoded_by_one_run_for_all(tree, reads):
    data = ImageFolder(tree, size=16)
    data.take("train", np.arange(6))
    assert len(reads) == 6 and not (cache_folder() / "decoded").exists()  # no more than half of them
    expected = {"train": data.take("train", np.arange(12)), "test": data.split("test").images}
    assert len(reads) == 6 + 12 + 8
    for name, images in expected.items():
        np.testing.assert_array_equal(ImageFolder(tree, size=16).take(name, np.array([7, 1])), images[[7, 1]])
        np.testing.assert_array_equal(ImageFolder(tree, size=16).split(name).images, images)
    assert len(reads) == 6 + 12 + 8
    plain = np.stack([folder_module.read_rgb(path, 16, 16) for path in data.encoded("train")])
    np.testing.assert_array_equal(plain, expected["train"])


def test_damaged_pixels_are_decoded_again(tree, reads):
    expected = ImageFolder(tree, size=16).split("test").images
    (file,) = (cache_folder() / "decoded").iterdir()
    content = bytearray(file.read_bytes())
    content[5 * (3 * 16 * 16 + 4) + 100] ^= 1
    file.write_bytes(content)
    reads.clear()
    for _ in range(2):
        np.testing.assert_array_equal(ImageFolder(tree, size=16).split("test").images, expected)
        assert len(reads) == 8


def test_without_a_cache_images_are_decoded_each_time(tree, caplog, monkeypatch, tmp_path):
    expected = ImageFolder(tree, size=16).split("test").images
    (tmp_path / "file").touch()
    monkeypatch.setenv("DDLIGHT_CACHE", str(tmp_path / "file"))
    np.testing.assert_array_equal(ImageFolder(tree, size=16).split("test").images, expected)
    assert "decoded images are not kept in" in caplog.text


def test_a_damaged_image_is_named(tree):
    data = ImageFolder(tree, size=16)
    data.encoded("train")[3].write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1 of 2 images cannot be read.*\n.*ant/3.png"):
        data.take("train", np.array([3, 4]))
    assert data.take("train", np.array([4])).shape == (1, 3, 16, 16)


def test_labels_and_ids_are_built_once_however_often_they_are_asked_for(tree, monkeypatch):
    builds, draw = [], folder_module.draw_held_out
    monkeypatch.setattr(folder_module, "draw_held_out", lambda *a: builds.append(a) or draw(*a))
    data = ImageFolder(tree, size=16, held_out=1)
    for _ in range(3):
        for name in ("train", "held_out", "test"):
            assert data.index(name) is data.index(name)
            assert data.encoded(name).ids is data.index(name).ids
    assert len(builds) == 1


def test_paths_are_made_when_they_are_taken(tree):
    data = ImageFolder(tree, size=16)
    files = data.encoded("train")
    assert [path.relative_to(tree).as_posix() for path in files] == data.index("train").ids.tolist()
    assert list(files[2:4]) == [files[2], files[3]] and files[-1] == list(files)[-1] and len(files) == 12
    assert not Digits().encoded("train")

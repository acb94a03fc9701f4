"""Data are named by what their files hold: replaced, touched and moved files, and the cache that saves reading them."""

import os
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddlight.core.errors import DataError
from ddlight.core.files import cache_folder
from ddlight.data import ImageFolder, contents
from ddlight.data.contents import BLOCK, content_hashes
from ddlight.methods.baselines.random import Random


@pytest.fixture
def tree(home):
    """Three images of each of two classes in both splits, pixels that no compression makes shorter or longer."""
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            (home / "pets" / part / name).mkdir(parents=True)
            for k in range(3):
                pixels = rng.integers(0, 256, (80, 80, 3), np.uint8)
                Image.fromarray(pixels).save(home / "pets" / part / name / f"{k}.bmp")
    return home / "pets"


@pytest.fixture
def reads(monkeypatch):
    """Names of the files whose content is read."""
    names, read = [], contents._read
    monkeypatch.setattr(contents, "_read", lambda path, *a: names.append(path.name) or read(path, *a))
    return names


def identity(tree):
    return ImageFolder(str(tree), size=8).identity()


def settle(tree, monkeypatch):
    """Let the files be older than the time in which a change may not show in a file's times."""
    now = time.time_ns() + 10 * contents.SETTLED
    monkeypatch.setattr(contents.time, "time_ns", lambda: now)


def test_another_picture_of_the_same_size_is_other_data_and_makes_another_set(tree, home, monkeypatch):
    settle(tree, monkeypatch)

    def folder():
        return Random(ImageFolder(str(tree), size=8), ipc=1, cache=str(home / "sets")).folder

    before, name = identity(tree), folder()
    image = tree / "train" / "ant" / "1.bmp"
    size, times = image.stat().st_size, (image.stat().st_atime_ns, image.stat().st_mtime_ns)
    Image.fromarray(np.random.default_rng(9).integers(0, 256, (80, 80, 3), np.uint8)).save(image)
    os.utime(image, ns=times)  # as a copy that keeps times does
    assert image.stat().st_size == size
    assert identity(tree) != before
    assert folder() != name


def test_times_and_places_do_not_name_data(tree, monkeypatch, reads):
    settle(tree, monkeypatch)
    before = identity(tree)
    (tree / "train" / "ant" / "1.bmp").touch()
    reads.clear()
    assert identity(tree) == before
    assert reads == ["1.bmp"]
    reads.clear()
    assert identity(tree.rename(tree.with_name("moved"))) == before
    assert len(reads) == 12
    copy = shutil.copytree(tree.with_name("moved"), tree.with_name("copied"))
    assert identity(copy) == before


def test_files_that_stay_are_read_once_and_asked_for_their_size_once(tree, monkeypatch, reads):
    settle(tree, monkeypatch)
    before = identity(tree)
    assert len(reads) == 12
    seen, stat = Counter(), Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **k: seen.update([path]) or stat(path, **k))
    data = ImageFolder(str(tree), size=8)
    assert data.identity() == data.identity() == before
    assert len(reads) == 12
    assert {path: n for path, n in seen.items() if path.suffix == ".bmp"} == dict.fromkeys(tree.rglob("*.bmp"), 1)


def test_what_changed_just_now_is_read_again(tree, reads):
    before = identity(tree)
    assert identity(tree) == before
    assert len(reads) == 24


def test_a_damaged_cache_is_ignored_and_mended(tree, monkeypatch, reads):
    settle(tree, monkeypatch)
    before = identity(tree)
    (cache,) = (cache_folder() / "hashes").iterdir()
    for damage in (cache.read_bytes()[:-1], b"", bytes([cache.read_bytes()[0] ^ 1]) + cache.read_bytes()[1:]):
        cache.write_bytes(damage)
        reads.clear()
        assert identity(tree) == before == identity(tree)
        assert len(reads) == 12


def test_a_cache_that_cannot_be_written_is_done_without(tree, home, monkeypatch):
    settle(tree, monkeypatch)
    before = identity(tree)
    (home / "file").write_bytes(b"")
    monkeypatch.setenv("DDLIGHT_CACHE", str(home / "file" / "cache"))
    assert identity(tree) == before


def test_start_middle_and_end_of_a_large_file_are_hashed_or_all_of_it(tmp_path):
    file, size = tmp_path / "x", 10 * BLOCK
    content = np.zeros(size, np.uint8)

    def hashed(change, whole=False):
        changed = content.copy()
        changed[change] = 1
        file.write_bytes(changed.tobytes())
        return content_hashes(tmp_path, ["x"], whole)

    blocks = (0, BLOCK - 1, size // 2, size - BLOCK, size - 1)
    assert len({str(hashed(at)) for at in blocks}) == len(blocks)
    assert hashed(BLOCK) == hashed(size - BLOCK - 1) != hashed(0)
    assert hashed(BLOCK, whole=True) != hashed(size - BLOCK - 1, whole=True)
    file.write_bytes(b"\0" * (size + 1))
    assert content_hashes(tmp_path, ["x"]) != hashed([])


def test_a_file_that_is_gone_is_named(tree):
    data = ImageFolder(str(tree), size=8)
    assert len(data.index("train")) == 6
    (tree / "train" / "bee" / "0.bmp").unlink()
    with pytest.raises(DataError, match=r"bee/0\.bmp cannot be read: No such file"):
        data.identity()

import gzip
import hashlib
import json
import pickle
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from ddlight.core.errors import DataError, UsageError
from ddlight.data import CIFAR10, CIFAR100, MNIST, SVHN, CIFAR10_5k, FashionMNIST, FashionMNIST5k, arrays
from ddlight.data.arrays import draw_5k, listed_5k, read_idx
from ddlight.data.base import draw_few
from ddlight.data.table import TABLE

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def small(monkeypatch):
    """Tables that expect 40 training and 20 test images."""
    for name in ("MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "SVHN"):
        row = TABLE[name]
        few = replace(row, train=40, test=20, classes=row.classes[:10])
        monkeypatch.setitem(TABLE, name, few)


def images_and_labels(seed: int, n: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([rng.permutation(10) for _ in range(n // 10)])
    return rng.integers(0, 256, (n, *shape), dtype=np.uint8), labels


@pytest.fixture
def idx_root(tmp_path, small):
    """`MNIST/raw/` as torchvision has it, labels packed."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for k, (n, names) in enumerate(((40, FILES[:2]), (20, FILES[2:]))):
        images, labels = images_and_labels(k, n, 28, 28)
        (raw / names[0]).write_bytes(idx(images))
        (raw / f"{names[1]}.gz").write_bytes(gzip.compress(idx(labels)))
    return tmp_path


def test_idx_files_are_read(idx_root):
    data = MNIST(str(idx_root))
    for k, (part, n) in enumerate((("train", 40), ("test", 20))):
        images, labels = images_and_labels(k, n, 28, 28)
        split = data.split(part)
        np.testing.assert_array_equal(split.images[:, 0], images)
        np.testing.assert_array_equal(split.labels, labels)
        assert split.images.shape == (n, 1, 28, 28) and split.labels.dtype == np.int64
        assert split.ids.tolist() == [f"{part}/{i:05d}" for i in range(n)]
        assert not split.images.flags.writeable and split.images.flags.c_contiguous


def test_files_may_lie_in_the_root_itself(idx_root):
    direct = MNIST(str(idx_root / "MNIST" / "raw"))
    np.testing.assert_array_equal(direct.split("test").images, MNIST(str(idx_root)).split("test").images)


def test_default_root_is_the_variable(idx_root, monkeypatch):
    monkeypatch.setenv("DDLIGHT_DATA", str(idx_root))
    assert len(MNIST().split("test")) == 20


def test_held_out_comes_from_train_and_keeps_its_ids(idx_root):
    data = MNIST(str(idx_root), held_out=3)
    train, held, whole = data.split("train"), data.split("held_out"), MNIST(str(idx_root)).split("train")
    assert np.bincount(held.labels).tolist() == [3] * 10 and len(train) == 10
    assert sorted([*train.ids, *held.ids]) == whole.ids.tolist()
    for split in (train, held):
        rows = [int(i[-5:]) for i in split.ids]
        np.testing.assert_array_equal(split.images, whole.images[rows])
        np.testing.assert_array_equal(split.labels, whole.labels[rows])
    assert (data.info.train, data.info.held_out) == (10, 30)
    with pytest.raises(UsageError, match=r"held_out: 4 .*0 to 3"):
        MNIST(str(idx_root), held_out=4).split("train")


def test_identity_is_the_same_packed_or_not_and_changes_with_the_content(idx_root):
    before = json.dumps(MNIST(str(idx_root)).identity())
    raw = idx_root / "MNIST" / "raw"
    packed = raw / f"{FILES[1]}.gz"
    content = gzip.decompress(packed.read_bytes())
    packed.unlink()
    (raw / FILES[1]).write_bytes(content)
    assert json.dumps(MNIST(str(idx_root)).identity()) == before
    (raw / FILES[1]).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert json.dumps(MNIST(str(idx_root)).identity()) != before
    assert MNIST(str(idx_root), held_out=1).identity() != MNIST(str(idx_root)).identity()


def test_missing_data_say_where_what_and_how(tmp_path, monkeypatch):
    with pytest.raises(DataError) as error:
        MNIST(str(tmp_path)).split("train")
    for word in (f"{tmp_path}/MNIST/raw", "t10k-labels-idx1-ubyte", "python -c", f"MNIST('{tmp_path}'", "`root`"):
        assert word in str(error.value)
    monkeypatch.setenv("DDLIGHT_DATA", str(tmp_path / "none"))
    monkeypatch.setattr(FashionMNIST, "package", tmp_path / "debian")
    with pytest.raises(DataError) as error:
        FashionMNIST().identity()
    for word in (f"{tmp_path}/none/FashionMNIST/raw", f"{tmp_path}/debian", "apt install", "DDLIGHT_DATA"):
        assert word in str(error.value)


def test_a_named_root_is_the_only_place(tmp_path, monkeypatch):
    monkeypatch.setattr(FashionMNIST, "package", tmp_path / "debian")
    with pytest.raises(DataError) as error:
        FashionMNIST(str(tmp_path / "mine")).split("test")
    assert "debian" not in str(error.value).split("Expected")[0]


@pytest.mark.parametrize("cut", [3, 10, 500])
def test_truncated_idx_is_named(idx_root, cut):
    path = idx_root / "MNIST" / "raw" / FILES[0]
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=FILES[0]):
        MNIST(str(idx_root)).split("train")


@pytest.mark.parametrize("damage", [lambda b: b[:-12], lambda b: b"no gzip", lambda b: b[:20] + b"\0\0\0" + b[23:]])
def test_damaged_gzip_is_named(idx_root, damage):
    path = idx_root / "MNIST" / "raw" / f"{FILES[1]}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"{FILES[1]}.gz"):
        MNIST(str(idx_root)).split("train")


def test_idx_of_other_dimensions_or_type_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(idx(np.zeros(4)))
    assert read_idx(tmp_path / "a", 1).shape == (4,)
    with pytest.raises(DataError, match="3 dimensions"):
        read_idx(tmp_path / "a", 3)
    (tmp_path / "b").write_bytes(struct.pack(">HBBI", 0, 13, 1, 1) + b"\0\0\0\0")
    with pytest.raises(DataError, match="not an idx file of bytes"):
        read_idx(tmp_path / "b", 1)


def test_counts_and_labels_other_than_published_are_refused(idx_root):
    raw = idx_root / "MNIST" / "raw"
    (raw / f"{FILES[3]}.gz").write_bytes(gzip.compress(idx(np.arange(20) % 9)))
    with pytest.raises(DataError, match="20 labels of 9 values"):
        MNIST(str(idx_root)).split("test")
    (raw / FILES[0]).write_bytes(idx(np.zeros((39, 28, 28))))
    with pytest.raises(DataError, match=r"\(39, 1, 28, 28\)"):
        MNIST(str(idx_root)).split("train")


def test_download_fetches_what_is_missing_and_only_then(idx_root, tmp_path, monkeypatch):
    from torchvision import datasets

    calls = []

    def fetch(root, download):
        calls.append((root, download))
        (Path(root) / "MNIST").mkdir(parents=True)
        (idx_root / "MNIST" / "raw").rename(Path(root) / "MNIST" / "raw")

    monkeypatch.setattr(datasets, "MNIST", fetch)
    new = tmp_path / "new"
    with pytest.raises(DataError, match="not found"):
        MNIST(str(new)).split("test")
    assert len(MNIST(str(new), download=True).split("test")) == 20
    MNIST(str(new), download=True).split("test")
    assert calls == [(str(new), True)]


def test_several_processes_download_once_and_nobody_reads_half_a_file(idx_root, tmp_path, monkeypatch):
    from torchvision import datasets

    calls, half = [], threading.Event()

    def fetch(root, download):
        calls.append(root)
        raw = Path(root) / "MNIST" / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        whole = {p.name: p.read_bytes() for p in (idx_root / "MNIST" / "raw").iterdir()}
        for name, content in whole.items():
            (raw / name).write_bytes(content[:20])
        half.set()
        time.sleep(0.5)
        for name, content in whole.items():
            (raw / name).write_bytes(content)

    monkeypatch.setattr(datasets, "MNIST", fetch)
    new = tmp_path / "new"
    with ThreadPoolExecutor(4) as pool:
        early = [pool.submit(MNIST(str(new), download=True).split, "test") for _ in range(3)]
        assert half.wait(60)
        late = pool.submit(MNIST(str(new), download=True).split, "test")
        assert [len(split.result(60)) for split in [*early, late]] == [20] * 4
    assert calls == [str(new)] and [p.name for p in new.iterdir()] == ["MNIST"]


def test_data_in_a_folder_that_is_not_ours_need_no_lock(idx_root, monkeypatch):
    monkeypatch.setattr(Path, "mkdir", None)
    monkeypatch.setattr(Path, "open", None)
    assert MNIST(str(idx_root), download=True)._ready() == idx_root / "MNIST" / "raw"


def test_failed_download_is_a_data_error(tmp_path, monkeypatch):
    from torchvision import datasets

    def fail(root, download):
        raise OSError("no route to host")

    monkeypatch.setattr(datasets, "FashionMNIST", fail)
    with pytest.raises(DataError, match="no route to host"):
        FashionMNIST5k(str(tmp_path), download=True).identity()


# CIFAR and SVHN, read by torchvision from small files in the published formats


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def pickled(path: Path, content: dict) -> list[str]:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return [path.name, md5(path)]


@pytest.fixture
def cifar10(tmp_path, small, monkeypatch):
    from torchvision import datasets

    folder = tmp_path / "cifar-10-batches-py"
    images, labels = images_and_labels(3, 60, 3, 32, 32)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    cuts = [0, 8, 16, 24, 32, 40, 60]
    entries = [
        pickled(folder / n, {"data": images[a:b].reshape(b - a, -1), "labels": labels[a:b].tolist()})
        for n, a, b in zip(names, cuts, cuts[1:], strict=False)
    ]
    meta = pickled(folder / "batches.meta", {"label_names": list(TABLE["CIFAR10"].classes)})
    monkeypatch.setattr(datasets.CIFAR10, "train_list", entries[:5])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", entries[5:])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    return tmp_path, images, labels


def test_cifar10(cifar10):
    root, images, labels = cifar10
    data = CIFAR10(str(root))
    np.testing.assert_array_equal(data.split("train").images, images[:40])
    np.testing.assert_array_equal(data.split("test").images, images[40:])
    np.testing.assert_array_equal(data.split("test").labels, labels[40:])
    assert data.split("train").images.flags.c_contiguous and data.split("train").labels.dtype == np.int64
    test = root / "cifar-10-batches-py/test_batch"
    assert [test.relative_to(root).as_posix(), test.stat().st_size] in [file[:2] for file in data.contents]
    before = data.identity()
    content = bytearray(test.read_bytes())
    content[len(content) // 3] ^= 1
    test.write_bytes(content)
    assert CIFAR10(str(root)).identity() != before  # of the same size, and another byte in it


@pytest.fixture
def pictures(tmp_path, small, monkeypatch):
    """`cifar10/train/<class>/` and `test/`, lossless; each class's images in their order."""
    monkeypatch.setenv("DDLIGHT_DATA", str(tmp_path))
    images, labels = images_and_labels(3, 60, 3, 32, 32)
    for part, rows in (("train", range(40)), ("test", range(40, 60))):
        for row in rows:
            file = tmp_path / "cifar10" / part / TABLE["CIFAR10"].classes[labels[row]] / f"{row:04d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[row].transpose(1, 2, 0)).save(file)
    return tmp_path / "cifar10", images, labels


def test_cifar10_of_class_folders(pictures):
    root, images, labels = pictures
    for data in (CIFAR10(), CIFAR10(str(root)), CIFAR10(str(root.parent))):
        for part, rows in (("train", np.arange(40)), ("test", np.arange(40, 60))):
            split, order = data.split(part), rows[np.argsort(labels[rows], kind="stable")]
            np.testing.assert_array_equal(split.images, images[order])
            np.testing.assert_array_equal(split.labels, labels[order])
            assert split.ids[0] == f"{part}/airplane/{order[0]:04d}.png"
        assert data.info.name == "CIFAR10-png" and data.info.train == 40


def test_jpeg_copies_of_cifar10_are_other_data(pictures):
    root = pictures[0]
    lossless = CIFAR10().identity()
    for file in [*root.rglob("*.png")]:
        with Image.open(file) as image:
            image.save(file.with_suffix(".jpg"), quality=75)
        file.unlink()
    data = CIFAR10()
    assert data.info.name == "CIFAR10-jpeg" and data.identity() != lossless
    next(root.glob("test/cat/*.jpg")).unlink()
    with pytest.raises(DataError, match=r"40 training and 19 test pictures of CIFAR10, where 40 and 20 .*ImageFolder"):
        CIFAR10().index("test")


def test_cifar10_5k_is_a_stratified_draw_from_batches_and_folders_alike(pictures, monkeypatch):
    monkeypatch.setattr(arrays, "PER_CLASS", 2)
    data, whole = CIFAR10_5k(held_out=1), CIFAR10().split("train")
    train, held = data.split("train"), data.split("held_out")
    assert np.bincount(train.labels).tolist() == [2] * 10 and np.bincount(held.labels).tolist() == [1] * 10
    assert not set(train.ids) & set(held.ids)
    rows = [whole.ids.tolist().index(name) for name in train.ids]
    np.testing.assert_array_equal(train.images, whole.images[rows])
    np.testing.assert_array_equal(data.split("test").ids, CIFAR10().split("test").ids)
    assert data.info.name == "CIFAR10_5k-png" and (data.info.train, data.info.held_out) == (5000, 10)
    with pytest.raises(UsageError, match=r"held_out: 3 .*0 to 2"):
        CIFAR10_5k(held_out=3).split("train")
    # The batches have the classes mixed: the same images of each class are drawn.
    labels = np.random.default_rng(0).permutation(whole.labels)
    mixed, sorted_ = (draw_few(x, 2, 1, data.info.classes, "CIFAR10_5k") for x in (labels, whole.labels))
    for rows, others in zip(mixed, sorted_, strict=True):
        for c in range(10):
            within = np.isin(np.flatnonzero(labels == c), rows), np.isin(np.flatnonzero(whole.labels == c), others)
            np.testing.assert_array_equal(*within)


def test_damaged_and_missing_cifar10(cifar10):
    root = cifar10[0]
    batch = root / "cifar-10-batches-py" / "data_batch_3"
    before = CIFAR10(str(root)).identity()
    batch.write_bytes(batch.read_bytes() + b"x")
    assert CIFAR10(str(root)).identity() != before
    with pytest.raises(DataError, match="corrupted"):
        CIFAR10(str(root)).split("train")
    batch.unlink()
    with pytest.raises(DataError, match=r"cifar-10-batches-py/(.|\n)*python -c"):
        CIFAR10(str(root)).split("train")


def test_cifar100_reads_fine_labels(tmp_path, small, monkeypatch):
    from torchvision import datasets

    images, labels = images_and_labels(4, 60, 3, 32, 32)
    folder = tmp_path / "cifar-100-python"
    content = [
        {"data": images[a:b].reshape(b - a, -1), "fine_labels": labels[a:b].tolist(), "coarse_labels": [0] * (b - a)}
        for a, b in ((0, 40), (40, 60))
    ]
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [pickled(folder / "train", content[0])])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [pickled(folder / "test", content[1])])
    meta = pickled(folder / "meta", {"fine_label_names": ["x"] * 10})
    monkeypatch.setattr(datasets.CIFAR100, "meta", {"filename": meta[0], "key": "fine_label_names", "md5": meta[1]})
    data = CIFAR100(str(tmp_path), held_out=1)
    np.testing.assert_array_equal(data.split("test").labels, labels[40:])
    np.testing.assert_array_equal(data.split("test").images, images[40:])
    assert len(data.split("train")) == 30


def test_svhn_counts_zero_as_zero(tmp_path, small, monkeypatch):
    from torchvision import datasets

    entries = {}
    for k, (part, n) in enumerate((("train", 40), ("test", 20))):
        images, labels = images_and_labels(k, n, 3, 32, 32)
        path = tmp_path / f"{part}_32x32.mat"
        stored = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]  # the files call the digit 0 "10"
        savemat(path, {"X": images.transpose(2, 3, 1, 0), "y": stored})
        entries[part] = ["", path.name, md5(path)]
    monkeypatch.setattr(datasets.SVHN, "split_list", entries)
    data = SVHN(str(tmp_path))
    images, labels = images_and_labels(0, 40, 3, 32, 32)
    np.testing.assert_array_equal(data.split("train").images, images)
    np.testing.assert_array_equal(data.split("train").labels, labels)
    assert data.split("train").images.flags.c_contiguous
    with pytest.raises(DataError, match=r"train_32x32\.mat"):
        SVHN(str(tmp_path / "none")).identity()


def test_svhn_download_gets_both_files(tmp_path, monkeypatch):
    from torchvision import datasets

    calls = []
    monkeypatch.setattr(datasets, "SVHN", lambda root, split, download: calls.append((root, split, download)))
    with pytest.raises(DataError, match="not found"):
        SVHN(str(tmp_path), download=True).identity()
    assert calls == [(str(tmp_path), "train", True), (str(tmp_path), "test", True)]


# The real Fashion-MNIST


def fashion_is_there() -> bool:
    try:
        FashionMNIST().identity()
    except DataError:
        return False
    return True


needs_fashion = pytest.mark.skipif(
    not fashion_is_there(),
    reason="Fashion-MNIST's files are not there: ddlight datasets FashionMNIST says how to get them",
)


@pytest.fixture(scope="module")
def fashion() -> FashionMNIST:
    return FashionMNIST()


@pytest.mark.fashion
@needs_fashion
def test_fashion_loads_fast_with_the_published_statistics(fashion):
    start = time.process_time()
    train = fashion.split("train")
    assert time.process_time() - start < 1.5
    assert train.images.shape == (60_000, 1, 28, 28) and np.bincount(train.labels).tolist() == [6000] * 10
    assert train.labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert train.images.mean() / 255 == pytest.approx(fashion.info.mean[0], abs=5e-4)
    assert train.images.std() / 255 == pytest.approx(fashion.info.std[0], abs=5e-4)
    assert len(fashion.split("test")) == 10_000


@pytest.mark.fashion
@needs_fashion
def test_the_shipped_list_regenerates(fashion):
    drawn = draw_5k(fashion.split("train").labels)
    np.testing.assert_array_equal(drawn, listed_5k())
    text = (resources.files("ddlight.data") / "fashion_mnist_5k.txt").read_text()
    assert [line for line in text.splitlines() if line[0] != "#"] == [str(i) for i in drawn]


@pytest.mark.fashion
@needs_fashion
def test_fashion_5k_and_its_held_out_images(fashion):
    data, whole = FashionMNIST5k(), fashion.split("train")
    train, held = data.split("train"), data.split("held_out")
    assert np.bincount(train.labels).tolist() == [500] * 10 and np.bincount(held.labels).tolist() == [500] * 10
    assert not set(train.ids) & set(held.ids)
    for split in (train, held):
        rows = [int(i[-5:]) for i in split.ids]
        assert split.ids.tolist() == whole.ids[rows].tolist()
        np.testing.assert_array_equal(split.images, whole.images[rows])
        np.testing.assert_array_equal(split.labels, whole.labels[rows])
    np.testing.assert_array_equal(data.split("test").ids, fashion.split("test").ids)
    assert (data.info.train, data.info.held_out, data.info.test) == (5_000, 5_000, 10_000)


@pytest.mark.fashion
@needs_fashion
def test_fashion_5k_can_hold_out_all_the_rest():
    data = FashionMNIST5k(held_out=5500)
    assert len({*data.split("train").ids, *data.split("held_out").ids}) == 60_000
    with pytest.raises(UsageError, match=r"held_out: 5501 .*0 to 5,500"):
        FashionMNIST5k(held_out=5501).split("train")


def test_the_shipped_list_is_five_thousand_positions():
    chosen = listed_5k()
    assert chosen.dtype == np.int64 and len(chosen) == 5000
    assert (np.diff(chosen) > 0).all() and chosen[0] >= 0 and chosen[-1] < 60_000

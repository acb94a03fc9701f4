"""Sets that others published: every layout as its makers write it, read, judged, or refused."""

import doctest
import io
import json
import pickle
import shutil
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ddlight.core import artefact
from ddlight.core.errors import DataError, UsageError
from ddlight.data import CIFAR100, MNIST, Digits, ImageFolder, ImageNette
from ddlight.data.table import TABLE
from ddlight.methods.baselines.released import Released
from ddlight.networks.students import ConvNet
from ddlight.networks.teachers import RunTeacher
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.hard_label import HardLabel
from ddlight.regimes.soft_label import SoftLabel
from ddlight.regimes.teacher_label import TeacherLabel
from ddlight.sets import store
from ddlight.sets.readers import released, released_set
from ddlight.sets.readers.released import read_released
from ddlight.train.trainer import Trainer

IPC = 3
RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 255, (10, IPC, 32, 32), np.uint8)
LABELS = np.repeat(np.arange(10), IPC)
NORMAL = torch.tensor((BYTES.reshape(-1, 1, 32, 32) / 255 - 0.5) / 0.25, dtype=torch.float32)


def pictures(folder, name, ending="png", classes=range(10), first=0):
    """Class folders: `name` gives folder and file of class c and image i."""
    for c in classes:
        for i in range(IPC):
            file = folder / f"{name(c, i + first)}.{ending}"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(BYTES[c % 10, i]).save(file)
    return folder


def sre2l(place):
    return pictures(place / "syn", lambda c, i: f"new{c:03d}/class{c:03d}_id{i:03d}")


def rded(place):
    return pictures(place / "syn_data", lambda c, i: f"{c:05d}/class{c:05d}_id{i:05d}")


def plain(place):
    return pictures(place / "set", lambda c, i: f"{c}/{i}_extra.x".removesuffix(".x"))


def dc(place):
    wrong = [torch.zeros_like(NORMAL), torch.tensor(LABELS)]
    content = {"data": [wrong, [NORMAL, torch.tensor(LABELS)]], "accs_all_exps": {"ConvNet": [0.5, 0.6]}}
    torch.save(content, place / "res_DSA_Digits_ConvNet_3ipc.pt")
    return place / "res_DSA_Digits_ConvNet_3ipc.pt"


def dc_folder(place):
    return dc(place).parent


def mtt(place):
    torch.save(NORMAL, place / "images_best.pt")
    torch.save(torch.tensor(LABELS), place / "labels_best.pt")
    return place / "images_best.pt"


def mtt_folder(place):
    return mtt(place).parent


def split(place):
    for part in range(5):
        torch.save(NORMAL[6 * part : 6 * part + 6], place / f"images_best_{part}.pt")
        torch.save(torch.tensor(LABELS[6 * part : 6 * part + 6]), place / f"labels_best_{part}.pt")
    return place


def datm(place):
    logits = torch.full((30, 10), -1.5)
    logits[torch.arange(30), torch.tensor(LABELS)] = 4.0
    torch.save(NORMAL, place / "images_500.pt")
    torch.save(logits, place / "labels_500.pt")
    torch.save(torch.tensor(0.0123), place / "lr_500.pt")
    return place / "images_500.pt"


def mtt_zca(place):
    """A run with --zca: beside the whitened images lie the same brought back to pixels, under the misleading name."""
    for number in (100, 2000):
        torch.save(NORMAL * (number == 2000), place / f"images_{number}.pt")
        torch.save(torch.zeros(30, 1, 32, 32), place / f"images_zca_{number}.pt")
        torch.save(torch.tensor(LABELS), place / f"labels_{number}.pt")
    return place


def mtt_download(place):
    """What the project page offers: the folder's name says it."""
    (place / "digits_zca_3").mkdir()
    return mtt(place / "digits_zca_3")


def dcbench(place):
    torch.save(NORMAL, place / "Digits_IPC3_normalize_images.pt")
    torch.save(torch.tensor(LABELS), place / "Digits_IPC3_normalize_labels.pt")
    return place


def idc(place):
    tiles = torch.tensor(RNG.random((30, 1, 32, 32)), dtype=torch.float32)
    torch.save([tiles, torch.tensor(LABELS)], place / "data.pt")
    return place / "data.pt"


def kip(place):
    soft = np.eye(10)[LABELS] - 0.1
    np.savez(place / "kip.npz", images=NORMAL.numpy().transpose(0, 2, 3, 1), labels=soft)
    return place / "kip.npz"


def kip_zca(place):
    return kip(place).rename(place / "kip_digits_ConvNet3_ssize30_zca_nol_noaug_ckpt1000.npz")


def kip_npy(place):
    """What DC-bench offers of KIP."""
    np.save(place / "images.npy", NORMAL.numpy().transpose(0, 2, 3, 1))
    np.save(place / "labels.npy", (np.eye(10)[LABELS] - 0.1).astype(np.float32))
    return place / "images.npy"


def kip_npy_folder(place):
    return kip_npy(place).parent


def singular(place):
    """Labels that are called otherwise than their images, and labels of another budget beside them."""
    torch.save(NORMAL, place / "Digits_IPC3_images.pt")
    torch.save(torch.tensor(LABELS), place / "3label.pt")
    torch.save(torch.tensor(LABELS[:10]), place / "1label.pt")
    return place / "Digits_IPC3_images.pt"


def frepo(place, name="checkpoint_500000", side=32):
    """A ProtoState as flax saves it: arrays are extensions of type 1, images channels last, labels centred."""
    msgpack = pytest.importorskip("msgpack")

    def array(values):
        packed = msgpack.packb((values.shape, values.dtype.name, values.tobytes()), use_bin_type=True)
        return msgpack.ExtType(1, packed)

    x = array(NORMAL.numpy()[:, :, :side, :side].transpose(0, 2, 3, 1))
    y = array(((np.eye(10)[LABELS] - 0.1) * 0.7).astype(np.float32))
    moments = {"count": array(np.array(7, np.int32)), "mu": {"x_proto": y, "y_proto": x}}
    state = {"step": 7, "params": {"x_proto": x, "y_proto": y}, "opt_state": {"0": moments}, "epoch": 3}
    (place / name).write_bytes(msgpack.packb({**state, "best_val_acc": 0.5, "ema_count": 0}, use_bin_type=True))
    return place / name


def frepo_folder(place):
    """Checkpoints that are kept: the last one counts."""
    frepo(place)
    frepo(place, "checkpoint_1000000")
    (place / "checkpoint_500000").write_bytes(b"\x81\xa1a")
    return place


def frepo_npz(place):
    centred = np.eye(10, dtype=np.float32)[LABELS] - 0.1
    np.savez(place / "step500000.npz", image=NORMAL.numpy().transpose(0, 2, 3, 1), label=centred)
    return place / "step500000.npz"


def zipped(place):
    pictures(place / "in", lambda c, i: f"new{c:03d}/class{c:03d}_id{i:03d}", "png")
    with zipfile.ZipFile(place / "set.zip", "w") as archive:
        for file in (place / "in").rglob("*.png"):
            archive.write(file, f"ipc3/{file.relative_to(place / 'in')}")
    return place / "set.zip"


def tarred(place):
    pictures(place / "in", lambda c, i: f"new{c:03d}/class{c:03d}_id{i:03d}")
    with tarfile.open(place / "set.tar.gz", "w:gz") as archive:
        archive.add(place / "in", "set")
    return place / "set.tar.gz"


def hub(place, name="set.parquet"):
    """Rows in no order of class, each picture as the Hub's Image feature stores it."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows, cells = RNG.permutation(30), []
    for row in rows:
        content = io.BytesIO()
        Image.fromarray(BYTES.reshape(-1, 32, 32)[row]).save(content, "PNG")
        cells.append({"bytes": content.getvalue(), "path": f"{row}.png"})
    order = {"image": cells, "class_id": LABELS[rows]}
    parquet.write_table(pyarrow.table(order), place / name)
    return place / name


def hub_folder(place):
    (place / "data").mkdir()
    hub(place, "data/train-00000-of-00001.parquet")
    hub(place, "data/test-00000-of-00001.parquet")
    return place


def chosen():
    labels = Digits(size=32).split("train").labels
    return np.concatenate([np.flatnonzero(labels == c)[-IPC:] for c in range(10)])


def index_txt(place):
    (place / "picks.txt").write_text("\n".join(map(str, chosen()[::-1].tolist())))
    return place / "picks.txt"


def index_npy(place):
    np.save(place / "picks.npy", chosen())
    return place / "picks.npy"


def ids_json(place):
    (place / "picks.json").write_text(json.dumps(Digits(size=32).split("train").ids[chosen()].tolist()))
    return place / "picks.json"


PICTURES = [sre2l, rded, plain, zipped, tarred]
TABLES = [hub, hub_folder]
NORMALISED = [dc, dc_folder, mtt, mtt_folder, split, dcbench, singular, kip, kip_npy, kip_npy_folder]
ZCA = {datm: "zca", mtt_zca: "zca", mtt_download: "zca", kip_zca: "zca_kip", frepo: "zca_frepo",
       frepo_folder: "zca_frepo", frepo_npz: "zca_frepo"}  # fmt: skip
TENSORS = [*NORMALISED, *ZCA]
LISTS = [index_txt, index_npy, ids_json]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("DDLIGHT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "published").mkdir()
    return tmp_path / "published"


@pytest.mark.parametrize("layout", [*PICTURES, *TABLES, *TENSORS, idc, *LISTS], ids=lambda f: f.__name__)
def test_every_layout_is_judged_with_no_further_option(place, layout):
    data = Released(Digits(size=32), str(layout(place)))
    model = HardLabel(ConvNet(1, 4), recipe=Override(batch=8), budget=Budget(steps=2))
    trainer = Trainer(run=str(place.parent / "run"), accelerator="cpu", devices=1, progress=False)
    trainer.fit_run(model, data)
    assert data.ipc == (IPC * 4 if layout is idc else IPC)
    assert data.require().manifest["ipc"] == data.ipc
    assert 0 <= model.scores["test"].acc <= 100
    hard = data.require().labels if data.require().labels.ndim == 1 else data.require().labels.argmax(1)
    assert np.bincount(hard).tolist() == [data.ipc] * 10


@pytest.mark.parametrize("layout", PICTURES, ids=lambda f: f.__name__)
def test_pictures_come_back_as_they_are(place, layout):
    found = read_released(layout(place), Digits(size=32))
    np.testing.assert_array_equal(found.images, BYTES.reshape(-1, 1, 32, 32))
    np.testing.assert_array_equal(found.labels, LABELS)


@pytest.mark.parametrize("layout", TABLES, ids=lambda f: f.__name__)
def test_rows_of_the_hub_go_to_the_class_that_they_name(place, layout):
    found = read_released(layout(place), Digits(size=32))
    assert found.labels.tolist() == LABELS.tolist()
    for c in range(10):
        ours = sorted(image.tobytes() for image in found.images[found.labels == c])
        assert ours == sorted(image.tobytes() for image in BYTES[c])


def test_parquet_without_its_columns_or_its_reader_is_refused(place, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"image": [b"x"], "caption": ["a"]}), place / "odd.parquet")
    with pytest.raises(DataError, match=r"columns image, caption; class_id or label"):
        read_released(place / "odd.parquet", Digits(size=32))
    (place / "cut.parquet").write_bytes((place / "odd.parquet").read_bytes()[:50])
    with pytest.raises(DataError, match="damaged or no parquet file"):
        read_released(place / "cut.parquet", Digits(size=32))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match=r"ddlight\[hub\]"):
        read_released(place / "odd.parquet", Digits(size=32))


@pytest.mark.parametrize("layout", TENSORS, ids=lambda f: f.__name__)
def test_tensors_come_back_as_they_are(place, layout):
    found = read_released(layout(place), Digits(size=32))
    np.testing.assert_array_equal(found.images, NORMAL.numpy())
    assert (found.space, found.classes.tolist()) == (ZCA.get(layout, "normalised"), LABELS.tolist())
    assert found.why in "\n".join(found.lines())


@pytest.mark.parametrize("layout", [kip, kip_npy, kip_zca, frepo, frepo_npz], ids=lambda f: f.__name__)
def test_labels_of_kernel_regression_are_centred(place, layout):
    found = read_released(layout(place), Digits(size=32))
    assert found.kind == "centred" and found.labels.dtype == np.float32
    assert np.abs(found.labels.sum(1)).max() < 1e-5 and found.labels.min() < 0


@pytest.mark.parametrize("layout", LISTS, ids=lambda f: f.__name__)
def test_a_list_of_a_coreset_is_a_selection(place, layout):
    data = Released(Digits(size=32), str(layout(place)))
    rows, _ = store.read_selection(data.condense())
    assert sorted(rows.tolist()) == sorted(chosen().tolist())
    assert data.artefact.exists and artefact.read_manifest(data.folder)["kind"] == "indices"


def test_what_comes_with_soft_labels_is_kept(place):
    data = Released(Digits(size=32), str(datm(place)))
    manifest = artefact.read_manifest(data.condense())
    assert (manifest["labels"], manifest["space"]) == ("logits", "zca")
    assert manifest["learned_lr"] == pytest.approx(0.0123)
    assert manifest["bytes_labels"] == 30 * 10 * 4


def learned(order, classes=10):
    """Logits of ten images a class in some order of classes, of which three in ten are strongest in another one."""
    made_for = order(np.arange(classes), 10)
    labels = np.random.default_rng(1).normal(size=(100, classes)).astype(np.float32)
    labels[np.arange(100), np.where(np.arange(100) % 7 < 2, (made_for + 1) % classes, made_for)] += 9
    return made_for, labels


ORDERS = {"class by class": np.repeat, "in turn": np.tile, "another order": lambda c, n: np.repeat(c[::-1] * 7 % 10, n)}


@pytest.mark.parametrize("order", ORDERS)
def test_images_of_learned_labels_count_for_the_class_that_they_were_made_for(place, order):
    made_for, labels = learned(ORDERS[order])
    assert np.bincount(labels.argmax(1)).max() > 10  # what the strongest class would give
    images = np.broadcast_to(np.arange(100, dtype=np.float32)[:, None, None, None] - 50, (100, 1, 8, 8))
    torch.save(torch.tensor(images.copy()), place / "images_best.pt")
    torch.save(torch.tensor(labels), place / "labels_best.pt")
    found = read_released(place / "images_best.pt", Digits(size=8))
    assert (found.ipc, found.counts.tolist()) == (10, [10] * 10)
    which = (found.images[:, 0, 0, 0] + 50).astype(int)
    assert (made_for[which] == np.repeat(np.arange(10), 10)).all()
    np.testing.assert_array_equal(found.labels, labels[which])
    assert found.first(3).counts.tolist() == [3] * 10


def test_a_class_that_is_nobodys_strongest_is_no_error(place):
    """One image a class of KIP, two of whose labels are strongest in the same class."""
    labels = np.eye(10) - 0.1
    labels[3] = labels[4]
    np.savez(place / "kip.npz", images=np.random.default_rng(0).normal(size=(10, 8, 8, 1)), labels=labels)
    found = read_released(place / "kip.npz", Digits(size=8))
    assert (found.ipc, found.classes.tolist()) == (1, list(range(10)))


def test_mosaics_of_idc_are_decoded(place):
    path = idc(place)
    stored = torch.load(path)[0]
    found = read_released(path, Digits(size=32))
    assert (found.factor, found.images.shape) == (2, (120, 1, 32, 32))
    for tile, (row, column) in enumerate([(0, 0), (0, 16), (16, 0), (16, 16)]):
        small = (stored[7, 0, row : row + 16, column : column + 16].numpy() * 255).astype(np.uint8)
        large = np.asarray(Image.fromarray(small).resize((32, 32), Image.Resampling.BILINEAR))
        assert np.abs(found.images[4 * 7 + tile, 0] * 255 - large).max() < 2.5
    assert found.labels.tolist() == np.repeat(LABELS, 4).tolist()


def test_the_class_is_in_the_name_and_never_in_the_order(place):
    """IN-21K style names without padding sort as 0, 1, 10, 2: position and number part ways."""
    wide = pictures(place / "wide", lambda c, i: f"new{c}/class{c}_id{i}", classes=[9, 3, 1, 0, 2, 4, 5, 6, 7, 8])
    found = read_released(wide, Digits(size=32))
    np.testing.assert_array_equal(found.images, BYTES.reshape(-1, 1, 32, 32))


def test_images_of_a_class_sort_by_number(place):
    many = pictures(place / "many", lambda c, i: f"{c}/img_{[2, 10, 1][i]}")
    found = read_released(many, Digits(size=32)).first(2)
    np.testing.assert_array_equal(found.images[:2, 0], BYTES[0, [2, 0]])


def test_an_imagenet_set_is_cut_to_the_classes_of_the_dataset(place):
    """1,000 numbered folders are ImageNet-1K's sorted wnids; ImageNette's are 0, 217, 482, 491, ..."""
    indices = [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
    for c in range(1000):
        if c in indices or c in (1, 999):
            (place / f"new{c:03d}").mkdir()
            Image.new("RGB", (8, 8), (indices.index(c) if c in indices else 99, 0, 0)).save(
                place / f"new{c:03d}" / f"class{c:03d}_id000.png"
            )
    info_only = ImageNette(size=8)
    found = read_released(place, info_only)
    assert found.images[:, 0, 0, 0].tolist() == list(range(10))
    assert found.notes == (
        "class folders were told by position in ImageNet-1K",
        "2 class folders are not of ImageNette-8 and are left out",
    )
    names = place.parent / "by_name"
    for c, wnid in enumerate(TABLE["ImageNette"].classes[::-1]):
        (names / wnid).mkdir(parents=True)
        Image.new("RGB", (8, 8), (9 - c, 0, 0)).save(names / wnid / "0.png")
    assert read_released(names, info_only).images[:, 0, 0, 0].tolist() == list(range(10))


def photographs(root, names):
    """A dataset of these classes, two photographs each."""
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (8, 8), (100, i, 0)).save(root / name / f"{i}.png")
    return ImageFolder(root=str(root), size=8)


def coloured(root, names):
    """A published folder in which picture `n` of `names` has the red value n."""
    for n, name in enumerate(names):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (n, 0, 0)).save(root / name / "0.png")
    return root


CLASSES = {
    "names behind numbers": (
        ["ant", "cat", "dog", "fox"],
        ["00000_cat", "00001_dog", "00002_fox", "00003_ant"],
        [3, 0, 1, 2],
        "by the name behind its number",
    ),
    "other case": (["ant", "bee hive", "cat"], ["Cat", "Ant", "Bee_Hive"], [1, 2, 0], "by name, whatever its case"),
    "classes that are numbers": (
        [str(c) for c in range(12)],
        [f"{c:05d}" for c in range(12)],
        [0, 1, 10, 11, *range(2, 10)],
        "by number",
    ),
    "numbers that are not from 0": (["10", "20", "30"], ["new030", "new010", "new020"], [1, 2, 0], "by number"),
    "positions": (["ant", "cat", "dog"], ["new2", "new0", "new1"], [1, 2, 0], "by position: 0 is ant"),
}


@pytest.mark.parametrize("case", CLASSES)
def test_names_decide_and_numbers_only_where_there_are_no_names(place, case):
    classes, folders, expected, how = CLASSES[case]
    found = read_released(coloured(place, folders), photographs(place.parent / "photos", classes))
    assert found.images[:, 0, 0, 0].tolist() == expected
    assert found.notes[0].startswith(f"class folders were told {how}")


DEEP = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_pictures_of_16_bits_are_refused_as_everywhere(place, ending):
    """Pillow would cut them off at 255: 17 grey levels become 2."""
    folder = plain(place)
    Image.fromarray(DEEP).save(folder / "3" / f"9.{ending}")
    with pytest.raises(DataError, match=rf"3/9.{ending}: pixels of mode I;16 do not fit 8 bits"):
        read_released(folder, Digits(size=32))


def test_pictures_of_16_bits_in_a_table_are_refused_too(place):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    content = io.BytesIO()
    Image.fromarray(DEEP).save(content, "PNG")
    table = {"image": [content.getvalue()] * 10, "label": list(range(10))}
    parquet.write_table(pyarrow.table(table), place / "deep.parquet")
    with pytest.raises(DataError, match=r"cannot be decoded: pixels of mode I;16 do not fit 8 bits"):
        read_released(place / "deep.parquet", Digits(size=32))


def test_a_damaged_first_picture_is_named(place):
    folder = plain(place)
    (folder / "0" / "0_extra.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(DataError, match=r"0_extra.png cannot be read"):
        read_released(folder, Digits(size=32))


def litter(folder):
    """What systems, notebooks and other programs leave in folders of pictures."""
    for name in ("__MACOSX/0", "0/.ipynb_checkpoints", "1/@eaDir/0_extra.png", "2/.Trash-0", "3/deep/.cache"):
        (folder / name).mkdir(parents=True)
        Image.new("L", (32, 32), 7).save(folder / name / "wrong.png")
    (folder / "4" / "._0_extra.png").write_bytes(b"resource fork")
    (folder / "5" / "again.png").symlink_to(folder / "5" / "0_extra.png")
    (folder / "6" / "all").symlink_to(folder, target_is_directory=True)
    return folder


def test_what_systems_leave_in_a_published_folder_is_no_picture(place):
    found = read_released(litter(plain(place)), Digits(size=32))
    np.testing.assert_array_equal(found.images, BYTES.reshape(-1, 1, 32, 32))
    assert "left out: 5 hidden or system entries" in found.notes
    assert "left out: 1 links to folders that are looked at anyway" in found.notes


def test_what_a_mac_packs_into_an_archive_is_no_picture(place):
    pictures(place / "in", lambda c, i: f"set/{c}/{i}")
    with zipfile.ZipFile(place / "set.zip", "w") as archive:
        for file in (place / "in").rglob("*.png"):
            archive.write(file, file.relative_to(place / "in"))
            archive.writestr(f"__MACOSX/{file.relative_to(place / 'in').parent}/._{file.name}", b"resource fork")
    found = read_released(place / "set.zip", Digits(size=32))
    np.testing.assert_array_equal(found.images, BYTES.reshape(-1, 1, 32, 32))


def test_two_folders_of_one_class_are_not_mixed(place):
    with pytest.raises(DataError, match="'00001' and 'new1' both are the class 'cat'"):
        read_released(coloured(place, ["0", "00001", "new1"]), photographs(place.parent / "photos", ["ant", "cat"]))


def test_the_hubs_own_names_of_classes_decide(place):
    """Numbers of a table count in an order of their own, which the Hub keeps beside it."""
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = hub(place)
    names = [f"{c}" for c in np.random.default_rng(3).permutation(10)]
    said = {"info": {"features": {"image": {"_type": "Image"}, "class_id": {"names": names, "_type": "ClassLabel"}}}}
    table = parquet.read_table(path).replace_schema_metadata({"huggingface": json.dumps(said)})
    parquet.write_table(table, path)
    found = read_released(path, Digits(size=32))
    for number, name in enumerate(names):
        ours = sorted(image.tobytes() for image in found.images[found.labels == int(name)])
        assert ours == sorted(image.tobytes() for image in BYTES[number])


def test_cifar100_sets_normalised_with_cifar10s_numbers_are_converted(place):
    pixels = torch.rand(100, 3, 32, 32)
    theirs, own = TABLE["CIFAR10"], TABLE["CIFAR100"]
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (theirs.mean, theirs.std))
    torch.save((pixels - mean) / std, place / "images_best.pt")
    torch.save(torch.arange(100), place / "labels_best.pt")
    found = read_released(place / "images_best.pt", CIFAR100())
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (own.mean, own.std))
    assert torch.allclose(torch.from_numpy(found.images) * std + mean, pixels, atol=1e-5)


# --- whitened sets ---


def real(recipe, count=5):
    """Real training images, `count` of each class, whitened as a publisher would: float32 and their labels."""
    split = Digits(size=16).split("train")
    rows = np.concatenate([np.flatnonzero(split.labels == c)[:count] for c in range(10)])
    x = split.images.reshape(-1, 256) / 255.0
    if recipe == "zca_kip":
        x = x - x.mean(1, keepdims=True)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        cov = x.T @ x / len(x)
        u, s, _ = np.linalg.svd(cov + 0.1 * np.trace(cov) / 256 * np.eye(256))
    else:
        x = x - x.mean(0)
        u, s, _ = np.linalg.svd(x.T @ x / (len(x) - 1))
        s = s + 0.1
    whitened = (x @ (u / np.sqrt(s) @ u.T)).reshape(-1, 1, 16, 16).astype(np.float32)
    return whitened[rows], split.labels[rows], split.images[rows]


def publish(place, recipe):
    images, labels, _ = real(recipe)
    if recipe == "zca_kip":
        np.savez(place / "kip_zca.npz", images=images.transpose(0, 2, 3, 1), labels=np.eye(10)[labels] - 0.1)
        return Released(Digits(size=16), str(place / "kip_zca.npz"))
    torch.save(torch.tensor(images), place / "images_best.pt")
    torch.save(torch.tensor(labels), place / "labels_best.pt")
    return Released(Digits(size=16), str(place / "images_best.pt"), space="zca")


@pytest.mark.parametrize("recipe", ["zca", "zca_kip"])
def test_test_images_are_whitened_as_the_set_is(place, recipe):
    """What the network is shown of a real image is what the publisher's own whitening makes of it."""
    data, seen = publish(place, recipe), []
    model = HardLabel(ConvNet(1, 4), recipe=Override(batch=50), budget=Budget(steps=2))
    trainer = Trainer(run=str(place.parent / "run"), accelerator="cpu", devices=1, progress=False)
    trainer.fit_run(model, data)
    images, _, pixels = real(recipe)
    np.testing.assert_array_equal(data.require().images, images)
    model.network.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    model.logits(torch.tensor(pixels))
    np.testing.assert_allclose(seen[0].numpy(), images, atol=2e-3)
    assert json.loads((place.parent / "run" / "student.json").read_text())["whitening"] == recipe


class Watching(RunTeacher):
    """A teacher that keeps what it is shown and always says 0."""

    def __init__(self):
        super().__init__("nowhere")
        self.shown = []

    def load(self, *given):
        pass

    def fingerprint(self):
        return "watching"

    def logits(self, images, batch_statistics=False):
        self.shown.append(images)
        return torch.zeros(len(images), 10)


@pytest.mark.parametrize("regime", [TeacherLabel, SoftLabel])
def test_teachers_are_shown_pixels(place, regime):
    teacher = Watching()
    plain = Override(batch=50, dsa="", mix="none", flip=False, crop_scale=(1, 1), crop_ratio=(1, 1))
    model = regime(ConvNet(1, 4), teacher=teacher, recipe=plain, budget=Budget(steps=1))
    trainer = Trainer(run=str(place.parent / "run"), accelerator="cpu", devices=1, progress=False)
    trainer.fit_run(model, publish(place, "zca"))
    expected = np.sort((real("zca")[2] / 255).reshape(50, -1).sum(1))
    found = torch.cat(teacher.shown[4:]).reshape(50, -1).sum(1).sort().values
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-2)


def test_a_teacher_cannot_label_what_has_no_pixels(place):
    model = TeacherLabel(ConvNet(1, 4), teacher=Watching(), recipe=Override(batch=50), budget=Budget(steps=1))
    trainer = Trainer(run=str(place.parent / "run"), accelerator="cpu", devices=1, progress=False)
    with pytest.raises(UsageError, match="whitened as KIP does"):
        trainer.fit_run(model, publish(place, "zca_kip"))


def test_frepo_does_not_whiten_mnist(place):
    assert read_released(frepo(place, side=28), MNIST()).space == "normalised"


def test_what_mtt_brought_back_to_pixels_is_pixels(place):
    mtt_zca(place)
    torch.save(NORMAL, place / "images_zca_100.pt")
    found = read_released(place / "images_zca_100.pt", Digits(size=32))
    assert found.space == "pixel" and "brought back" in found.why
    np.testing.assert_array_equal(found.images, NORMAL.numpy())
    assert found.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("name", ["digits_NO_ZCA", "nozca_run", "plain"])
def test_a_space_that_nothing_tells_is_assumed_aloud_and_can_be_given(place, name, caplog):
    (place / name).mkdir()
    path = mtt(place / name)
    caplog.set_level("INFO", "ddlight")
    assert Released(Digits(size=32), str(path)).space == "normalised"
    assert "normalised (assumed, as no name says zca; if it is whitened: --data.space=zca)" in caplog.text
    given = read_released(path, Digits(size=32), "zca_frepo")
    assert (given.space, given.why) == ("zca_frepo", "as given")


@pytest.mark.parametrize("layout", [mtt, dcbench, kip], ids=lambda f: f.__name__)
def test_images_that_look_whitened_are_doubted_until_the_space_is_given(place, layout, caplog):
    """Noise has no smooth neighbourhoods, and neither have whitened images; a photograph has."""
    path = layout(place)
    assert read_released(path, Digits(size=32)).space == "normalised"
    option = "zca_kip" if layout is kip else "zca"
    assert "looks whitened" in caplog.text and f"If it is whitened: --data.space={option}; if not" in caplog.text
    caplog.clear()
    for space in ("normalised", option):
        read_released(path, Digits(size=32), space)
    assert not caplog.text


def test_smooth_images_and_names_that_say_no_are_not_doubted(place, caplog):
    rows = chosen()
    smooth = (torch.tensor(Digits(size=32).split("train").images[rows]) / 255 - 0.5) / 0.25
    torch.save(smooth, place / "images_best.pt")
    torch.save(torch.tensor(LABELS), place / "labels_best.pt")
    assert read_released(place / "images_best.pt", Digits(size=32)).space == "normalised"
    (place / "NO_ZCA").mkdir()
    assert read_released(mtt(place / "NO_ZCA"), Digits(size=32)).space == "normalised"
    assert not caplog.text


def test_a_space_that_is_given_wins_over_what_a_layout_says(place):
    assert read_released(datm(place), Digits(size=32), "normalised").space == "normalised"
    torch.save(torch.tensor(np.float32([[[[5.5]]]])).expand(100, 3, 32, 32).clone(), place / "images_best.pt")
    torch.save(torch.arange(100), place / "labels_best.pt")
    found = read_released(place / "images_best.pt", CIFAR100(), "zca")
    assert found.space == "zca" and (found.images == 5.5).all()  # nothing is renormalised


def test_a_folder_that_is_renamed_is_another_set(place):
    """The name of a folder says that its images are whitened, and so does the fingerprint."""
    said = Released(Digits(size=32), str(mtt_download(place)))
    fingerprint = said.fingerprint
    (place / "digits_zca_3").rename(place / "other")
    silent = Released(Digits(size=32), str(place / "other" / "images_best.pt"))
    assert fingerprint != silent.fingerprint and (said.space, silent.space) == ("zca", "normalised")


def test_whitened_images_have_the_datasets_size(place):
    with pytest.raises(DataError, match=r"32 x 32 pixels; Digits is read at 16. Use --data.dataset.size=32, or a set"):
        read_released(datm(place), Digits(size=16))


def test_pictures_of_another_size_than_the_datasets_are_refused_before_anything_is_trained(place):
    with pytest.raises(DataError, match=r"32 x 32 pixels; Digits is read at 16. Use --data.dataset.size=32, or a set"):
        Released(Digits(size=16), str(sre2l(place))).condense()
    torch.save(torch.zeros(30, 1, 16, 32), place / "images_best.pt")
    torch.save(torch.tensor(LABELS), place / "labels_best.pt")
    with pytest.raises(DataError, match=r"16 x 32 pixels; Digits is read at 16. Use a set that was made at that size"):
        read_released(place / "images_best.pt", Digits(size=16))


def test_tiny_imagenet_of_frepo_counts_as_its_list_of_wnids(place):
    """wnids.txt of the dataset is not sorted, and ddlight's classes are."""
    msgpack = pytest.importorskip("msgpack")
    info = replace(TABLE["TinyImageNet"], classes=("n1", "n2", "n3"), num_classes=3, size=2)
    images = np.arange(36, dtype=np.float32).reshape(3, 2, 2, 3)
    params = {"x_proto": images, "y_proto": np.eye(3, dtype=np.float32) - 1 / 3}
    packed = {k: msgpack.ExtType(1, msgpack.packb((v.shape, "float32", v.tobytes()))) for k, v in params.items()}
    (place / "checkpoint_1").write_bytes(msgpack.packb({"params": packed}))
    file = place / "tiny" / "train" / "n1" / "images" / "n1_0.JPEG"
    dataset = SimpleNamespace(info=info, encoded=lambda split: (file,))
    with pytest.raises(DataError, match=r"wnids.txt is missing or lacks one"):
        read_released(place / "checkpoint_1", dataset)
    file.parent.mkdir(parents=True)
    (place / "tiny" / "wnids.txt").write_text("n3\nn1\nn2\n")
    found = read_released(place / "checkpoint_1", dataset)
    assert found.classes.tolist() == [0, 1, 2]
    assert found.images[:, 0, 0, 0].tolist() == [12, 24, 0]  # n1 is the list's second, n3 its first


def test_arrays_of_something_else_are_refused(place):
    np.savez(place / "odd.npz", images=np.array([["a"]]), labels=np.array(["b"]))
    with pytest.raises(DataError, match="arrays of <U1 and <U1; numbers are expected"):
        read_released(place / "odd.npz", Digits(size=32))
    np.savez(place / "flat.npz", image=np.zeros((30, 1024)), label=np.zeros(30))
    with pytest.raises(DataError, match=r"prototypes of shape \(30, 1024\) and labels of shape \(30,\)"):
        read_released(place / "flat.npz", Digits(size=32))


@pytest.mark.parametrize("array", [np.ones(5), np.zeros((4, 2), np.int64), np.zeros((9, 8, 8, 1), np.uint8)])
def test_arrays_that_are_no_list_of_positions_are_told_apart(place, array):
    np.save(place / "picks.npy", array)
    with pytest.raises(DataError, match=r"picks.npy holds \w+ of shape .*no list of positions.*images.npy beside"):
        read_released(place / "picks.npy", Digits(size=8))
    np.save(place / "images.npy", array)
    with pytest.raises(DataError, match=r"images.npy holds images alone"):
        read_released(place / "images.npy", Digits(size=8))


def test_of_several_finished_sets_in_a_folder_one_is_to_be_given(place):
    dc(place).rename(place / "res_DM_Digits_ConvNet_3ipc.pt")
    dc(place)
    with pytest.raises(DataError, match=r"2 finished sets; give one of them, such as .*res_DSA"):
        read_released(place, Digits(size=32))


def test_positions_in_one_row_are_a_list(place):
    np.save(place / "picks.npy", chosen()[None])
    assert sorted(read_released(place / "picks.npy", Digits(size=32)).rows.tolist()) == sorted(chosen().tolist())


def test_the_set_is_named_by_content(place):
    first = Released(Digits(size=32), str(mtt(place)))
    other = place.parent / "elsewhere"
    other.mkdir()
    same = Released(Digits(size=32), str(mtt(other)))
    assert first.fingerprint == same.fingerprint
    torch.save(torch.tensor(LABELS[::-1].copy()), other / "labels_best.pt")
    assert Released(Digits(size=32), str(other / "images_best.pt")).fingerprint != first.fingerprint


def test_the_example_runs():
    assert doctest.testmod(released_set) == (0, 2)


# --- numbers that are doubted ---

SMOOTH = BYTES.reshape(-1, 1, 32, 32)


def pair(place, images, labels=None):
    torch.save(images, place / "images_best.pt")
    torch.save(torch.tensor(LABELS) if labels is None else labels, place / "labels_best.pt")
    return place / "images_best.pt"


KINDS = (torch.float32, torch.float64, torch.float16, torch.int16, torch.int64, torch.uint16)


@pytest.mark.parametrize("dtype", KINDS, ids=str)
def test_whole_numbers_up_to_255_are_bytes(place, dtype):
    found = read_released(pair(place, torch.tensor(SMOOTH).to(dtype)), Digits(size=32))
    assert (found.space, found.images.dtype) == ("pixel", np.uint8)
    np.testing.assert_array_equal(found.images, SMOOTH)


@pytest.mark.parametrize("layout", ["npz", "npy", "res"])
def test_whole_numbers_are_bytes_in_every_layout(place, layout):
    images = SMOOTH.astype(np.float32)
    if layout == "res":
        torch.save({"data": [[torch.tensor(images), torch.tensor(LABELS)]]}, place / "res_DM.pt")
        found = read_released(place / "res_DM.pt", Digits(size=32))
    elif layout == "npz":
        np.savez(place / "kip.npz", images=images.transpose(0, 2, 3, 1), labels=LABELS)
        found = read_released(place / "kip.npz", Digits(size=32))
    else:
        np.save(place / "images.npy", images[:, 0])
        np.save(place / "labels.npy", LABELS)
        found = read_released(place, Digits(size=32))
    assert found.space == "pixel"
    np.testing.assert_array_equal(found.images, SMOOTH)


def test_whole_numbers_of_16_bits_are_pixels(place):
    deep = SMOOTH.astype(np.uint16) * 257
    found = read_released(pair(place, torch.tensor(deep.astype(np.int32))), Digits(size=32))
    assert (found.space, found.images.dtype) == ("pixel", np.float32)
    np.testing.assert_allclose(found.images, SMOOTH / 255, atol=1e-6)


RANGES = {  # what the numbers are, and what the option that is asked for makes of them
    "[-1, 1]": (lambda x: x * 2 - 1, "scaled", lambda x: x),
    "normalised to [-1, 1]": (lambda x: x * 2 - 1, "normalised", lambda x: x * 2 - 1),
    "[0, 254.7]": (lambda x: x * 254.7, "pixel", lambda x: x * np.float32(254.7) / 255),
    "[0, 3]": (lambda x: x * 3 + 0.01, "normalised", lambda x: x * 3 + 0.01),
}


@pytest.mark.parametrize("case", RANGES)
def test_a_guess_that_the_numbers_contradict_is_asked_about(place, case):
    make, space, expected = RANGES[case]
    pixels = torch.rand(30, 1, 32, 32)
    path = pair(place, make(pixels))
    with pytest.raises(DataError, match=rf"holds numbers from .*Say which: .*--data.space={space}"):
        read_released(path, Digits(size=32))
    found = read_released(path, Digits(size=32), space)
    assert found.space == ("pixel" if space == "scaled" else space)
    np.testing.assert_allclose(found.images, expected(pixels.numpy()), atol=1e-6)


@pytest.mark.parametrize("space", ["pixel", "scaled"])
def test_a_space_that_cannot_be_is_refused(place, space):
    with pytest.raises(DataError, match=r"numbers from -2 to 1.984; (pixels|scaled ones) lie in"):
        read_released(mtt(place), Digits(size=32), space)


def test_tensors_of_any_kind_are_read(place):
    for images in (torch.nn.Parameter(NORMAL), NORMAL.to_sparse(), NORMAL.double(), NORMAL.bfloat16()):
        found = read_released(pair(place, images), Digits(size=32))
        np.testing.assert_allclose(found.images, NORMAL.numpy(), atol=0.01)


LABELLINGS = {
    "NaN": (torch.full((30, 10), float("nan")), "labels of numbers that are not finite"),
    "one infinite": (torch.eye(10)[LABELS] / torch.tensor(0.0), "not finite"),
    "fractions": (torch.tensor(LABELS) + 0.5, "labels such as 0.5; the numbers of classes are whole"),
    "pictures": (torch.zeros(30, 1, 32, 32), r"labels of shape \(30, 1, 32, 32\)"),
    "ragged": ([[1.0], [1.0, 2.0]], "no array of numbers"),
    "complex": (torch.zeros(30, dtype=torch.complex64), "of type complex64; numbers are expected"),
    "empty": (torch.zeros(0, 10), r"labels of shape \(0, 10\)"),
}


@pytest.mark.parametrize("case", LABELLINGS)
def test_labels_that_are_none_are_refused(place, case):
    labels, message = LABELLINGS[case]
    with pytest.raises(DataError, match=message):
        read_released(pair(place, NORMAL, labels), Digits(size=32))


@pytest.mark.parametrize("labels", [torch.tensor(LABELS)[:, None], torch.tensor(LABELS).float(), LABELS.tolist()])
def test_classes_in_a_column_as_floats_or_in_a_list_are_classes(place, labels):
    assert read_released(pair(place, NORMAL, labels), Digits(size=32)).labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_rows_that_sum_to_one_are_probabilities(place, dtype):
    soft = (torch.eye(10)[LABELS] * 3).softmax(1).to(dtype)
    found = read_released(pair(place, NORMAL, soft), Digits(size=32))
    assert found.kind == "probabilities" and found.classes.tolist() == LABELS.tolist()


@pytest.mark.parametrize("images", [torch.zeros(0, 1, 32, 32), torch.zeros(30, 32), {"a": 1}, [NORMAL]])
def test_what_are_no_images_is_refused(place, images):
    with pytest.raises(DataError, match=r"images_best.pt holds"):
        read_released(pair(place, images), Digits(size=32))


@pytest.mark.parametrize("data", [[], [NORMAL], [[NORMAL]], 3, [[[1.0], [1.0, 2.0]]]])
def test_experiments_without_images_and_labels_are_refused(place, data):
    torch.save({"data": data}, place / "res_DC.pt")
    with pytest.raises(DataError, match=r"res_DC.pt (has data without|holds)"):
        read_released(place / "res_DC.pt", Digits(size=32))


@pytest.mark.parametrize("rate", [torch.tensor(-0.1), torch.tensor(float("nan")), torch.tensor([0.1, 0.2]), "fast"])
def test_a_learning_rate_that_is_none_is_refused(place, rate):
    path = datm(place)
    torch.save(rate, place / "lr_500.pt")
    with pytest.raises(DataError, match=r"lr_500.pt holds"):
        read_released(path, Digits(size=32))


# --- what is refused ---


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_that_would_run_code_is_refused(place):
    target = place / "written"
    torch.save({"data": [Bomb(target)]}, place / "res.pt")
    with pytest.raises(
        DataError, match=r"res.pt holds more than tensors and numbers \(io.open\), and reading it could run code"
    ):
        read_released(place / "res.pt", Digits(size=32))
    with (place / "bomb.npz").open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": (1,)})
        archive.writestr("images.npy", buffer.getvalue() + pickle.dumps(Bomb(target)))
        archive.writestr("labels.npy", buffer.getvalue())
    with pytest.raises(DataError, match="could run code"):
        read_released(place / "bomb.npz", Digits(size=32))
    assert not target.exists()


@pytest.mark.parametrize("member", ["../outside.png", "/tmp/ddlight_outside.png"])
def test_an_archive_that_would_write_outside_is_refused(place, member):
    with zipfile.ZipFile(place / "bad.zip", "w") as archive:
        archive.writestr(member, b"x")
    with tarfile.open(place / "bad.tar", "w") as archive:
        entry = tarfile.TarInfo(member)
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    with pytest.raises(DataError, match=r"bad.zip was not unpacked"):
        read_released(place / "bad.zip", Digits(size=32))
    if member.startswith(".."):  # an absolute name is made relative by tarfile's data filter
        with pytest.raises(DataError, match=r"bad.tar was not unpacked"):
            read_released(place / "bad.tar", Digits(size=32))


def test_links_in_archives_are_refused(place):
    with tarfile.open(place / "bad.tar", "w") as archive:
        entry = tarfile.TarInfo("0")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(entry)
    with pytest.raises(DataError, match=r"bad.tar was not unpacked"):
        read_released(place / "bad.tar", Digits(size=32))


def packed(place, ending):
    """An archive of a published folder."""
    pictures(place / "in", lambda c, i: f"set/{c}/{i}")
    return Path(
        shutil.make_archive(
            str(place / "set"), {"zip": "zip", "tar.gz": "gztar", "tar.xz": "xztar"}[ending], place / "in"
        )
    )


@pytest.mark.parametrize("ending", ["zip", "tar.gz", "tar.xz"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.98])
def test_archives_that_were_cut_are_named(place, ending, keep):
    path = packed(place, ending)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(DataError, match=r"set\.\S+ was not unpacked") as caught:
        read_released(path, Digits(size=32))
    assert "/tmp/tmp" not in str(caught.value)


def test_what_is_wrong_in_an_archive_names_the_archive(place):
    path = packed(place, "zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("set/3/9.png", b"no picture")
    with pytest.raises(DataError, match=r"set\.zip/set/3/9.png"):
        read_released(path, Digits(size=32))


@pytest.mark.parametrize(("place_of_flag", "value", "message"), [(6, 1, "encrypted"), (8, 77, "compression|supported")])
def test_archives_that_are_encrypted_or_packed_unknown_are_named(place, place_of_flag, value, message):
    path = packed(place, "zip")
    content = bytearray(path.read_bytes())
    for signature, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        start = content.find(signature)
        while start >= 0:
            content[start + place_of_flag + shift] = value
            start = content.find(signature, start + 4)
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=rf"set\.zip was not unpacked: .*({message})"):
        read_released(path, Digits(size=32))


@pytest.mark.parametrize("ending", ["zip", "tar.gz"])
def test_archives_that_unpack_to_far_more_are_refused(place, ending, monkeypatch):
    path = packed(place, ending)
    monkeypatch.setattr(released, "UNPACKED_BYTES", 1000)
    monkeypatch.setattr(released, "UNPACKED_TIMES", 0.1)
    with pytest.raises(DataError, match=r"unpacks to more than .* If it is to: DDLIGHT_UNPACK_GB=GIGABYTES"):
        read_released(path, Digits(size=32))
    monkeypatch.setenv("DDLIGHT_UNPACK_GB", "1")
    assert len(read_released(path, Digits(size=32)).images) == 30


def broken(place, case):
    """Write something that is no set of ten digits' classes, and say what the error names."""
    torch.save(NORMAL, place / "images_best.pt")
    labels = {
        "counts": (torch.tensor(LABELS[:-1]), "29 labels"),
        "beyond": (torch.tensor(LABELS + 1), "labels 1 to 10"),
        "few": (torch.tensor(LABELS % 9), "no image of 1 of 10 classes"),
        "wide": (torch.eye(12)[LABELS], "labels of 12 classes"),
    }
    if case in labels:
        torch.save(labels[case][0], place / "labels_best.pt")
        return place / "images_best.pt", labels[case][1]
    if case == "alone":
        return place / "images_best.pt", "images alone"
    if case == "truncated":
        (place / "labels_best.pt").write_bytes((place / "images_best.pt").read_bytes()[:500])
        return place / "images_best.pt", "is damaged or not a file of torch.save"
    if case == "names":
        return pictures(place / "odd", lambda c, i: f"{'abcdefghij'[c]}/{i}"), "no wnid and no number"
    if case == "sizes":
        folder = plain(place)
        Image.new("L", (16, 16)).save(folder / "3" / "1_extra.png")
        return folder, "16 x 16 pixels where others have 32 x 32"
    if case == "index":
        (place / "picks.txt").write_text("1\n2\n99999")
        return place / "picks.txt", "1 that are not there, such as 99999"
    if case == "twice":
        (place / "picks.txt").write_text("1\n2\n1")
        return place / "picks.txt", "the same one twice"
    (place / "set.docx").write_text("")
    return place / "set.docx", "in no layout that is known"


CASES = ["counts", "beyond", "few", "wide", "alone", "truncated", "names", "sizes", "index", "twice", "unknown"]


@pytest.mark.parametrize("case", CASES)
def test_what_is_no_set_is_refused_by_name(place, case):
    path, message = broken(place, case)
    with pytest.raises(DataError, match=message):
        read_released(path, Digits(size=32))


def test_more_images_than_there_are_cannot_be_asked_for(place):
    with pytest.raises(UsageError, match=r"ipc=5 is more than the released set has.*--data.ipc=3"):
        Released(Digits(size=32), str(sre2l(place)), ipc=5).condense()
    with pytest.raises(DataError, match="There is no released set"):
        Released(Digits(size=32), str(place / "nowhere")).condense()


def test_it_prints_what_it_found(place, caplog):
    caplog.set_level("INFO", "ddlight")
    Released(Digits(size=32), str(datm(place))).condense()
    assert "layout images*.pt: 30 images, 3 per class" in caplog.text
    assert "images 1 x 32 x 32, float32, -2 to 1.98, zca (logits and lr*.pt beside them: DATM" in caplog.text
    assert "labels logits, 10 classes, learned lr 0.0123" in caplog.text


def test_folders_of_equal_names_and_sizes_are_told_apart_by_their_content(tmp_path):
    for name, value in (("one", 0.25), ("two", 0.5), ("same", 0.5)):
        (tmp_path / name).mkdir()
        torch.save(torch.full((10, 1, 8, 8), value), tmp_path / name / "images_best.pt")
        torch.save(torch.arange(10), tmp_path / name / "labels_best.pt")
    one, two, same = (released.source_digest(tmp_path / name) for name in ("one", "two", "same"))
    assert one != two == same

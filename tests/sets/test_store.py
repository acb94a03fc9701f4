"""The condensed set on disk: made by several and by killed processes, sealed once, verified, read back."""

import errno
import hashlib
import json
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from ddlight.core import artefact, claims, files
from ddlight.core.artefact import Unit, Workspace
from ddlight.core.errors import DataError, UsageError
from ddlight.core.randomness import generator
from ddlight.data import Digits
from ddlight.data.base import ImageSet, RealDataset
from ddlight.methods.base import Synthesiser
from ddlight.methods.baselines.full import FullData
from ddlight.methods.baselines.random import Random
from ddlight.networks.students import ConvNet
from ddlight.sets import store
from ddlight.sets.store import Selection, Synthesis

CLASSES = ["a", "b/c", "ä ö", "..", "", "x_1"]
UNIT = Unit(3, (3,))


class Noise(Synthesiser):
    """Noise, slow enough to be interrupted."""

    def __init__(
        self, dataset, ipc=10, seed=0, cache=None, pause=0.0, strength=1.0, names=("a",), student=None, teacher=None
    ):
        super().__init__(dataset, ipc, seed, cache)
        self.pause, self.strength, self.names, self.student, self.teacher = pause, strength, names, student, teacher
        self.made = []

    def estimate_seconds(self):
        return 0.0

    def make(self, unit):
        self.made.append(unit.number)
        time.sleep(self.pause)
        shape = (self.ipc, 1, self.dataset.info.size, self.dataset.info.size)
        pixels = generator(self.seed, "noise", unit.number).integers(0, 256, shape, dtype=np.uint8)
        return Synthesis(pixels, np.full(self.ipc, unit.classes[0]), source_images=2)


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.005)


def noise(folder, **given):
    return Noise(Digits(size=8), **{"ipc": 2, "cache": str(folder), **given})


def content(folder: Path):
    """Bytes of every file of a sealed set but for what the manifest says of this making of it."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    manifest = json.loads(found.pop("manifest.json"))
    return found, {k: v for k, v in manifest.items() if k not in ("seconds", "peak_memory_bytes", "sha256")}


def sealed(folder, made, classes=CLASSES, **more):
    ids = np.array([f"train/{i}" for i in range(50)])
    return seal(folder, made, ids, classes, dataset="D", **more)


def seal(folder, made, ids, classes, **more):
    manifest = {"what": "condensed set", "fingerprint": "f", "classes": classes, "labels": "hard", **more}
    labels = np.arange(len(ids)) % len(classes)
    return artefact.seal(folder, lambda place: store.write_set(place, made, ids, labels, classes), manifest)


def uint8_set(channels=1, count=14, seed=0):
    rng = generator(seed, "test set")
    images = rng.integers(0, 256, (count, channels, 6, 6), dtype=np.uint8)
    return Synthesis(images, rng.integers(0, len(CLASSES), count), 5)


# --- units and claims ---


def test_units_are_pending_until_they_are_put(tmp_path):
    work, units = Workspace(tmp_path / "set"), [Unit(i, (i,)) for i in range(12)]
    store.put(work, units[10], uint8_set())
    assert work.pending(units) == [u for u in units if u.number != 10]
    assert work.folder == tmp_path / "set.partial" and not (tmp_path / "set").exists()
    work.remove()
    assert not work.folder.exists()


@pytest.mark.parametrize(
    "made",
    [Selection(np.array([7, 3, 3])), uint8_set(3), Synthesis(np.full((2, 1, 4, 4), -1.5, np.float32), np.eye(2), 3)],
)
def test_a_unit_comes_back_as_it_was(tmp_path, made):
    work = Workspace(tmp_path / "set")
    store.put(work, UNIT, made)
    back = store.get(work, UNIT)
    assert type(back) is type(made)
    for name, value in vars(made).items():
        np.testing.assert_array_equal(getattr(back, name), value)
        assert getattr(getattr(back, name), "dtype", None) == getattr(value, "dtype", None)


def test_a_damaged_unit_is_dropped_and_made_again(tmp_path):
    work = Workspace(tmp_path / "set")
    store.put(work, UNIT, uint8_set())
    work.path(UNIT).write_bytes(work.path(UNIT).read_bytes()[:-9])
    with pytest.raises(DataError, match=r"Unit 3.*again"):
        store.get(work, UNIT)
    assert work.pending([UNIT]) == [UNIT]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_a_unit_that_cannot_be_read_now_is_kept(tmp_path, monkeypatch, error):
    work = Workspace(tmp_path / "set")
    store.put(work, UNIT, uint8_set())

    def fails(*arguments):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fails)
        patch.setattr(store, "load_file", fails)
        with pytest.raises(type(error)):
            store.get(work, UNIT)
    assert len(store.get(work, UNIT).images) == 14


@pytest.mark.parametrize("suffix", [".safetensors", ".sha256"])
def test_a_unit_of_which_a_bit_changed_is_dropped_and_made_again(tmp_path, suffix):
    data, whole = noise(tmp_path), noise(tmp_path / "whole").condense()
    work, units = Workspace(data.folder), data.units()
    for unit in units:
        store.put(work, unit, data.make(unit))
    file = work.path(units[4]).with_suffix(suffix)
    changed = bytearray(file.read_bytes())
    changed[-1] ^= 4
    file.write_bytes(changed)
    with pytest.raises(DataError, match=r"Unit 4.*again"):
        data.condense()
    assert work.pending(units) == [units[4]] and not artefact.is_sealed(data.folder)
    assert content(data.condense()) == content(whole)


def test_a_unit_of_an_earlier_version_has_no_checksum(tmp_path):
    work = Workspace(tmp_path / "set")
    store.put(work, UNIT, uint8_set())
    work.path(UNIT).with_suffix(".sha256").unlink()
    assert len(store.get(work, UNIT).images) == 14


def test_a_unit_without_its_arrays_is_dropped(tmp_path):
    work = Workspace(tmp_path / "set")
    work.path(UNIT).write_bytes(save({"images": np.zeros(3)}))
    with pytest.raises(DataError, match=r"Unit 3.*again"):
        store.get(work, UNIT)
    assert work.pending([UNIT]) == [UNIT]


def test_a_claim_is_exclusive_until_it_is_released(tmp_path):
    mine, other = Workspace(tmp_path / "set"), Workspace(tmp_path / "set")
    assert mine.claim(UNIT).take() and not other.claim(UNIT).take() and not mine.claim(UNIT).take()
    mine.claim(UNIT).release()
    assert other.claim(UNIT).take()
    with other.claim(UNIT).held():
        store.put(other, UNIT, uint8_set())
    assert not list(other.folder.glob("*.claim"))


def test_a_long_unit_keeps_its_claim_as_other_machines_see_it(tmp_path, monkeypatch):
    data, taken, inner = noise(tmp_path), [], Noise.make
    work = Workspace(data.folder)
    threads = threading.active_count()

    def long(unit):
        work.claim(UNIT).path.write_text("elsewhere 1 1")  # so that only its age tells whether it lives
        for _ in range(5):
            time.sleep(0.4)
            taken.append(Workspace(data.folder).claim(unit).take())
        return inner(data, unit)

    monkeypatch.setattr(claims, "CLAIM_SECONDS", 1.2)
    monkeypatch.setattr(data, "make", long)
    assert data.artefact._make_one(work, [UNIT])
    assert taken == [False] * 5
    assert threading.active_count() == threads and not list(work.folder.glob("*.claim"))


def test_a_unit_that_another_finished_before_it_was_claimed_is_not_made_again(tmp_path, monkeypatch):
    data = noise(tmp_path)
    work = Workspace(data.folder)
    claim = work.claim

    def late(unit):
        work.write(unit, b"of another process")
        return claim(unit)

    monkeypatch.setattr(work, "claim", late)
    monkeypatch.setattr(data, "make", lambda unit: pytest.fail("made again"))
    assert not data.artefact._make_one(work, [UNIT])
    assert not list(work.folder.glob("*.claim"))


# --- condensing ---


def test_any_rank_makes_the_same_bytes(tmp_path):
    folders = [noise(tmp_path / str(k)).condense(*rank) for k, rank in enumerate([(0, 1), (1, 2), (3, 4)])]
    assert content(folders[0]) == content(folders[1]) == content(folders[2])
    assert not list(tmp_path.rglob("*.partial"))


def test_a_finished_set_is_not_made_again(tmp_path):
    folder = noise(tmp_path).condense()
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    again = noise(tmp_path)
    assert again.condense() == folder
    assert again.made == [] and {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_a_failed_unit_gives_its_claim_back_and_the_others_stay(tmp_path, monkeypatch):
    data, make = noise(tmp_path), Noise.make

    def fails(self, unit):
        if unit.number == 4:
            raise RuntimeError("boom")
        return make(self, unit)

    monkeypatch.setattr(Noise, "make", fails)
    with pytest.raises(RuntimeError, match="boom"):
        data.condense()
    monkeypatch.setattr(Noise, "make", make)
    again = noise(tmp_path)
    folder = again.condense()
    assert again.made == [4, 5, 6, 7, 8, 9]
    assert content(folder) == content(noise(tmp_path / "fresh").condense())


def test_what_a_process_left_that_was_killed_while_sealing_is_removed(tmp_path):
    data = noise(tmp_path)
    half = data.folder.with_name(f".{data.folder.name}.0123abcd.sealing")
    other = data.folder.with_name(f".{data.folder.name[:-1]}.0123abcd.sealing")
    for folder in (half, other):
        (folder / "images").mkdir(parents=True)
    data.condense()
    assert not half.exists() and other.exists()


def test_what_a_process_left_that_was_killed_after_sealing_is_removed(tmp_path):
    noise(tmp_path).condense()
    for start in (lambda data: data.condense(), lambda data: data.setup("fit")):
        data = noise(tmp_path)
        store.put(Workspace(data.folder), UNIT, uint8_set())
        start(data)
        assert [p.name for p in data.folder.parent.iterdir()] == [data.folder.name]


def test_a_killed_process_is_continued(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=noise(tmp_path, pause=0.1).condense)
    process.start()
    partial = noise(tmp_path, pause=0.1).folder.with_suffix(".partial")
    wait_until(lambda: len(list(partial.glob("*.safetensors"))) >= 3 and list(partial.glob("*.claim")))
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    finished = {p.name: p.stat().st_mtime_ns for p in partial.glob("*.safetensors")}
    assert 3 <= len(finished) < 10 and len(list(partial.glob("*.claim"))) == 1
    data = noise(tmp_path, pause=0.1)
    folder = data.condense()
    assert data.made == [n for n in range(10) if f"{n:06d}.safetensors" not in finished]
    assert content(folder)[0] == content(noise(tmp_path / "fresh").condense())[0]


def test_several_processes_share_the_units(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=noise(tmp_path, pause=0.02).condense, args=(k, 3)) for k in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert content(noise(tmp_path, pause=0.02).folder)[0] == content(noise(tmp_path / "fresh").condense())[0]
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("moment", ["pending", "claim", "get", "put"])
def test_a_set_that_another_process_seals_meanwhile_is_accepted(tmp_path, monkeypatch, moment):
    """The other one seals the set and removes the workspace just before this one's last step of a kind."""
    owner = Workspace if moment in ("pending", "claim") else store
    inner, last = getattr(owner, moment), Unit(9, (9,))
    busy = []

    def late(work, *arguments):
        if not busy and (moment == "pending" or arguments[0] == last):
            busy.append(True)
            work.claim(last).release()
            work.claim("seal").release()
            noise(tmp_path).condense()
        return inner(work, *arguments)

    data = noise(tmp_path)
    work = Workspace(data.folder)
    for number in range(9):
        store.put(work, Unit(number, (number,)), data.make(Unit(number, (number,))))
    monkeypatch.setattr(owner, moment, late)
    folder = data.condense()
    assert busy and artefact.verify(folder)["images"] == 20
    assert not list(tmp_path.rglob("*.partial"))


def all_made(data):
    """The workspace of a set whose units are all made."""
    work = Workspace(data.folder)
    for unit in data.units():
        store.put(work, unit, data.make(unit))
    return work


def seals(monkeypatch, seconds=0.0):
    """Times at which sets were sealed from now on, each taking some seconds."""
    inner, times = artefact.seal, []

    def slow(*arguments):
        times.append(time.monotonic())
        time.sleep(seconds)
        return inner(*arguments)

    monkeypatch.setattr(artefact, "seal", slow)
    return times


def test_one_process_seals_and_the_others_wait(tmp_path, monkeypatch):
    all_made(noise(tmp_path))
    times = seals(monkeypatch, 0.5)
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda rank: noise(tmp_path).condense(rank, 4), range(4)))
    assert len(times) == 1 and artefact.verify(folders[0])["images"] == 20 and len(set(folders)) == 1
    assert not list(tmp_path.rglob("*.partial"))


def test_a_seal_that_another_machine_gave_up_is_taken_over(tmp_path, monkeypatch):
    work = all_made(noise(tmp_path))
    monkeypatch.setattr(claims, "CLAIM_SECONDS", 1.0)
    (work.folder / "seal.claim").write_text("elsewhere 1 1")
    times, start = seals(monkeypatch), time.monotonic()
    assert artefact.verify(noise(tmp_path).condense())["images"] == 20
    assert len(times) == 1 and times[0] - start > 0.8


def test_a_unit_that_another_process_finds_damaged_while_sealing_is_made_again(tmp_path):
    data = noise(tmp_path)
    work = all_made(data)
    assert work.claim("seal").take()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(noise(tmp_path).condense)
        time.sleep(0.2)
        work.path(UNIT).unlink()
        work.claim("seal").release()
        assert artefact.verify(waiting.result(60))["images"] == 20


# --- sealing ---


def test_what_was_sealed_first_stays(tmp_path):
    folder = sealed(tmp_path / "set", uint8_set(seed=0))
    before = content(folder)
    assert sealed(tmp_path / "set", uint8_set(seed=1)) == folder
    assert content(folder) == before and artefact.verify(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_folder_without_manifest_is_not_overwritten(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="in the way"):
        sealed(tmp_path / "set", uint8_set())
    assert [p.name for p in tmp_path.rglob("*")] == ["set", "thesis.txt"]


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_json", full)
    with pytest.raises(DataError, match="disk is full"):
        sealed(tmp_path / "set", uint8_set())
    assert list(tmp_path.iterdir()) == []


# --- reading back ---

FLOATS = np.array([0.0, -0.0, 1e-42, -7.25, 3.4e38, np.nextafter(1, 2)], np.float32)


@pytest.mark.parametrize(
    "made",
    [
        uint8_set(1),
        uint8_set(3, count=120),
        Synthesis(np.resize(FLOATS, (5, 3, 4, 4)), np.arange(5) % 3, 9),
        Synthesis(uint8_set(3).images, np.resize(FLOATS, (14, 6)), 9),
        Synthesis(np.resize(FLOATS, (5, 1, 4, 4)), np.resize(FLOATS, (5, 6)), 0),
        Synthesis(uint8_set(5).images, uint8_set(5).labels, 1),
    ],
    ids=["grey", "colour", "float", "soft", "float and soft", "five channels"],
)
def test_made_images_come_back_bit_by_bit(tmp_path, made):
    folder = sealed(tmp_path / "set", made)
    stored = store.load(folder)
    for name in ("images", "labels"):
        back, given = getattr(stored, name), getattr(made, name)
        assert back.dtype == given.dtype and back.shape == given.shape and back.tobytes() == given.tobytes()
        dense = back.flags.c_contiguous or back.transpose(0, 2, 3, 1).flags.c_contiguous
        assert dense and back.flags.writeable
    digest = hashlib.sha256(made.images.tobytes() + made.labels.tobytes()).hexdigest()
    manifest = stored.manifest
    assert manifest["content_sha256"] == digest
    assert (manifest["images"], manifest["source_images"]) == (len(made.images), made.source_images)
    assert manifest["bytes_labels"] == (made.labels.nbytes if made.labels.ndim == 2 else 0)
    total = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    assert manifest["bytes_images"] + manifest["bytes_labels"] == total


def test_uint8_sets_are_readable_as_an_image_folder(tmp_path):
    made = uint8_set(3)
    folder = sealed(tmp_path / "set", made)
    names = sorted(p.name for p in (folder / "images").iterdir())
    assert [int(n.split("_")[0]) for n in names] == sorted(set(made.labels.tolist()))
    assert all(len(p.relative_to(folder / "images").parts) == 2 for p in (folder / "images").rglob("*.png"))


IDS = np.array(["b", 'a,"x"', "new\nline", "\u2028", "ü/é 1.png", " edge "])


class Listed(RealDataset):
    """A dataset of six images."""

    name = "Digits"

    def __init__(self, ids=IDS):
        super().__init__()
        self.sample_ids = ids

    def _read(self, name):
        images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
        return {name: ImageSet(images, np.arange(6) % 2, self.sample_ids)}

    def _contents(self):
        return []


def test_a_selection_comes_back_in_order_and_keyed_by_id(tmp_path):
    chosen = np.array([5, 2, 2, 0, 3, 1])
    folder = seal(tmp_path / "set", Selection(chosen), IDS, ["p", "q"], dataset="Listed")
    stored = store.load(folder, Listed())
    assert stored.images.ravel().tolist() == chosen.tolist() and stored.labels.tolist() == (chosen % 2).tolist()
    indices, ids = store.read_selection(folder)
    assert indices.tolist() == chosen.tolist() and ids.tolist() == IDS[chosen].tolist()
    assert stored.manifest["content_sha256"] == hashlib.sha256("\n".join(IDS[chosen]).encode()).hexdigest()
    with pytest.raises(DataError, match="other data"):
        store.load(folder, Listed(IDS[::-1]))
    with pytest.raises(DataError, match="give that dataset"):
        store.load(folder)


def test_the_content_hash_knows_neither_time_nor_names(tmp_path):
    hashes = set()
    for k, classes in enumerate([CLASSES, CLASSES[::-1]]):
        folder = sealed(tmp_path / str(k), uint8_set(), classes, seconds=float(k))
        hashes.add(artefact.read_manifest(folder)["content_sha256"])
    assert len(hashes) == 1
    other = uint8_set()
    other.images[0, 0, 0, 0] ^= 1
    assert artefact.read_manifest(sealed(tmp_path / "x", other))["content_sha256"] not in hashes
    labels = uint8_set()
    labels.labels[0] = (labels.labels[0] + 1) % 6
    assert artefact.read_manifest(sealed(tmp_path / "y", labels))["content_sha256"] not in hashes


# --- verifying ---


def first_png(folder):
    return sorted(folder.rglob("*.png"))[0]


def flip_a_bit(folder):
    content = bytearray(first_png(folder).read_bytes())
    content[-20] ^= 1
    first_png(folder).write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: first_png(folder).unlink(),
        flip_a_bit,
        lambda folder: (folder / "images" / "new.txt").write_text("x"),
        lambda folder: (folder / "more.csv").write_text(""),
        lambda folder: first_png(folder).rename(folder / "images" / "moved.png"),
    ],
    ids=["missing", "changed", "added", "added at the top", "moved"],
)
def test_verify_finds_any_damage(tmp_path, damage):
    folder = sealed(tmp_path / "set", uint8_set())
    artefact.verify(folder)
    damage(folder)
    with pytest.raises(DataError, match="not what was sealed"):
        store.load(folder)


@pytest.mark.parametrize("field", ["images", "content_sha256", "kind", "labels"])
def test_a_manifest_of_which_one_number_changed_is_damaged(tmp_path, field):
    folder = sealed(tmp_path / "set", uint8_set())
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, field: 15}))
    with pytest.raises(DataError, match=r"manifest\.json is damaged.*checksum"):
        store.load(folder)
    path.write_text(json.dumps({key: value for key, value in manifest.items() if key != "sha256"}))
    assert len(store.load(folder).images) == 14  # one of an earlier version has no checksum


@pytest.mark.parametrize("text", ["", "[1]", '{"schema": 99, "files": {}}', '{"schema": 1}'])
def test_a_damaged_manifest_is_named(tmp_path, text):
    folder = sealed(tmp_path / "set", uint8_set())
    (folder / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json"):
        artefact.verify(folder)


def test_no_set_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(DataError, match="no file"):
        store.load(tmp_path / "nothing")


# --- fingerprints ---


class Newer(Noise):
    recipe_version = 2


class Other(Noise):
    pass


class Weights:
    """A teacher, as far as a fingerprint is concerned."""

    def __init__(self, weights):
        self.weights = weights

    def fingerprint(self):
        return self.weights


BASE = {"dataset": Digits(size=8), "ipc": 10, "seed": 0}
DIFFERENT = {
    "ipc": {"ipc": 11},
    "seed": {"seed": 1},
    "size": {"dataset": Digits(size=16)},
    "held out": {"dataset": Digits(size=8, held_out=1)},
    "argument": {"strength": 2.0},
    "argument that is zero": {"strength": 0.0},
    "list": {"names": ("a", "b")},
    "student": {"student": ConvNet(depth=1)},
    "other student": {"student": ConvNet(depth=2)},
    "teacher": {"teacher": Weights("aa")},
    "other teacher": {"teacher": Weights("bb")},
}


def test_what_shapes_a_set_names_it():
    names = [Noise(**{**BASE, **change}).fingerprint for change in [{}, *DIFFERENT.values()]]
    names += [Newer(**BASE).fingerprint, Other(**BASE).fingerprint, Random(**BASE).fingerprint]
    assert len(set(names)) == len(names) and all(len(n) == 16 for n in names)


def test_what_does_not_shape_a_set_does_not_name_it(tmp_path):
    plain = Noise(**BASE)
    same = Noise(dataset=Digits(size=8), ipc=10, strength=1.0, names=("a",), cache=str(tmp_path))
    assert same.fingerprint == plain.fingerprint and same.folder != plain.folder
    assert same.folder == tmp_path / "Digits" / "Noise" / "ipc10" / same.fingerprint


def test_a_name_is_the_same_in_another_process(tmp_path):
    """The literal pins the recipe of names: a change here orphans every set that users have."""
    assert Random(Digits(size=8), ipc=3, seed=1).arguments == {"ipc": 3}
    named = {"method": "Random", "recipe_version": 1, "args": {"ipc": 3}, "seed": 1}
    named["dataset_identity"] = Digits(size=8).identity()
    expected = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:16]
    assert Random(Digits(size=8), ipc=3, seed=1).fingerprint == expected


def test_manifest_says_how_the_set_came_about(tmp_path):
    data = Noise(Digits(size=8), ipc=2, seed=5, cache=str(tmp_path), strength=0.5)
    manifest = artefact.verify(data.condense())
    expected = {"method": "Noise", "args": {"ipc": 2, "strength": 0.5}, "seed": 5, "ipc": 2, "images": 20}
    expected |= {"source_images": 20, "dataset": "Digits", "kind": "uint8", "shape": [1, 8, 8], "labels": "hard"}
    assert {k: manifest[k] for k in expected} == expected
    assert manifest["fingerprint"] == data.fingerprint and manifest["dataset_identity"] == data.dataset.identity()


# --- baselines ---


def test_random_draws_ipc_of_each_class_and_nests(tmp_path):
    def chosen(**given):
        data = Random(Digits(size=8), cache=str(tmp_path), **given)
        return store.read_selection(data.condense())[0].reshape(10, -1)

    labels = Digits(size=8).split("train").labels
    few, many, other = chosen(ipc=3), chosen(ipc=50), chosen(ipc=3, seed=1)
    assert (labels[many] == np.arange(10)[:, None]).all() and len(np.unique(many)) == 500
    np.testing.assert_array_equal(few, many[:, :3])
    assert (few != other).any(1).all()


def test_more_images_than_there_are_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"ipc=5000.*--data\.ipc="):
        Random(Digits(size=8), ipc=5000, cache=str(tmp_path)).condense()


def test_full_data_is_everything_in_order(tmp_path):
    data = FullData(Digits(size=8), cache=str(tmp_path))
    split = data.dataset.split("train")
    stored = store.load(data.condense(), data.dataset)
    np.testing.assert_array_equal(stored.images, split.images)
    np.testing.assert_array_equal(stored.labels, split.labels)
    assert data.expected_images == len(split.labels)

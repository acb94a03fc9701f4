"""Damaged files of every layout: read, or refused in one line of ours, at once, and nothing in them runs."""

import io
import json
import pickle
import time
import warnings
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from ddlight.core.errors import DDLightError
from ddlight.core.randomness import generator
from ddlight.data import Digits
from ddlight.methods.scores.score_file import import_scores
from ddlight.networks.torch_file import read_torch_file
from ddlight.networks.weights import read_state_dict
from ddlight.sets.readers.fkd import PublishedLabels
from ddlight.sets.readers.released import read_released

DIGITS = Digits(size=8)
IDS = np.array([f"train/{n}.png" for n in range(20)])
SECONDS = 10


def seeds():
    """One small honest file of each layout, by name."""
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(10, 1, 8, 8)).astype(np.float32), np.arange(10)
    saved, files = io.BytesIO(), {}
    torch.save({"data": [[torch.tensor(images), torch.tensor(labels)]], "accs": {"ConvNet": [np.float64(1)]}}, saved)
    files["res_DC.pt"] = saved.getvalue()
    saved = io.BytesIO()
    torch.save({"conv.weight": torch.tensor(images)}, saved)
    files["weights.pth"] = saved.getvalue()
    for name, arrays in (
        ("kip", {"images": images[:, 0, ..., None], "labels": np.eye(10) - 0.1}),
        ("s", {"s": images[:, 0, 0, 0]}),
    ):
        saved = io.BytesIO()
        np.savez(saved, **arrays)
        files[f"{name}.npz"] = saved.getvalue()
    saved = io.BytesIO()
    picks = [int(np.flatnonzero(DIGITS.index("train").labels == c)[0]) for c in range(10)]
    np.save(saved, np.array(picks))
    files["picks.npy"] = saved.getvalue()
    files["picks.json"] = json.dumps(picks).encode()
    files["picks.txt"] = "\n".join(map(str, picks)).encode()
    files["scores.csv"] = "\n".join(
        ["id,label,score", *(f"{name},{n % 10},{n / 7}" for n, name in enumerate(IDS))]
    ).encode()
    saved = io.BytesIO()
    with zipfile.ZipFile(saved, "w") as archive:
        for c in range(10):
            picture = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(picture, "PNG")
            archive.writestr(f"set/{c}/0.png", picture.getvalue())
    files["set.zip"] = saved.getvalue()
    batch = [torch.rand(10, 4), torch.ones(10).bool(), torch.arange(10), 0.5, [0, 0, 2, 2], torch.rand(10, 10) * 9]
    saved = io.BytesIO()
    torch.save([batch], saved)
    files["epoch_0.tar"] = saved.getvalue()
    return files


def damage(content, rng):
    """Bytes flipped, cut out, cut off, doubled or replaced by others."""
    content = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        start = int(rng.integers(len(content) + 1))
        stop = min(len(content), start + int(rng.integers(1, 40)))
        kind = rng.integers(6)
        if kind == 0 and start < len(content):
            content[start] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del content[start:stop]
        elif kind == 2:
            del content[start:]
        elif kind == 3:
            content[start:start] = content[start:stop]
        elif kind == 4:
            content[start:stop] = rng.integers(0, 256, stop - start, np.uint8).tobytes()
        else:
            content[start:stop] = rng.choice(
                [b"\xff" * 8, b"\x00" * 4, b"nan", b"-1", b"1e999", b"../..", b"{", b"\n\n"]
            )
    return bytes(content)


def read(path):
    """Read a file by whatever reads its kind."""
    if path.suffix == ".csv" or path.name == "s.npz":
        import_scores(path, None, IDS, "Digits", np.arange(20) % 10, DIGITS.info.classes)
    elif path.suffix == ".pth":
        read_state_dict(path)
    elif path.name == "epoch_0.tar":
        PublishedLabels(path.parent, 10, classes=10).batch(0, 0)
    else:
        read_released(path, DIGITS)


def round_of(place, count, seed):
    """Damage so many files; every answer is a set or one line, within seconds."""
    files, rng = seeds(), generator(seed, "fuzz")
    names = list(files)
    for number in range(count):
        name = names[number % len(names)]
        folder = place / name
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(damage(files[name], rng))
        begin = time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(folder / name)
        except DDLightError as error:
            assert str(error) and "Traceback" not in str(error) and "\x1b" not in str(error)
        except Exception as error:
            raise AssertionError(f"{name}, file {number} of seed {seed}: {error!r}") from error
        assert time.monotonic() - begin < SECONDS, (name, number, seed)


def test_honest_files_of_every_layout_are_read(tmp_path):
    for name, content in seeds().items():
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(content)
        if name != "s.npz":
            read(tmp_path / name / name)


def test_damaged_files_are_refused_in_a_line(tmp_path):
    round_of(tmp_path, 600, 0)


@pytest.mark.slow
def test_many_damaged_files_are_refused_in_a_line(tmp_path):
    round_of(tmp_path, 10_000, 1)


class Runs:
    def __reduce__(self):
        return exec, ("raise SystemExit('it ran')",)


@pytest.mark.parametrize("name", ["a.pt", "a.npy", "a.npz", "a.csv", "a.json", "a.txt", "a.zip", "a.tar"])
def test_no_pickle_runs_whatever_it_is_called(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps(Runs()))
    for call in (lambda p: read_released(p, DIGITS), read_torch_file, lambda p: import_scores(p, None, IDS, "Digits")):
        with pytest.raises(DDLightError):
            call(tmp_path / name)

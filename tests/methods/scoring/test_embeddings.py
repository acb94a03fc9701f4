"""Embeddings of a training split: chunk by chunk, resumable, sealed and verified."""

import numpy as np
import pytest
import torch

from ddlight.core import artefact
from ddlight.core.errors import DataError
from ddlight.data import Digits
from ddlight.methods.scoring import embeddings as module
from ddlight.methods.scoring.clip import Clip, LoadedClip
from ddlight.methods.scoring.embeddings import Embeddings

TINY = Clip("tiny", "random")


@pytest.fixture
def data(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(module, "CHUNK", 500)
    return Digits()


def made(data, home, cache="cache", clip=TINY):
    return Embeddings(clip, data, home / cache)


def test_every_image_has_its_own_embedding(data, home):
    found = made(data, home)
    found.ensure()
    rows, manifest = found.read()
    train = data.split("train")
    np.testing.assert_allclose(rows, TINY.load().images(train.images), atol=5e-4)
    assert (rows.dtype, manifest["images"], len(rows)) == (np.float16, len(train), len(train))
    assert len(list(found.folder.glob("*.safetensors"))) == -(-len(train) // 500)
    assert manifest["flops"] == pytest.approx(TINY.load().flops * len(train))


def test_a_killed_run_continues_with_the_chunks_that_are_missing(data, home, monkeypatch):
    whole = made(data, home, "whole")
    whole.ensure()
    images, calls = LoadedClip.images, []

    def stopping(self, pixels):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(len(pixels))
        return images(self, pixels)

    monkeypatch.setattr(LoadedClip, "images", stopping)
    with pytest.raises(KeyboardInterrupt):
        made(data, home).ensure()
    monkeypatch.setattr(LoadedClip, "images", lambda self, pixels: calls.append(len(pixels)) or images(self, pixels))
    again = made(data, home)
    again.ensure()
    assert sum(calls) == len(data.split("train"))
    np.testing.assert_array_equal(again.read()[0], whole.read()[0])


def test_finished_embeddings_are_not_made_again(data, home, monkeypatch):
    first = made(data, home)
    first.ensure()
    monkeypatch.setattr(Clip, "load", None)
    assert made(data, home).ensure() == first.folder
    assert made(data, home, clip=Clip("tiny", "random", 1)).folder != first.folder
    assert Embeddings(TINY, Digits(held_out=3), home / "cache").folder != first.folder


def test_changed_embeddings_are_refused(data, home):
    found = made(data, home)
    path = sorted(found.ensure().glob("*.safetensors"))[1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{path.name} is missing, new or changed"):
        found.read()


def test_embeddings_of_other_images_are_refused(data, home, monkeypatch):
    found = made(data, home)
    found.ensure()
    monkeypatch.setattr(Embeddings, "ids", found.ids[::-1])
    with pytest.raises(DataError, match="embeddings of other images than Digits has"):
        found.read()


def test_embeddings_that_are_not_finite_are_never_sealed(data, home, monkeypatch):
    broken, load = made(data, home), Clip.load

    def damaged(self):
        loaded = load(self)
        with torch.no_grad():
            loaded.network.visual.proj[0, 0] = torch.nan
        return loaded

    monkeypatch.setattr(Clip, "load", damaged)
    with pytest.raises(DataError, match="500 of 500 images embeddings that are not finite, " + broken.ids[0]):
        broken.ensure()
    assert not artefact.is_sealed(broken.folder)

"""A generator of half a second, trained once for all tests of generative methods."""

import shutil

import pytest
import torch

from ddlight.data import Digits
from ddlight.methods.generative.engine.trained import GeneratorRun, TrainedDiT

HOW = TrainedDiT(width=16, depth=1, heads=2, patch=4, batch=8, steps=3)
SIZE = 8


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def trained_once(one_thread, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generator")
    GeneratorRun(HOW, Digits(size=SIZE), folder).ensure()
    return folder


@pytest.fixture
def build(trained_once, home):
    """A generative method on digits of 8 pixels, prepared: build(MGD3, ipc=2, steps=4, ...).

    A method that does not sample takes its options as own={...}.
    """

    def make(kind, ipc=2, dataset=None, prepare=True, own=None, **options):
        cache = home / "sets"
        if not cache.exists():
            shutil.copytree(trained_once, cache)
        options = {"backbone": HOW, "steps": 4, "batch": 2, **options} if own is None else {"backbone": HOW, **own}
        data = kind(dataset or Digits(size=SIZE), **{"ipc": ipc, "cache": str(cache), **options})
        if prepare:
            data.prepare()
        return data

    return make

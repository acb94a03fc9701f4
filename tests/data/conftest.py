"""Datasets keep hashes and decoded pixels: each test has a cache of its own."""

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("DDLIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))

"""RealPatches: which of RDED's patches are easy, medium and hard."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from ddlight.core import artefact
from ddlight.data import Digits
from ddlight.methods.patches.rded import RDED
from ddlight.methods.patches.real_patches import RealPatches
from ddlight.sets import store

SIZE = 8


@pytest.fixture
def condensed(home, teacher):
    """Images of a class of a set of 8-pixel digits: condensed(method, ipc=..., ...)."""

    def build(method, label, ipc, **options):
        data = method(Digits(size=SIZE), ipc, cache=str(home / "cache"), teacher=teacher, crops=2, **options)
        stored = store.load(data.condense())
        return stored.images[stored.labels == label]

    return build


def losses(teacher, images, label):
    """The teacher's cross-entropy of each image."""
    logits = teacher.logits(torch.from_numpy(images).float() / 255)
    return cross_entropy(logits, torch.full((len(images),), label), reduction="none").numpy()


@pytest.mark.parametrize("label", [0, 7])
def test_easy_is_rded_and_medium_and_hard_are_further_down_the_same_list(condensed, teacher, label):
    pool = {"pool_size": 21}
    every = condensed(RDED, label, 21, factor=1, **pool)  # all patches, the most realistic first
    assert (np.diff(losses(teacher, every, label)) > -1e-5).all()
    chosen = {"easy": [0, 1, 2, 3], "medium": [10, 9, 11, 8], "hard": [20, 19, 18, 17]}
    for difficulty, ranks in chosen.items():
        found = condensed(RealPatches, label, 4, difficulty=difficulty, **pool)
        np.testing.assert_array_equal(found, every[ranks])


def test_a_smaller_set_is_a_prefix_and_the_middle_of_an_even_pool_is_two(condensed):
    large, small = (condensed(RealPatches, 3, ipc, pool_size=20) for ipc in (6, 2))
    every = condensed(RDED, 3, 20, factor=1, pool_size=20)
    np.testing.assert_array_equal(large[:2], small)
    np.testing.assert_array_equal(large, every[[9, 10, 8, 11, 7, 12]])


def test_patches_are_single_images_of_known_origin(home, teacher):
    data = RealPatches(Digits(size=SIZE), 2, cache=str(home / "cache"), teacher=teacher)
    manifest = artefact.read_manifest(data.condense())
    assert (data.tile_factor, manifest["tile_factor"], manifest["source_images"]) == (1, 1, 20)

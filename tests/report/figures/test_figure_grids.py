"""Grids of images: which images, where they stand, and what is said of sets that are gone."""

import logging

import numpy as np
import pytest

from ddlight.core.artefact import seal
from ddlight.data import Digits
from ddlight.methods.baselines.full import FullData
from ddlight.methods.baselines.random import Random
from ddlight.report.figures import grids
from ddlight.report.figures.kinds import draw
from ddlight.sets import opened as opened_sets
from ddlight.sets.store import Synthesis, write_set

CLASSES = ["zero", "one", "two"]


def sealed(folder, level, labels=(0, 1, 2, 2)):
    """A set of flat images: their grey is `level` + 10 times their class."""
    images = np.stack([np.full((3, 8, 8), level + 10 * label, np.uint8) for label in labels])
    manifest = {
        "method": "Maker",
        "args": {},
        "what": "condensed set",
        "fingerprint": "f00d",
        "dataset": "Digits",
        "dataset_identity": {},
        "classes": CLASSES,
        "ipc": 1,
        "seed": 0,
        "space": "pixel",
        "mean": [0.0] * 3,
        "std": [1.0] * 3,
        "labels": "hard",
        "learned_lr": None,
        "tile_factor": 1,
        "selected_on": "none",
        "seconds": 1.0,
        "peak_memory_bytes": 1,
        "versions": {},
    }
    made, none = Synthesis(images, np.array(labels)), np.array([])
    return seal(folder, lambda place: write_set(place, made, none, none, CLASSES), manifest)


@pytest.fixture
def sets(study, results, tmp_path):
    """Two methods whose sets are there, and one whose set is gone."""
    for number, (method, level) in enumerate((("Random", 0), ("RDED", 100))):
        folder = sealed(tmp_path / method, level)
        study.add(method, 50.0, 1, set_seed=1, set__path=str(folder))
        study.add(method, 50.0, 1, set_seed=2, set__path=str(sealed(tmp_path / f"{method}2", 200 + number)))
    study.add("AUM", 50.0, 1)
    return results()


def test_the_smallest_set_seed_is_drawn_and_a_set_that_is_gone_is_said(sets, caplog):
    with caplog.at_level(logging.WARNING, "ddlight"):
        data = grids.data(sets)
    assert data[["row", "set_seed"]].to_numpy().tolist() == [["RDED", 1], ["Random", 1]]
    assert "1 of 5 sets are not where they were made, such as cache/AUM/1/0" in caplog.text


def test_one_image_of_each_class_stands_in_its_row_and_column(sets):
    (drawn,) = draw(sets, ["grids"])
    (panel,) = drawn.figure.axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["Random", "RDED"]
    assert [label.get_text() for label in panel.get_xticklabels()] == CLASSES
    found = {(image.get_extent()[0], image.get_extent()[3]): image.get_array()[0, 0, 0] for image in panel.images}
    assert found == {(x, y): 100 * y + 10 * x for x in range(3) for y in range(2)}


def test_the_same_images_are_chosen_every_time():
    labels = np.arange(200) % 20
    first = grids.chosen(labels, 20)
    assert first == grids.chosen(labels, 20) and len(first) == 10
    assert all(labels[at] == label for label, at in first.items()) and list(first) == sorted(first)
    assert grids.chosen(np.array([1, 1]), 3).keys() == {1}


def test_a_set_that_is_damaged_is_left_out_with_a_line(sets, tmp_path, caplog):
    picture = next((tmp_path / "RDED" / "images").rglob("*.png"))
    picture.write_bytes(b"")
    (drawn,) = draw(sets, ["grids"])
    assert [label.get_text() for label in drawn.figure.axes[0].get_yticklabels()] == ["Random"]
    assert "grids: RDED, 1 image a class, left out: " in caplog.text


def test_without_any_set_it_says_what_it_needs(study, results):
    study.add("Random", 50.0)
    (drawn,) = draw(results(), ["grids"])
    assert drawn.figure is None and "folders of condensed sets" in drawn.problem


def test_the_real_images_are_opened_once_for_all_sets(study, results, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(
        opened_sets, "open_dataset", lambda *words, real=opened_sets.open_dataset: opened.append(1) or real(*words)
    )
    for method in (Random, FullData):
        data = method(Digits(size=8), ipc=1, cache=str(tmp_path))
        study.add(method.__name__ + "s", 50.0, 1, set_seed=1, set__path=str(data.condense()))
    (drawn,) = draw(results(), ["grids"])
    assert len(drawn.figure.axes[0].images) == 2 * 10
    assert len(opened) == 1

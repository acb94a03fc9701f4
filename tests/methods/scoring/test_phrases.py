"""Texts of concepts: the shipped list, a user's JSON, a hook for a captioning model."""

import json
import sys

import numpy as np
import pytest

from ddlight.core.errors import DataError, UsageError
from ddlight.data import Digits
from ddlight.methods.scoring.phrases import GENERIC, Phrases, check_concepts

NAMES = tuple("0123456789")
GOOD = {name: ["x"] for name in NAMES}
HOOK = """
from pathlib import Path

import numpy as np


def describe(classes, images):
    with Path("calls.txt").open("a") as file:
        file.write("called\\n")
    np.savez("shown.npz", **images)
    return {name: [f"a {name}", "a black shape"] for name in classes}


def fail(classes, images):
    raise ValueError("out of memory")


def wrong(classes, images):
    return {name: [] for name in classes}
"""


@pytest.fixture
def hook(home):
    (home / "my_hook.py").write_text(HOOK)
    return "my_hook:describe"


def phrases(home, source=None, examples=3):
    return Phrases(source, examples, Digits(), home / "cache")


def write(home, content):
    path = home / "concepts.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_the_shipped_list_is_some_hundred_different_phrases(home):
    found = phrases(home).read()
    assert 90 <= len(set(found)) == len(found) <= 130
    assert all(p == p.strip() and 3 < len(p) < 45 for p in found)
    assert set(found) == {p for kind in json.loads(GENERIC.read_text()).values() for p in kind}


def test_concepts_of_a_file_are_taken_class_by_class_and_once(home):
    given = {name: [f" a {name} ", "a stroke"] for name in reversed(NAMES)}
    found = phrases(home, write(home, {**given, "ten": ["left out"]})).read()
    assert found[:3] == ("a 0", "a stroke", "a 1")
    assert (len(found), len(set(found))) == (11, 11)


def test_a_file_is_named_by_its_content(home):
    path = write(home, GOOD)
    (home / "other.json").write_bytes((home / "concepts.json").read_bytes())
    digests = [phrases(home, source).digest for source in (path, str(home / "other.json"))]
    write(home, {**GOOD, "3": ["y"]})
    assert digests[0] == digests[1] != phrases(home, path).digest


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (["a", "b"], "gives list, and concepts are an object"),
        ({"0": ["x"], "three": ["x"]}, "no concepts for 9 of 10 classes: 1, 2, 3, 4, 5, .... It names 0, three;"),
        ({**GOOD, "4": []}, "no list of phrases for class '4', but []"),
        ({**GOOD, "4": "a four"}, "no list of phrases for class '4', but 'a four'"),
        ({**GOOD, "4": ["x", " "]}, "a concept of class '4' that is no phrase: ' '"),
        ({**GOOD, "4": [7]}, "a concept of class '4' that is no phrase: 7"),
    ],
)
def test_concepts_that_are_wrong_are_refused_by_class(found, said):
    with pytest.raises(DataError) as error:
        check_concepts(found, NAMES, "mine.json")
    assert str(error.value).startswith("mine.json")
    assert said in str(error.value)


def test_files_that_are_missing_or_damaged(home):
    with pytest.raises(UsageError, match=r"no file of concepts nowhere\.json\. Give --data\.concepts"):
        phrases(home, "nowhere.json").read()
    with pytest.raises(DataError, match=r"concepts\.json is damaged or not JSON"):
        phrases(home, write(home, '{"0": [')).read()


# --- the hook ---


def test_a_hook_is_called_once_with_images_of_each_class(hook, home):
    found = phrases(home, hook).read()
    assert found == ("a 0", "a black shape", *(f"a {k}" for k in range(1, 10)))
    assert phrases(home, hook).read() == found
    assert (home / "calls.txt").read_text() == "called\n"
    train, shown = Digits().split("train"), np.load(home / "shown.npz")
    assert set(shown) == set(NAMES)
    for label, name in enumerate(NAMES):
        own = {image.tobytes() for image in train.images[train.labels == label]}
        images = {image.tobytes() for image in shown[name]}
        assert len(images) == 3
        assert images <= own


def test_a_hook_is_named_by_its_source_and_by_what_it_is_shown(hook, home):
    digest = phrases(home, hook).digest
    assert digest != phrases(home, hook, examples=4).digest
    assert digest != phrases(home, "my_hook:wrong").digest
    assert digest == phrases(home, f"{home / 'my_hook.py'}:describe").digest
    (home / "my_hook.py").write_text(HOOK.replace("black", "dark"))
    assert digest != phrases(home, hook).digest
    assert "a dark shape" in phrases(home, hook).read()


def test_a_hook_may_be_in_an_installed_module(home, monkeypatch):
    package = home / "site" / "captions"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "words.py").write_text("WORD = 'inner'\n")
    (package / "llava.py").write_text(
        "from .words import WORD\n\n\ndef describe(classes, images):\n    return dict.fromkeys(classes, [WORD])\n"
    )
    monkeypatch.syspath_prepend(str(home / "site"))
    assert phrases(home, "captions.llava:describe").read() == ("inner",)
    for name in ("captions", "captions.words", "captions.llava"):
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("nowhere:describe", UsageError, "There is no module nowhere for the hook: neither nowhere.py in "),
        ("my_hook:nothing", UsageError, "has no function 'nothing'; the hook was named my_hook:nothing"),
        ("my_hook:fail", UsageError, "The hook my_hook:fail raised ValueError: out of memory"),
        ("my_hook:wrong", DataError, "my_hook:wrong has no list of phrases for class '0', but []"),
        ("broken:describe", UsageError, "broken.py cannot be imported: NameError: name 'undefined' is not defined"),
    ],
)
def test_a_hook_that_fails_is_said_to_be_one(hook, home, name, kind, said):
    (home / "broken.py").write_text("undefined\n")
    with pytest.raises(kind) as error:
        phrases(home, name).read()
    assert said in str(error.value)
    assert not list((home / "cache").rglob("manifest.json"))

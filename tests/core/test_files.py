"""JSON objects that carry the checksum of their own fields."""

import json

import pytest

from ddlight.core.errors import DataError
from ddlight.core.files import signed, unsigned, write_csv

CONTENT = {"b": [1.5, (2, None)], "a": {"ä": 1e22, "x": -0.0}, "n": 3}


def test_what_was_signed_comes_back_through_json():
    there = json.loads(json.dumps(signed(CONTENT)))
    assert unsigned(there) == json.loads(json.dumps(CONTENT))
    assert unsigned(dict(reversed(there.items()))) == unsigned(there)


@pytest.mark.parametrize("change", [{"n": 4}, {"n": 3.0}, {"more": 0}, {"sha256": None}, {"a": {}}])
def test_what_was_changed_is_refused(change):
    with pytest.raises(DataError, match="not what was written"):
        unsigned({**signed(CONTENT), **change})


def test_a_field_that_is_gone_is_missed():
    content = signed(CONTENT)
    del content["n"]
    with pytest.raises(DataError):
        unsigned(content)


def test_what_was_never_signed_is_not_checked():
    assert unsigned(CONTENT) == CONTENT


def test_no_cell_of_a_table_is_a_formula(tmp_path):
    cells = {"a": "=1+1", "b": "-0.5", "c": "@x", "d": "+cmd|x", "e": "-name", "f": -3, "g": "plain"}
    write_csv(tmp_path / "t.csv", [cells])
    assert (tmp_path / "t.csv").read_text().splitlines()[1] == "'=1+1,-0.5,'@x,'+cmd|x,'-name,-3,plain"

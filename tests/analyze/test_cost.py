"""What is charged with and without networks, and that nothing unknown counts as nothing."""

from importlib import import_module

import pytest

from ddlight.analyze.cost import UNRECORDED, cost
from ddlight.core.discover import methods

NET = {"class": "RunTeacher", "weights": "cafe" * 16}
SET = {"method": "Maker", "args": {}, "kind": "indices", "seconds": 2.0}
SCORED = {"scoring": ["a"], "scoring_seconds": 30.0, "flops_scoring": 5e6}
MADE = {"kind": "uint8", "flops_synthesis": 7e6}

CASES = {
    "random": ({}, (2.0, 0.0, 2.0, 0.0)),
    "scored": (SCORED, (32.0, 5e6, 32.0, 5e6)),
    "a score that was searched": ({**SCORED, "search": {"seconds": 8.0}}, (32.0, 5e6, 32.0, 5e6)),
    "features of a given network": ({"args": {"network": NET}}, (2.0, None, None, None)),
    "given teacher": ({**MADE, "teacher": "r18", "args": {"teacher": NET}}, (2.0, 7e6, None, None)),
    "given teachers": (
        {**MADE, "recovery": {}, "teachers": [{"name": "r18"}], "scoring": [], "scoring_seconds": 0},
        (2.0, 7e6, None, None),
    ),
    "own teachers": ({**MADE, **SCORED, "recovery": {}, "teachers": [{"name": "a"}]}, (2.0, 7e6, 32.0, 12e6)),
    "scored, then a given teacher": ({**MADE, **SCORED, "teacher": "r18"}, (32.0, 12e6, None, None)),
    "clip": ({**SCORED, "concepts": 9}, (32.0, 5e6, None, None)),
    "teacher inside the scoring run": ({**SCORED, "args": {"scoring": {"teacher": NET}}}, (32.0, 5e6, None, None)),
    "synthesised, operations not counted": ({"kind": "uint8"}, (2.0, None, 2.0, None)),
    "released": ({"method": "Released"}, (None, None, None, None)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_account(case):
    facts, wanted = case
    found = cost({**SET, **facts})
    assert (found.seconds, found.flops, found.seconds_networks, found.flops_networks) == wanted
    assert bool(found.notes) == (None in wanted and facts != {"kind": "uint8"})


def test_what_is_left_out_is_said():
    notes = cost({**SET, **MADE, "patch_set": None, "statistics": ["x"], "teacher": "r18"}).notes
    assert any("statistics" in note for note in notes) and not any("patches" in note for note in notes)
    assert any("r18" in note for note in notes)


def test_every_method_that_reads_what_others_made_is_one_without_an_account():
    classes = [getattr(import_module(entry.module), entry.name) for entry in methods()]
    assert {made.__name__ for made in classes if not made.cost_recorded} == set(UNRECORDED)

"""Overrides have what they override: names, types or null, help text; and put it in place."""

import doctest
from dataclasses import dataclass, fields, replace
from typing import Literal

import pytest

from ddlight.core import override
from ddlight.core.errors import UsageError
from ddlight.core.override import flat, replaced
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Augment, Override, Plan, Recipe
from ddlight.recipes.schedules import Schedule

PLAN = Plan(Recipe("sgd", 0.1, 64, Schedule("step", milestones=(0.5,))), Augment(), Budget(epochs=1))


def test_the_example_holds():
    assert doctest.testmod(override).failed == 0


def test_every_number_of_a_plan_can_be_replaced_and_no_other():
    parts = (Recipe, Schedule, Augment)
    names = {f.name for part in parts for f in fields(part)} - {"name"}
    assert {f.name for f in fields(Override)} == names
    assert all(f.default is None for f in fields(Override))
    assert {f.name: f.type for f in fields(Override)}["lr"] == float | Literal["set"] | None
    lines = Override.__doc__.splitlines()
    assert '    lr: peak learning rate; "set" takes the one that was learned with the set.' in lines


def test_numbers_of_an_inner_dataclass_are_replaced_there():
    changed = Override(schedule="cosine", zeta=2.0, batch=8, flip=True).apply(PLAN)
    assert changed.recipe == Recipe("sgd", 0.1, 8, Schedule("cosine", zeta=2.0, milestones=(0.5,)))
    assert changed.augment == Augment(flip=True)
    assert Override().apply(PLAN) == PLAN
    with pytest.raises(UsageError, match="zeta is -1"):
        Override(zeta=-1.0).apply(PLAN)


def test_flat_numbers_put_a_dataclass_together_again():
    other = Recipe("adam", 1.0, 2, Schedule("rex"))
    assert flat(other)["schedule"] == "rex" and flat(other)["stepped"] == "step"
    assert replaced(PLAN.recipe, flat(other)) == other


def test_a_new_number_is_written_in_one_place():
    @dataclass(frozen=True)
    class Longer(Augment):
        """What happens to an image.

        Args:
            blur: radius of a blur.
        """

        blur: float = 0.0

    @override.override(Longer)
    class Longest(override.Overriding):
        """Numbers of an augmentation."""

    assert Longest(blur=2.0).given() == {"blur": 2.0}
    assert "    blur: radius of a blur." in Longest.__doc__.splitlines()
    assert replaced(Longer(), Longest(blur=2.0).given()) == replace(Longer(), blur=2.0)

"""The training that was learned with a set."""

from dataclasses import replace

from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Augment, Plan, Setting
from ddlight.recipes.protocols.common import SGD
from ddlight.recipes.schedules import Schedule

OWN = "own"
"""Its name; batches, learning rates and number of steps are the set's."""


def own(s: Setting) -> Plan:
    """The steps that a set of DD (arXiv 1811.10959) was learned with: its batches in order, each with its own rate.

    Plain gradient descent without momentum, decay or augmentation (code). A recipe's batch and learning rate, which
    `result.json` gives as the largest of all steps, are not looked at; a longer budget repeats the steps.
    """
    recipe = replace(SGD, lr="set", batch=s.classes, momentum=0.0, weight_decay=0.0, schedule=Schedule("constant"))
    return Plan(recipe, Augment(), Budget(epochs=1))

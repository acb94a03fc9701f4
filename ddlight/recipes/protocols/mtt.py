"""Protocol of the experts of trajectory matching (arXiv 2203.11932)."""

from dataclasses import replace

from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Augment, Plan, Setting
from ddlight.recipes.protocols.common import SGD, dsa_strategy
from ddlight.recipes.schedules import Schedule


def mtt_experts(s: Setting) -> Plan:
    """The recipe that MTT trains its experts with (arXiv 2203.11932, code), on the full data.

    SGD 0.01 without momentum, decay or schedule, batch 256, DSA, 50 epochs.
    """
    recipe = replace(SGD, momentum=0.0, weight_decay=0.0, batch=256, schedule=Schedule("constant"))
    return Plan(recipe, Augment(dsa=dsa_strategy(s)), Budget(epochs=50))

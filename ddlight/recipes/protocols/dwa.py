"""Protocol of DWA (arXiv 2409.17612)."""

from dataclasses import replace

from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Plan, Setting
from ddlight.recipes.protocols.common import SGD
from ddlight.recipes.protocols.sre2l import cda
from ddlight.recipes.schedules import Schedule


def dwa(s: Setting) -> Plan:
    """DWA's evaluation (arXiv 2409.17612, code): as `cda`; at 64 pixels SGD.

    Tiny-ImageNet: SGD 0.2, momentum 0.9, decay 1e-4, batch 64, 200 epochs, cosine after 5 epochs of linear rise; KL at
    T = 1, its script's default, at which T squared is 1 too.
    Deviation: the rise begins at 0, as every schedule's here, not at a hundredth of the peak.
    """
    plan = cda(s)
    if s.size != 64:
        return plan
    schedule = Schedule(warmup=5 / 200, stepped="epoch")
    recipe = replace(SGD, lr=0.2, batch=64, weight_decay=1e-4, schedule=schedule, temperature=1.0)
    return Plan(recipe, plan.augment, Budget(epochs=200))

"""Protocols of SRe2L (arXiv 2306.13092) and of CDA (arXiv 2311.18838), which takes over SRe2L's."""

from dataclasses import replace

from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Plan, Setting
from ddlight.recipes.protocols.common import ADAMW, crop_mix


def sre2l(s: Setting) -> Plan:
    """SRe2L's evaluation (arXiv 2306.13092, code): one teacher, 300 epochs, batch 1024.

    AdamW 1e-3, decay 0.01 on matrices, cosine to 0 per epoch, KL at T = 20, RandomResizedCrop (0.08, 1), flip, CutMix.
    The code reaches 1024 by accumulating two halves: `--trainer.accumulate_grad_batches=2`.
    """
    return Plan(replace(ADAMW, batch=1024), crop_mix(s, 0.08), Budget(epochs=300))


def cda(s: Setting) -> Plan:
    """CDA's evaluation (arXiv 2311.18838, confirmed by its authors in issue 27 of VILA-Lab/SRe2L): SRe2L's, batch 128.

    Much of what CDA reports over SRe2L comes with the eight times as many steps.
    """
    plan = sre2l(s)
    return replace(plan, recipe=replace(plan.recipe, batch=128))

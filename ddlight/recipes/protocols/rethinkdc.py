"""Protocols of Rethinking-Dataset-Compression and PCA (arXiv 2502.06434)."""

from dataclasses import replace

from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Plan, Setting
from ddlight.recipes.protocols.common import ADAMW, crop_mix


def rethinkdc(s: Setting) -> Plan:
    """Soft labels of Rethinking-Dataset-Compression (arXiv 2502.06434, code).

    AdamW 1e-3, decay 0.01 on matrices, cosine to 0, batch 128, 300 epochs, KL at T = 20, RandomResizedCrop (0.08, 1),
    flip, CutMix.
    """
    return Plan(replace(ADAMW, batch=128), crop_mix(s, 0.08), Budget(epochs=300))


def rethinkdc_hard(s: Setting) -> Plan:
    """Hard labels of Rethinking-Dataset-Compression (`standard_hard_config`, code): as `rethinkdc`, without mixing."""
    plan = rethinkdc(s)
    return replace(plan, augment=replace(plan.augment, mix="none"))


def pca(s: Setting) -> Plan:
    """PCA's evaluation (arXiv 2502.06434): as `rethinkdc_hard`, each crop inside one tile of a mosaic.

    One tile and one crop per image and pass (text); the crop's scale within its tile, (0.08, 1), is a guess.
    """
    plan = rethinkdc_hard(s)
    return replace(plan, augment=replace(plan.augment, tiles=s.tile_factor))

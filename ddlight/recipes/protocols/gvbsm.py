"""Protocol of G-VBSM (arXiv 2311.17950)."""

from dataclasses import replace

from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Plan, Setting
from ddlight.recipes.protocols.common import ADAMW, crop_mix


def gvbsm(s: Setting) -> Plan:
    """G-VBSM's evaluation (arXiv 2311.17950, code): mean of four teachers' logits, scaled to one norm over the batch.

    AdamW 1e-3, decay 0.01 on matrices, cosine to 0, 300 epochs, batch 1024, MSE of logits + 0.1 CE of the unmixed label
    (0.15 at 32 pixels), RandomResizedCrop (0.08, 1), flip, CutMix. Teachers are those of ImageNet-1K; smaller sets have
    five others, trained on them.
    Deviation: images of 32 and 64 pixels have the rest of ImageNet-1K's recipe too, so that one protocol compares sets
    of all sizes; the scripts for CIFAR-10 (batch 100, 1000 epochs, no decay) and Tiny-ImageNet (SGD 0.1, decay 5e-4,
    batch 100 in two halves) differ.
    Deviation: with several ranks or micro-batches the norm is that of each part of the batch.
    """
    recipe = replace(ADAMW, batch=1024, ce_weight=0.15 if s.size <= 32 else 0.1, balance=True)
    return Plan(recipe, crop_mix(s, 0.08), Budget(epochs=300))

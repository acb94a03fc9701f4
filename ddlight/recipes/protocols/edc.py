"""Protocols of EDC (arXiv 2404.13733)."""

from dataclasses import replace

from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Plan, Setting
from ddlight.recipes.protocols.common import ADAMW, crop_mix
from ddlight.recipes.schedules import Schedule

EDC_TEACHERS = ("resnet18", "mobilenet_v2", "shufflenet_v2_x0_5", "alexnet")


def edc(s: Setting) -> Plan:
    """EDC's evaluation with the released code's four teachers (arXiv 2404.13733).

    AdamW 1e-3, decay 0.01 on matrices (1e-4 for Swin), 300 epochs, batch 100, MSE of logits + 0.025 CE of the unmixed
    label, EMA 0.99 evaluated (code and text). Slow cosine with zeta 2 (text; the code's branch order makes it
    `linear` with zeta 2). RandomResizedCrop (0.5, 1), flip, CutMix (code; its ShufflePatches is without effect).
    """
    schedule = Schedule("cosine", zeta=2.0, stepped="epoch")
    decay = 1e-4 if "swin" in s.student else 0.01
    recipe = replace(ADAMW, batch=100, schedule=schedule, ema=0.99, weight_decay=decay)
    return Plan(recipe, crop_mix(s, 0.5), Budget(epochs=300))


def edc_in10(s: Setting) -> Plan:
    """EDC's evaluation of ImageNet-10 (arXiv 2404.13733, its `direct_train.py`): as `edc`, 1000 epochs of batch 50.

    Schedule `ssrs` with zeta 2 (code; the text says slow cosine), teachers EfficientNet-B0 in place of AlexNet.
    Deviation: the code's RandAugment before the crop is left out; the paper does not name it (guess).
    """
    plan = edc(s)
    schedule = Schedule("ssrs", zeta=2.0, stepped="epoch")
    return replace(plan, recipe=replace(plan.recipe, batch=50, schedule=schedule), budget=Budget(epochs=1000))

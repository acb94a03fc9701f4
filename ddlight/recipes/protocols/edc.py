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
    32 and 64 pixels as its scripts for small images, loss and EMA as above (code). CIFAR-10: AdamW as above, batch 10,
    1000 epochs, x0.5 at 800, 900 and 950, crops (0.08, 1). CIFAR-100, here more than ten classes: SGD 0.1, momentum
    0.875, decay 5e-4 on matrices, batch 50, 1000 epochs, schedule `ssrs` with zeta 2. Tiny-ImageNet: the same SGD,
    batch 100, slow cosine, 300 epochs (ipc 1: 1000). Their five to eight teachers are trained on the dataset.
    Deviation: the RandAugment of the scripts for small images is left out; the paper does not name it.
    """
    plan = edc_large(s)
    if s.size == 32 and s.classes <= 10:
        drops = Schedule("step", milestones=(0.8, 0.9, 0.95), gamma=0.5, stepped="epoch")
        recipe = replace(plan.recipe, batch=10, schedule=drops)
        return Plan(recipe, crop_mix(s, 0.08), Budget(epochs=1000))
    if s.size not in (32, 64):
        return plan
    cifar = s.size == 32
    recipe = replace(
        plan.recipe,
        optimizer="sgd",
        lr=0.1,
        momentum=0.875,
        weight_decay=5e-4,
        batch=50 if cifar else 100,
        schedule=replace(plan.recipe.schedule, name="ssrs" if cifar else "cosine"),
    )
    return replace(plan, recipe=recipe, budget=Budget(epochs=1000 if cifar or s.ipc < 10 else 300))


def edc_large(s: Setting) -> Plan:
    """`edc` for photographs, also of fewer pixels."""
    schedule = Schedule("cosine", zeta=2.0, stepped="epoch")
    decay = 1e-4 if "swin" in s.student else 0.01
    recipe = replace(ADAMW, batch=100, schedule=schedule, ema=0.99, weight_decay=decay)
    return Plan(recipe, crop_mix(s, 0.5), Budget(epochs=300))


def edc_in10(s: Setting) -> Plan:
    """EDC's evaluation of ImageNet-10 (arXiv 2404.13733, its `direct_train.py`): as `edc` at 224 pixels, batch 50.

    1000 epochs, schedule `ssrs` with zeta 2 (code; the text says slow cosine), EfficientNet-B0 in place of AlexNet.
    Deviation: the code's RandAugment before the crop is left out; the paper does not name it (guess).
    """
    plan = edc_large(s)
    schedule = Schedule("ssrs", zeta=2.0, stepped="epoch")
    return replace(plan, recipe=replace(plan.recipe, batch=50, schedule=schedule), budget=Budget(epochs=1000))

"""Protocols of SRe2L (arXiv 2306.13092) and of CDA (arXiv 2311.18838), which takes over SRe2L's."""

from dataclasses import replace

from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Augment, Plan, Setting
from ddlight.recipes.protocols.common import ADAMW, SGD, crop_mix
from ddlight.recipes.schedules import Schedule


def sre2l(s: Setting) -> Plan:
    """SRe2L's evaluation (arXiv 2306.13092, code): one teacher, 300 epochs, batch 1024.

    AdamW 1e-3, decay 0.01 on matrices, cosine to 0 per epoch, KL at T = 20, RandomResizedCrop (0.08, 1), flip, CutMix.
    The code reaches 1024 by accumulating two halves: `--trainer.accumulate_grad_batches=2`.
    64 pixels as for Tiny-ImageNet (code: zeyuanyin/tiny-imagenet, which SRe2L's names): SGD 0.2, momentum 0.9, decay
    1e-4, batch 256, 100 epochs, cosine after 5 epochs of linear rise, KL at T = 20 times T squared, no CutMix.
    32 pixels as for CIFAR-100 (code): AdamW 1e-3, decay 0.01 on all parameters, cosine per epoch, batch 128, 400
    epochs, KL at T = 30, crops from a frame of 4 pixels, flip, mixup 0.8; that code leaves its teacher in training
    mode, so that it labels by the batch's own statistics. Other sizes as ImageNet-1K (guess).
    Deviation: the linear rise begins at 0, as every schedule's here, not at a hundredth of the peak; the frame has the
    mean colour, as DSA's, where the code's is black.
    """
    if s.size == 64:
        return tiny_imagenet(s, batch=256, epochs=100)
    return cifar(s) if s.size == 32 else Plan(replace(ADAMW, batch=1024), crop_mix(s, 0.08), Budget(epochs=300))


def cda(s: Setting) -> Plan:
    """CDA's evaluation (arXiv 2311.18838, confirmed by its authors in issue 27 of VILA-Lab/SRe2L): SRe2L's, batch 128.

    Much of what CDA reports over SRe2L comes with the eight times as many steps. At 64 pixels SRe2L's, batch 256, and
    at 32 pixels SRe2L's too (guess: CDA has no numbers for CIFAR).
    """
    plan = sre2l(s)
    return plan if s.size in (32, 64) else replace(plan, recipe=replace(plan.recipe, batch=128))


def tiny_imagenet(s: Setting, batch: int, epochs: int) -> Plan:
    """What SRe2L and DWA share at 64 pixels; without CutMix."""
    schedule = Schedule(warmup=5 / epochs, stepped="epoch")
    recipe = replace(SGD, lr=0.2, batch=batch, weight_decay=1e-4, schedule=schedule, t_squared=True)
    return Plan(recipe, replace(crop_mix(s, 0.08), mix="none"), Budget(epochs=epochs))


def cifar(s: Setting) -> Plan:
    """What SRe2L and DWA share at 32 pixels."""
    recipe = replace(ADAMW, batch=128, decay_1d=True, temperature=30.0, batch_statistics=True)
    return Plan(recipe, Augment(flip=s.flip, dsa="crop", mix="mixup", mix_alpha=0.8), Budget(epochs=400))

"""Protocol of DWA (arXiv 2409.17612)."""

from dataclasses import replace

from ddlight.recipes.plan import Plan, Setting
from ddlight.recipes.protocols.sre2l import cda, tiny_imagenet


def dwa(s: Setting) -> Plan:
    """DWA's evaluation (arXiv 2409.17612, code): as `cda`, also at 32 pixels, where its script is SRe2L's.

    64 pixels as for Tiny-ImageNet: as `sre2l`, batch 64, 200 epochs, with CutMix. KL at T = 20 times T squared, the
    script's default since its second version; the first had T = 1 (`--model.recipe.temperature=1`).
    Deviation: as `sre2l`'s.
    """
    if s.size != 64:
        return cda(s)
    plan = tiny_imagenet(s, batch=64, epochs=200)
    return replace(plan, augment=replace(plan.augment, mix="cutmix"))

"""Protocol of CCS's scoring networks (arXiv 2210.15809)."""

from dataclasses import replace

from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Augment, Plan, Setting
from ddlight.recipes.protocols.common import SGD
from ddlight.recipes.schedules import Schedule


def ccs(s: Setting) -> Plan:
    """The recipe that CCS trains its scoring networks with (arXiv 2210.15809, code), on the full data.

    SGD 0.1, momentum 0.9, batch 256, cosine to 0 per step. Below 96 pixels as for CIFAR: Nesterov, decay 5e-4, crops
    from a frame of an eighth of the side (4 of 32 pixels), flip, 200 epochs; from there on as for ImageNet: decay 1e-4,
    RandomResizedCrop (0.08, 1), flip, 60 epochs.
    Deviation: the code's cosine ends at 1e-4 of the peak's 0.1, and pads CIFAR's images by reflection; here every
    cosine ends at 0 and moved images come from a frame of zeros, as DSA's do.
    """
    large = s.size >= 96
    recipe = replace(SGD, lr=0.1, batch=256, schedule=Schedule("cosine"), nesterov=not large)
    if large:
        augment = Augment(crop_scale=(0.08, 1.0), flip=s.flip)
        return Plan(replace(recipe, weight_decay=1e-4), augment, Budget(epochs=60))
    return Plan(recipe, Augment(flip=s.flip, dsa="crop"), Budget(epochs=200))

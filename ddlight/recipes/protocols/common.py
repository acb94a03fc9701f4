"""What several protocols begin with: optimisers, crops with CutMix, DSA."""

from ddlight.recipes.plan import Augment, Recipe, Setting
from ddlight.recipes.schedules import Schedule

ADAMW = Recipe("adamw", 1e-3, 0, Schedule(stepped="epoch"), weight_decay=0.01, decay_1d=False)
SGD = Recipe("sgd", 0.01, 0, Schedule("step", stepped="epoch"))


def crop_mix(s: Setting, floor: float, patches: int = 1, jitter: float = 0.0, lighting: float = 0.0) -> Augment:
    """RandomResizedCrop of (floor, 1) of the area, flip where the dataset may be mirrored, CutMix."""
    return Augment(patches, (floor, 1.0), flip=s.flip, jitter=jitter, lighting=lighting, mix="cutmix")


def dsa_strategy(s: Setting) -> str:
    """DSA's op groups: without flips where the dataset's classes are not mirror-symmetric (DSA's MNIST and SVHN)."""
    return "color_crop_cutout_flip_scale_rotate" if s.flip else "color_crop_cutout_scale_rotate"

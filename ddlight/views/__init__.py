"""Augmentation and mixing of whole batches as pure functions: images and drawn numbers in, images out.

No function draws. Uniform numbers come as numpy arrays from `ddlight.core.randomness.generator`, for an epoch or a unit
at once, and functions such as `crop_boxes` or `cutmix_draw` turn them into parameters; the `*_UNIFORMS` constants say
how many numbers each takes. Everything works on CPU and CUDA tensors; parameters are copied without waiting.
"""

from ddlight.views.colour import JITTER_UNIFORMS, jitter, lighting
from ddlight.views.crop import CROP_UNIFORMS, crop_boxes, flip, resized_crop
from ddlight.views.mix import CUTMIX_UNIFORMS, beta_draw, cutmix, cutmix_box, cutmix_draw, kept_fraction, mixup
from ddlight.views.normalise import denormalise, normalise
from ddlight.views.patches import patch_orders, shuffle_patches

__all__ = [
    "CROP_UNIFORMS",
    "CUTMIX_UNIFORMS",
    "JITTER_UNIFORMS",
    "beta_draw",
    "crop_boxes",
    "cutmix",
    "cutmix_box",
    "cutmix_draw",
    "denormalise",
    "flip",
    "jitter",
    "kept_fraction",
    "lighting",
    "mixup",
    "normalise",
    "patch_orders",
    "resized_crop",
    "shuffle_patches",
]

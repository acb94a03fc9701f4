"""Augmentation and mixing of whole batches as pure functions: images and drawn numbers in, images out.

No function draws. Uniform numbers come as numpy arrays from `ddlight.core.randomness.generator`, for an epoch or a unit
at once, and functions such as `crop_boxes` or `cutmix_draw` turn them into parameters; the `*_UNIFORMS` constants say
how many numbers each takes. Everything works on CPU and CUDA tensors; parameters are copied without waiting.
"""

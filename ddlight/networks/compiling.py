"""Whether compiling a network pays over the length of its training."""

import logging
import os
import shutil

import torch

log = logging.getLogger("ddlight")

SAVED = {"cpu": 4e-9, "cuda": 4e-11}
"""Seconds that compiling saves for each number that layers write in a training step, in one thread.

Measured on one core of an AMD Zen 4 in float32: 4.9e-9 for ConvNet-D3 of width 32 and 4.2e-9 for width 128, 32 pixels,
batch 100. That of a GPU is the same in proportion to memory bandwidth, and was never measured.
"""
COSTS = 20.0
"""CPU seconds to compile a network's training step for the first time; from torch's cache it takes 1.5."""


def pays(activations: int, images: int, device: torch.device) -> bool:
    """Whether compiling saves more than it costs, which is said in one line; never where it cannot be done.

    Args:
        activations: numbers that the network's layers give for one image.
        images: that are trained on, each as often as it is seen.
        device: where.
    """
    if device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        log.info("compile_networks auto: not compiled, as there is no C++ compiler")
        return False
    saved = SAVED.get(device.type, 0.0) * activations * images
    decision = "compiled" if saved > COSTS else "not compiled"
    log.info("compile_networks auto: %s; it saves about %.0f s and costs up to %.0f s once", decision, saved, COSTS)
    return saved > COSTS

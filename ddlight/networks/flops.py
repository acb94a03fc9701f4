"""Whether a network takes an image, and the number of its operations, from shapes alone."""

from copy import deepcopy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ddlight.core.errors import DDLightError, UsageError
from ddlight.networks.students import Student

TRAINING = 3.0
"""FLOPs of a training step in units of the forward pass: the backward pass takes two."""


def build_checked(student: Student, num_classes: int, channels: int, size: int) -> nn.Module:
    """Build a student and try an image's shape on it; UsageError where the network cannot take such images."""
    network = student.build(num_classes, channels, size)
    try:
        forward_flops(network, channels, size)
    except DDLightError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"{student} cannot take images of {channels} x {size} x {size}: {reason}. "
            "Choose another --model.student, or larger images where the dataset has a size."
        ) from error
    return network


def forward_flops(network: nn.Module, channels: int, size: int) -> float:
    """FLOPs of one image's forward pass, of (B, channels, size, size); a multiply and an add count as two.

    Counts matrix products and convolutions (torch's FlopCounterMode), on the meta device: no data, no time.
    """
    shadow = deepcopy(network).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(torch.empty(1, channels, size, size, device="meta"))
    return float(counter.get_total_flops())

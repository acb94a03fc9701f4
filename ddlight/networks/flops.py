"""Whether a network takes an image, and how much it computes and writes, from shapes alone."""

from collections.abc import Callable
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
    with FlopCounterMode(display=False) as counter:
        _on_meta(network, channels, size)
    return float(counter.get_total_flops())


def activations(network: nn.Module, channels: int, size: int) -> int:
    """Numbers that convolutions and linear layers give for one image (channels, size, size)."""
    counts: list[int] = []
    _on_meta(network, channels, size, lambda _, inputs, output: counts.append(output.numel()))
    return sum(counts)


@torch.no_grad()
def _on_meta(network: nn.Module, channels: int, size: int, hear: Callable[..., None] | None = None) -> None:
    """Show a copy of a network without data an image, and let `hear` listen at its convolutions and linear layers."""
    shadow = deepcopy(network).to("meta").eval()
    for layer in shadow.modules() if hear else ():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(hear)  # type: ignore[arg-type]
    shadow(torch.empty(1, channels, size, size, device="meta"))

"""Floating-point operations of a network, counted on shapes alone."""

from copy import deepcopy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def forward_flops(network: nn.Module, channels: int, size: int) -> float:
    """FLOPs of one image's forward pass; a multiply and an add count as two.

    Counts matrix products and convolutions (torch's FlopCounterMode), on the meta device: no data, no time.

    Args:
        network: takes (B, channels, size, size).
        channels: of the input.
        size: side of the input, in pixels.
    """
    shadow = deepcopy(network).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(torch.empty(1, channels, size, size, device="meta"))
    return float(counter.get_total_flops())

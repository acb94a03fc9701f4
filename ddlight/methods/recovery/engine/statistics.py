"""Statistics of a network's layers that recovered images have to meet."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

Measured = tuple[Tensor, ...]
"""Statistics of one layer's input: pairs of means and variances, each a vector, or a matrix of one row a class."""


def channel_statistics(maps: Tensor) -> Measured:
    """Mean and biased variance of each channel of maps (B, C, H, W) over images and places, float32 (C,) each."""
    variance, mean = torch.var_mean(maps.float(), dim=(0, 2, 3), correction=0)
    return mean, variance


class Statistics:
    """BatchNorm's statistics (DeepInversion, arXiv 1912.08795): batch against running mean and variance, over layers.

    R = sum over layers l of w_l (|mean_l - RM_l| + v |var_l - RV_l|), norms not squared; w_1 = `first` and 1 elsewhere.
    A subclass measures other layers or aims elsewhere; one object belongs to one network.

    Args:
        network: whose layers are meant, on its device.
        first: weight of the first layer in the order of `named_modules`.
        var_weight: v.
    """

    layers: tuple[type[nn.Module], ...] = (nn.BatchNorm2d,)
    """Kinds of layers whose input is measured."""

    def __init__(self, network: nn.Module, first: float = 10.0, var_weight: float = 1.0) -> None:
        self.first, self.var_weight = first, var_weight
        self.matched = dict(enumerate(self.find(network)))

    @classmethod
    def find(cls, network: nn.Module) -> list[nn.Module]:
        """The layers that are measured, in the order of `named_modules`."""
        return [module for module in network.modules() if isinstance(module, cls.layers)]

    def measure(self, layer: int, maps: Tensor) -> Measured:
        """Statistics of what enters layer number `layer`."""
        return channel_statistics(maps)

    def target(self, layer: int) -> Measured:
        """What they are to be, in the same order."""
        module = self.matched[layer]
        assert isinstance(module.running_mean, Tensor) and isinstance(module.running_var, Tensor)
        return module.running_mean, module.running_var

    def loss(self, measured: Mapping[int, Measured]) -> Tensor:
        """R of what was measured, by layer number; 0 where nothing was."""
        total = torch.zeros(())
        for layer, found in measured.items():
            distance = self.layer_loss(layer, found)
            total = total.to(distance.device) + (self.first if layer == 0 else 1.0) * distance
        return total

    def layer_loss(self, layer: int, found: Measured) -> Tensor:
        """What one layer adds, before its weight."""
        return self.distance(found, self.target(layer))

    def distance(self, found: Measured, target: Measured) -> Tensor:
        """|mean - RM| + v |var - RV| over pairs of means and variances; of matrices, summed over their rows."""
        norms = [torch.linalg.vector_norm(a - b, dim=-1).sum() for a, b in zip(found, target, strict=True)]
        total = norms[0] + self.var_weight * norms[1]
        for mean, variance in zip(norms[2::2], norms[3::2], strict=True):
            total = total + (mean + self.var_weight * variance)
        return total

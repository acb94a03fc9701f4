"""Statistics of a network's layers that recovered images have to meet: BatchNorm's, and those of G-VBSM and EDC.

Convolutions remember nothing of the real images: what their inputs are to look like comes from `RealStatistics`.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

LayerStatistics = tuple[Tensor, ...]
"""Statistics of one layer's input: pairs of means and variances, each a vector, or a matrix of one row per class."""


def channel_statistics(maps: Tensor) -> LayerStatistics:
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

    layers: ClassVar[tuple[type[nn.Module], ...]] = (nn.BatchNorm2d,)
    """Kinds of layers whose input is measured."""
    what: ClassVar[str] = "the running statistics of BatchNorm layers"
    """What is matched, for the error of a network that has none of these layers."""
    needs: ClassVar[str] = "BatchNorm, such as a ResNet or a ConvNet with norm: batch"
    """Networks that have them, for the same error."""

    def __init__(self, network: nn.Module, first: float = 10.0, var_weight: float = 1.0) -> None:
        self.first, self.var_weight = first, var_weight
        self.matched = dict(enumerate(self.find(network)))
        self.running: dict[int, LayerStatistics] = {}  # averages over iterations, where a subclass keeps them

    @classmethod
    def find(cls, network: nn.Module) -> list[nn.Module]:
        """The layers that are measured, in the order of `named_modules`."""
        return [module for module in network.modules() if isinstance(module, cls.layers)]

    def measure(self, layer: int, maps: Tensor) -> LayerStatistics:
        """Statistics of what enters layer number `layer`."""
        return channel_statistics(maps)

    def target(self, layer: int) -> LayerStatistics:
        """What they are to be, in the same order."""
        module = self.matched[layer]
        assert isinstance(module.running_mean, Tensor) and isinstance(module.running_var, Tensor)
        return module.running_mean, module.running_var

    def loss(self, measured: Mapping[int, LayerStatistics]) -> Tensor:
        """R of what was measured, by layer number; 0 where nothing was."""
        total = torch.zeros(())
        for layer, statistics in measured.items():
            distance = self.layer_loss(layer, statistics)
            total = total.to(distance.device) + (self.first if layer == 0 else 1.0) * distance
        return total

    def layer_loss(self, layer: int, statistics: LayerStatistics) -> Tensor:
        """What one layer adds, before its weight."""
        return self.distance(statistics, self.target(layer))

    def distance(self, statistics: LayerStatistics, target: LayerStatistics) -> Tensor:
        """|mean - RM| + v |var - RV| over pairs of means and variances; of matrices, summed over their rows."""
        norms = [torch.linalg.vector_norm(a - b, dim=-1).sum() for a, b in zip(statistics, target, strict=True)]
        total = norms[0] + self.var_weight * norms[1]
        for mean, variance in zip(norms[2::2], norms[3::2], strict=True):
            total = total + (mean + self.var_weight * variance)
        return total


def patches(maps: Tensor, side: int) -> Tensor:
    """Cut maps (B, C, H, W) into patches of side x side: float32 (B, C, rows, side, columns, side).

    Maps whose height or width is no multiple of `side` are first resized to the next one, bilinearly.
    """
    height, width = (side * ceil(n / side) for n in maps.shape[2:])
    maps = maps.float()
    if maps.shape[2:] != (height, width):
        maps = F.interpolate(maps, (height, width), mode="bilinear")
    return maps.unflatten(3, (-1, side)).unflatten(2, (-1, side))


def patch_statistics(maps: Tensor, side: int) -> LayerStatistics:
    """Mean and biased variance of each patch's place over images, channels and pixels, row by row: float32 (P,)."""
    variance, mean = torch.var_mean(patches(maps, side), dim=(0, 1, 3, 5), correction=0)
    return mean.flatten(), variance.flatten()


class LayerInputs(Statistics):
    """Inputs of every BatchNorm layer and every convolution; of the latter, patches as well.

    The first layer in the order of `named_modules`, which has a weight of its own, is a convolution in most networks:
    its input are the images.

    Args:
        network: whose layers are meant, on its device.
        first: weight of the first layer.
        var_weight: of variances beside means.
        patch: side of a patch in pixels of a layer's maps.
    """

    layers = (nn.BatchNorm2d, nn.Conv2d)
    what = "inputs of BatchNorm layers and convolutions"
    needs = "convolutions, such as a ResNet"

    def __init__(self, network: nn.Module, first: float = 10.0, var_weight: float = 1.0, patch: int = 16) -> None:
        super().__init__(network, first, var_weight)
        self.patch = patch

    def by_patches(self, layer: int) -> bool:
        """Whether patches of a layer's input are measured."""
        return isinstance(self.matched[layer], nn.Conv2d)

    def measure(self, layer: int, maps: Tensor) -> LayerStatistics:
        """Mean and variance of channels, and for a convolution those of patches."""
        channels = channel_statistics(maps)
        return (*channels, *patch_statistics(maps, self.patch)) if self.by_patches(layer) else channels


class EachImage(LayerInputs):
    """The same for each image by itself: matrices of one row per image. Nothing is aimed at."""

    def measure(self, layer: int, maps: Tensor) -> LayerStatistics:
        """Mean and variance of channels (B, C), and for a convolution those of patches (B, P)."""
        variance, mean = torch.var_mean(maps.float(), dim=(2, 3), correction=0)
        if not self.by_patches(layer):
            return mean, variance
        patch_variance, patch_mean = torch.var_mean(patches(maps, self.patch), dim=(1, 3, 5), correction=0)
        return mean, variance, patch_mean.flatten(1), patch_variance.flatten(1)


class SmoothedStatistics(LayerInputs):
    """Generalised statistical matching (G-VBSM, arXiv 2311.17950): inputs of BatchNorm and convolutions, averaged.

    Instead of the statistics s of the images at hand, s' + s - stop(s) counts, with s' <- m s' + (1 - m) s a running
    mean over the iterations that this network was asked: its value, and the gradient of the images at hand. As in the
    code, s' begins at 0.

    Args:
        real: what the real images give, by layer number; BatchNorm layers are not asked for.
        momentum: m.
        drop_rate: probability that a convolution is left out at an iteration.
        rng: draws which.
    """

    def __init__(
        self,
        *args: Any,
        real: Mapping[int, LayerStatistics],
        momentum: float,
        drop_rate: float = 0.0,
        rng: np.random.Generator | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.real, self.momentum, self.drop_rate = real, momentum, drop_rate
        self.rng = rng or np.random.default_rng(0)

    def target(self, layer: int) -> LayerStatistics:
        """Running statistics of a BatchNorm layer, or what the real images gave a convolution."""
        return self.real[layer] if self.by_patches(layer) else super().target(layer)

    def loss(self, measured: Mapping[int, LayerStatistics]) -> Tensor:
        """R of the averages, which this moves on: to be called once an iteration."""
        return super().loss({layer: self.smoothed(layer, s) for layer, s in measured.items() if self.drawn(layer)})

    def drawn(self, layer: int) -> bool:
        """Whether a layer counts at this iteration."""
        return not self.drop_rate or not self.by_patches(layer) or bool(self.rng.random() >= self.drop_rate)

    def smoothed(self, layer: int, statistics: LayerStatistics) -> LayerStatistics:
        """The running means with these statistics in them, and the gradient of the latter."""
        before, m = self.running.get(layer, tuple(torch.zeros_like(s) for s in statistics)), self.momentum
        now = tuple(m * old + (1 - m) * s.detach() for old, s in zip(before, statistics, strict=True))
        self.running[layer] = now
        return tuple(mean + (s - s.detach()) for mean, s in zip(now, statistics, strict=True))


class CategoryStatistics(SmoothedStatistics):
    """EDC's soft category-aware matching (arXiv 2404.13733): also against what the images' own classes look like.

    (1 - a) R(all real images) + a R(real images of these classes).

    Args:
        labels: int64 (B,) of the images that will come, on the network's device.
        categories: statistics of the real images of each class among the labels, ascending, one row per class.
        share: a.
        each: match the images of each class by themselves and add up, instead of all of them against the mean of
            their classes' statistics.
    """

    def __init__(
        self, *args: Any, labels: Tensor, categories: Mapping[int, LayerStatistics], share: float, each: bool, **kw: Any
    ) -> None:
        super().__init__(*args, **kw)
        self.share, self.each = share, each
        self._members = [torch.nonzero(labels == c)[:, 0] for c in labels.unique()]
        weights = torch.tensor([len(rows) / len(labels) for rows in self._members], device=labels.device)
        self.categories = {k: s if each else tuple(weights @ rows for rows in s) for k, s in categories.items()}

    def measure(self, layer: int, maps: Tensor) -> LayerStatistics:
        """Statistics of all images; where classes are matched by themselves, after these those of each class."""
        whole = super().measure(layer, maps)
        if not self.each:
            return whole
        parts = [super(CategoryStatistics, self).measure(layer, maps[rows]) for rows in self._members]
        return (*whole, *map(torch.stack, zip(*parts, strict=True)))

    def layer_loss(self, layer: int, statistics: LayerStatistics) -> Tensor:
        """Distances to all real images and to those of the classes."""
        half = len(self.categories[layer])
        whole = self.distance(statistics[:half], self.target(layer))
        return (1 - self.share) * whole + self.share * self.distance(statistics[-half:], self.categories[layer])


def packed(statistics: Sequence[Statistics]) -> dict[str, Tensor]:
    """Running means of several networks by name, as `unpack` takes them."""
    return {
        f"{number}.{layer}.{place}": mean
        for number, one in enumerate(statistics)
        for layer, means in one.running.items()
        for place, mean in enumerate(means)
    }


def unpack(tensors: Mapping[str, Tensor], statistics: Sequence[Statistics], device: torch.device) -> None:
    """Give several networks the running means that `packed` took from networks alike."""
    names = sorted(tuple(map(int, name.split("."))) for name in tensors)
    for number, layer, place in names:
        running = statistics[number].running
        running[layer] = (*running.get(layer, ())[:place], tensors[f"{number}.{layer}.{place}"].to(device))

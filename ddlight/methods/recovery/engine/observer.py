"""Networks that look at recovered images."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn

from ddlight.methods.images import NormalisedSpace
from ddlight.methods.recovery.engine.options import Precision
from ddlight.methods.recovery.engine.statistics import LayerStatistics, Statistics
from ddlight.networks.teachers import Teacher


class Observer:
    """A private, frozen copy of a teacher whose layers are measured while it answers.

    A copy, so that hooks and changed weights of one unit reach no other. Views come in the images' space and at the
    network's size (see `size_of`); the teacher's own normalisation and number of channels are taken care of.

    Args:
        teacher: loaded.
        space: of the views.
        device: where it works.
        statistics: from the copied network to what is measured of it.
        precision: of the network's passes.
    """

    def __init__(
        self,
        teacher: Teacher,
        space: NormalisedSpace,
        device: torch.device,
        statistics: Callable[[nn.Module], Statistics] = Statistics,
        precision: Precision = "fp32",
    ) -> None:
        self.network = deepcopy(teacher.network).to(device).eval().requires_grad_(False)
        if device.type == "cuda":
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.statistics, self.precision, self.size = statistics(self.network), precision, teacher.input.size
        own = NormalisedSpace(teacher.input.mean, teacher.input.std)
        (mean, std), (own_mean, own_std) = space.statistics(device), own.statistics(device)
        self._affine = None if own == space else (std / own_std, (mean - own_mean) / own_std)
        self._measured: dict[int, LayerStatistics] = {}
        self._measures = True
        for layer, module in self.statistics.matched.items():
            module.register_forward_pre_hook(partial(self._measure, layer))

    def _measure(self, layer: int, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if self._measures:
            self._measured[layer] = self.statistics.measure(layer, inputs[0])

    def size_of(self, side: int, whole: int) -> int:
        """Side of the view of images of `side` pixels, where `whole` pixels are shown at the network's size."""
        return round(side * self.size / whole)

    def __call__(self, views: Tensor, measure: bool = True) -> tuple[Tensor, dict[int, LayerStatistics]]:
        """Logits float32 (B, classes) of normalised views (B, C, size, size), and what was measured, by layer."""
        self._measured, self._measures = {}, measure
        inputs = views if self._affine is None else views * self._affine[0] + self._affine[1]
        with torch.autocast(views.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits = self.network(inputs)
        return logits.float(), dict(sorted(self._measured.items()))

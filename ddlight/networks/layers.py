"""What every network has: normalisation layers by name, a head (last linear layer), and the features before it."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from ddlight.core.errors import UsageError


def norm_layer(norm: str, channels: int) -> nn.Module:
    """Return the normalisation layer called `norm` for maps of `channels` channels.

    "instance" is a GroupNorm with one channel per group: affine, without running statistics, the same in training and
    evaluation, as in the code of DC (arXiv 2006.05929) and IDC (arXiv 2205.14959). "none" is the identity.
    """
    if norm == "none":
        return nn.Identity()
    return nn.GroupNorm(channels, channels) if norm == "instance" else nn.BatchNorm2d(channels)


def channels_together(network: nn.Module) -> None:
    """Lay a network out so that the channels of a pixel lie together: faster in bf16, but for GroupNorm's kernels."""
    if not any(isinstance(module, nn.GroupNorm) for module in network.modules()):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


CACHED = 2**19
"""Numbers that are pooled at once on a CPU: 2 MB of float32, which stay in its cache over the additions."""


class HalvingPool(nn.AvgPool2d):
    """Average pooling of 2x2 pixels; of odd sides the last pixel is left out.

    On a CPU by additions of every other pixel, with the bits of torch's own kernels: 1.1 to 2.9 times as fast there in
    either direction. Compiled networks take a mean, which is fused with what stands around it.
    """

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, images: Tensor) -> Tensor:
        """Return maps (B, C, H // 2, W // 2) of (B, C, H, W)."""
        if not torch.compiler.is_compiling():
            even = images.ndim == 4 and not images.shape[2] % 2 and not images.shape[3] % 2
            plain = images.device.type == "cpu" and images.dtype == torch.float32 and images.is_contiguous()
            return _Halved.apply(images) if even and plain else super().forward(images)  # type: ignore[no-any-return]
        height, width = (side // 2 for side in images.shape[2:])
        pairs = images[:, :, : 2 * height, : 2 * width].reshape(*images.shape[:2], height, 2, width, 2)
        return pairs.mean(dim=(3, 5))


class _Halved(torch.autograd.Function):
    """Means of 2x2 pixels, added up in the order in which torch's average pooling does, and so to its bits."""

    @staticmethod
    def forward(images: Tensor) -> Tensor:
        batch, channels, height, width = images.shape
        out = images.new_empty(batch, channels, height // 2, width // 2)
        count = max(1, CACHED // (channels * height * width))
        for part, target in zip(images.split(count), out.split(count), strict=True):
            upper, lower = part[:, :, ::2], part[:, :, 1::2]
            torch.add(upper[..., ::2], upper[..., 1::2], out=target)
            target.add_(lower[..., ::2]).add_(lower[..., 1::2]).mul_(0.25)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Nothing is kept for the backward pass."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return _Spread.apply(gradient.contiguous())  # type: ignore[no-any-return]

    @staticmethod
    def vmap(info: Any, dims: tuple[int], images: Tensor) -> tuple[Tensor, int]:
        return _over_all(_Halved, images.movedim(dims[0], 0)), 0


class _Spread(torch.autograd.Function):
    """A quarter of each number to each of 2x2 pixels: what `_Halved` does to gradients, and the other way round."""

    @staticmethod
    def forward(values: Tensor) -> Tensor:
        batch, channels, height, width = values.shape
        out = values.new_empty(batch, channels, 2 * height, 2 * width)
        count = max(1, CACHED // (4 * channels * height * width))
        for part, target in zip(values.split(count), out.split(count), strict=True):
            quarter = part * 0.25
            for row, column in product((0, 1), repeat=2):
                target[:, :, row::2, column::2] = quarter
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Nothing is kept for the backward pass."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return _Halved.apply(gradient.contiguous())  # type: ignore[no-any-return]

    @staticmethod
    def vmap(info: Any, dims: tuple[int], values: Tensor) -> tuple[Tensor, int]:
        return _over_all(_Spread, values.movedim(dims[0], 0)), 0


def _over_all(pooling: type[torch.autograd.Function], stacked: Tensor) -> Tensor:
    """Pool a stack of batches as one batch."""
    return pooling.apply(stacked.flatten(0, 1).contiguous()).unflatten(0, stacked.shape[:2])  # type: ignore[no-any-return]


def heads(network: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """Return the layers that give the logits, by their names in `network`.

    A network has one, except for the distilled transformers of timm, which average two. timm's networks name theirs;
    of any other network it is the last linear layer or convolution in order of registration, as in torchvision.
    UsageError where there is none.
    """
    layers = {k: m for k, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    classifier = getattr(network, "get_classifier", None)
    named = classifier() if callable(classifier) else None
    wanted = named if isinstance(named, tuple) else (named or next(reversed(layers.values()), None),)
    last = {k: m for k, m in layers.items() if any(m is w for w in wanted)}
    if not last:
        raise UsageError(f"{type(network).__name__} does not end in a linear layer, so it gives no logits.")
    return last


def count_classes(network: nn.Module) -> int:
    """Return how many logits `network` gives."""
    return next(iter(heads(network).values())).weight.shape[0]


def keep_classes(network: nn.Module, classes: Sequence[int]) -> None:
    """Keep only the rows `classes` of the head, in that order: afterwards `network` gives len(classes) logits.

    This is how RDED (arXiv 2312.03526) turns an ImageNet-1K network into a teacher for a subset of its classes.
    """
    rows = torch.as_tensor(list(classes))
    for layer in heads(network).values():
        layer.weight = nn.Parameter(layer.weight.detach()[rows].clone())
        if layer.bias is not None:
            layer.bias = nn.Parameter(layer.bias.detach()[rows].clone())
        setattr(layer, "out_features" if isinstance(layer, nn.Linear) else "out_channels", len(rows))


def replace_head(network: nn.Module, num_classes: int) -> None:
    """Give `network` a new, randomly initialised head of `num_classes` logits under the old name."""
    for name, old in heads(network).items():
        parent = network.get_submodule(name.rpartition(".")[0])
        biased = old.bias is not None
        new = (
            nn.Linear(old.in_features, num_classes, biased)
            if isinstance(old, nn.Linear)
            else nn.Conv2d(old.in_channels, num_classes, 1, bias=biased)
        )
        setattr(parent, name.rpartition(".")[2], new)


def embed_with_logits(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return what enters the head (B, D), which is caught there, and the logits (B, num_classes); differentiable."""
    caught: list[Tensor] = []
    layer = next(iter(heads(network).values()))
    hook = layer.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        logits = network(images)
    finally:
        hook.remove()
    return caught[0].flatten(1), logits

"""Classifiers of torchvision by name: built or fetched, with the nearest names where there is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchvision import models

from ddlight.core.errors import DataError, UsageError, nearest
from ddlight.networks.layers import count_classes, replace_head

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


def _weights_of(name: str) -> Any:
    known = models.list_models(module=models)
    if name not in known:
        raise UsageError(
            f"torchvision has no classifier {name!r}.{nearest(name, known)} "
            "All names: python -c 'import torchvision.models as m; print(*m.list_models(module=m))'"
        )
    return models.get_model_weights(name)


def torchvision_weights(name: str, weights: str) -> WeightsEnum:
    """Return torchvision's entry (address, transforms, class names) of a network's weights, or raise UsageError."""
    known = _weights_of(name).__members__
    if weights not in known:
        raise UsageError(
            f"torchvision has no weights {weights!r} for {name}: it has {', '.join(known)}.{nearest(weights, known)}"
        )
    entry: WeightsEnum = known[weights]
    return entry


def torchvision_network(name: str, num_classes: int, size: int) -> nn.Module:
    """Return torchvision's network `name` with random weights, without auxiliary heads, for images of `size` pixels.

    Raises UsageError for an unknown name, or images that the network cannot take.
    """
    smallest = next(iter(_weights_of(name))).meta["min_size"][0]
    options: dict[str, object] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        options, smallest = {"image_size": size}, 1
    elif name.startswith("maxvit_"):
        options, smallest = {"input_size": (size, size)}, 1
    if size < smallest:
        raise UsageError(
            f"{name} needs images of {smallest} pixels or more; these have {size}. Choose another student."
        )
    try:
        return models.get_model(name, weights=None, num_classes=num_classes, **options)
    except (AssertionError, ValueError, RuntimeError) as error:
        raise UsageError(f"torchvision cannot build {name} for images of {size} pixels: {error}") from error


def cached_file(name: str, weights: str) -> Path:
    """Where torch's cache keeps the released file of some weights. Raises UsageError for unknown names."""
    return Path(torch.hub.get_dir()) / "checkpoints" / torchvision_weights(name, weights).url.rsplit("/", 1)[-1]


def fetch_torchvision(name: str, weights: str) -> nn.Module:
    """Return torchvision's trained network, without auxiliary heads; DataError where it cannot be downloaded."""
    entry = torchvision_weights(name, weights)
    options = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    try:
        return models.get_model(name, weights=entry, **options)
    except (OSError, RuntimeError, EOFError) as error:
        cached = cached_file(name, weights)
        raise DataError(
            f"The weights {weights} of torchvision's {name} could not be had: tried {cached}, then {entry.url} "
            f"({error}). On a machine with network type\n  curl -L --create-dirs -o {cached} {entry.url}\n"
            f"and copy the file to that path here, or name its place with `file:`."
        ) from error


def released(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of one of torchvision's released files with the names of `torchvision_network`.

    DenseNet's files still call `norm.1` what the network calls `norm1`; GoogLeNet's and Inception's hold auxiliary
    heads, which are dropped. Other names stay.
    """
    if name in ("googlenet", "inception_v3"):
        return {k: v for k, v in state.items() if not k.startswith(("aux1.", "aux2.", "AuxLogits."))}
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", k): v for k, v in state.items()}


def torchvision_finetuning(name: str, weights: str, num_classes: int, size: int) -> nn.Module:
    """Return torchvision's trained network `name` as a start for `num_classes` classes.

    The head is new unless the number of classes is that of the weights. GoogLeNet and Inception do not renormalise
    their input, as the networks with random weights do not. UsageError for unknown names, or a transformer whose
    weights are for another size of image; DataError where the weights cannot be downloaded.
    """
    network = fetch_torchvision(name, weights)
    trained = getattr(network, "image_size", size)
    if trained != size:
        raise UsageError(
            f"{name} with {weights} takes images of {trained} pixels; these have {size}. Choose Timm instead."
        )
    if hasattr(network, "transform_input"):
        network.transform_input = False  # type: ignore[assignment]
    if count_classes(network) != num_classes:
        replace_head(network, num_classes)
    return network

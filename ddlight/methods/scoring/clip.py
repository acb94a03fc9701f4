"""CLIP: image and text embeddings in one space, through open_clip, which is imported only when a network is built."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.constants import HF_HUB_CACHE
from torch import Tensor, nn
from torch.nn import functional as F

from ddlight.core.errors import DataError, UsageError, nearest
from ddlight.core.files import sha256
from ddlight.core.randomness import torch_seeded
from ddlight.networks.device import current_device
from ddlight.networks.teachers import Input, resized
from ddlight.views.normalise import normalise

TINY: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
"""Sizes of the model called "tiny"; the vocabulary is that of open_clip's own tokenizer."""
RANDOM = "random"
"""What stands for weights where there are none. A word: the parser makes a null within an option the text "None"."""
TEXTS_AT_ONCE = 256


@dataclass(frozen=True)
class Clip:
    """Which CLIP model gives image and text embeddings, of those that open_clip knows (pip install 'ddlight[clip]').

    Args:
        model: name as in open_clip.list_models(), such as ViT-B-32. "tiny" is a network of one small layer a tower,
            which has no trained weights: for `--tiny` and tests.
        pretrained: weights, by their tag as in open_clip.list_pretrained() or by their file; "random" takes none.
            QuickGELU is used where the tag's weights were trained with it (openai's were); with a file, say so in
            the model's name (ViT-B-32-quickgelu), and openai's mean and std are taken.
        seed: of random weights; without effect on others.
    """

    model: str = "ViT-B-32"
    pretrained: str = "openai"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse null, which files let through for any option. Raises UsageError."""
        for name in ("model", "pretrained", "seed"):
            if getattr(self, name) is None:
                raise UsageError(
                    f"clip.{name} is null. Give a value, or leave it out; pretrained: {RANDOM} is no weights."
                )

    def fingerprint(self) -> str:
        """What names the weights, found without loading them: model and tag, file content or seed."""
        if self.pretrained == RANDOM:
            return f"{self.model}/{RANDOM}{self.seed}"
        file = Path(self.pretrained).expanduser()
        return f"{self.model}/{sha256(file) if file.is_file() else self.pretrained}"

    def load(self) -> "LoadedClip":
        """Build the network and load its weights; torch's generator is left as it was.

        Raises:
            UsageError: open_clip is not installed, or has no such model or weights.
            DataError: the weights are neither in the cache nor to be downloaded, or the file does not fit.
        """
        open_clip = _open_clip()
        self._check(open_clip)
        with torch_seeded(self.seed):
            network = open_clip.CLIP(**TINY) if self.model == "tiny" else self._network(open_clip)
        tokenizer = open_clip.SimpleTokenizer() if self.model == "tiny" else open_clip.get_tokenizer(self.model)
        view = open_clip.transform.PreprocessCfg(**open_clip.get_model_preprocess_cfg(network))
        interpolation = "bilinear" if view.interpolation == "bilinear" else "bicubic"
        taken = Input(tuple(view.mean), tuple(view.std), view.input_size[-1], interpolation)
        return LoadedClip(network.eval().requires_grad_(False), taken, tokenizer)

    def _check(self, open_clip: Any) -> None:
        """Raise UsageError unless open_clip has the model and, where no file is named, the weights."""
        models = open_clip.list_models()
        if self.model == "tiny" and self.pretrained == RANDOM:
            return
        if self.model == "tiny":
            raise UsageError(
                f"The CLIP model tiny has no trained weights, and {self.pretrained!r} was asked for. "
                "Type --data.clip.pretrained=random, or take another --data.clip.model."
            )
        if self.model not in models:
            raise UsageError(
                f"open_clip has no model {self.model!r}.{nearest(self.model, models)} "
                "All names: python -c 'import open_clip; print(*open_clip.list_models())'"
            )
        tags = open_clip.list_pretrained_tags_by_model(self.model)
        if self.pretrained in (RANDOM, *tags) or Path(self.pretrained).expanduser().is_file():
            return
        raise UsageError(
            f"open_clip's {self.model} has no weights {self.pretrained!r}, and there is no such file."
            f"{nearest(self.pretrained, tags)} It has: {', '.join((*tags, RANDOM))}."
        )

    def _network(self, open_clip: Any) -> nn.Module:
        if self.pretrained == RANDOM:
            untrained: nn.Module = open_clip.create_model(self.model)
            return untrained
        tag = open_clip.get_pretrained_cfg(self.model, self.pretrained)
        weights = self.pretrained if tag else str(Path(self.pretrained).expanduser())
        try:
            network: nn.Module = open_clip.create_model(
                self.model, pretrained=weights, force_quick_gelu=bool(tag.get("quick_gelu"))
            )
        except (RuntimeError, OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0][:300]
            if not tag:
                raise DataError(f"{self.pretrained} does not fit open_clip's {self.model}: {reason}") from error
            raise DataError(self._missing(tag, reason)) from error
        return network

    def _missing(self, tag: Mapping[str, Any], reason: str) -> str:
        name = f"{self.model}{'-quickgelu' * (bool(tag.get('quick_gelu')) and 'quickgelu' not in self.model)}"
        repository = tag.get("hf_hub", "").strip("/")
        get = f"from {tag.get('url')}"
        if repository:
            get = f"with\n  hf download {repository}\nand copy the Hub's cache folder to {HF_HUB_CACHE} here"
        return (
            f"The weights {self.pretrained} of open_clip's {self.model} could not be had: {reason}\n"
            f"On a machine with network get them {get}; or name a file: --data.clip.model={name} "
            "--data.clip.pretrained=FILE"
        )


class LoadedClip:
    """A CLIP network at work, on the GPU where there is one.

    Args:
        network: open_clip's model, frozen, in evaluation mode.
        taken: the images that it takes.
        tokenizer: from texts to token ids.
    """

    def __init__(self, network: nn.Module, taken: Input, tokenizer: Any) -> None:
        self.device = current_device()
        self.network: Any = network.to(self.device)
        self.taken, self.tokenizer = taken, tokenizer

    @torch.no_grad()
    def images(self, pixels: np.ndarray) -> np.ndarray:
        """Embed images: float32 (n, D), of length 1.

        Grey images are repeated to three channels; others than the network's size are resized as open_clip does
        (bicubic, antialiased); then its own mean and std.

        Args:
            pixels: uint8 (n, 1 or 3, H, W), square.
        """
        plain = torch.tensor(pixels, device=self.device).float() / 255
        seen = resized(plain.expand(-1, 3, -1, -1), self.taken)
        return _unit(self.network.encode_image(normalise(seen, self.taken.mean, self.taken.std)))

    @torch.no_grad()
    def texts(self, texts: list[str]) -> np.ndarray:
        """Embed texts: float32 (K, D), of length 1.

        Args:
            texts: what they say; more tokens than the network takes are cut off.
        """
        parts = [texts[start : start + TEXTS_AT_ONCE] for start in range(0, len(texts), TEXTS_AT_ONCE)]
        return np.concatenate([_unit(self.network.encode_text(self.tokenizer(p).to(self.device))) for p in parts])

    @cached_property
    def flops(self) -> float:
        """Operations of one image's embedding."""
        from ddlight.networks.flops import forward_flops

        return forward_flops(self.network.visual, 3, self.taken.size)


def _unit(vectors: Tensor) -> np.ndarray:
    return np.asarray(F.normalize(vectors.float(), dim=1).cpu().numpy())


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise UsageError(f"CLIP embeddings need open_clip ({error}). Type: pip install 'ddlight[clip]'") from error
    return open_clip

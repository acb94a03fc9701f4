"""What every generator is: images to latents and back, and noise that is seen in latents under a condition."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ddlight.data.base import RealDataset
from ddlight.methods.generative.engine.schedule import Predict


class Denoiser(ABC):
    """A conditional diffusion that is loaded: what methods sample from, guide and tune.

    Attributes:
        network: the network that sees the noise.
        shape: of one image's latents, (C, h, w).
        size: side in pixels of the images that it takes and gives.
        channels: of these images.
        betas: float64 (T,).
        guided_channels: channels of the latents that guidance changes.
    """

    network: nn.Module
    shape: tuple[int, int, int]
    size: int
    channels: int = 3
    betas: np.ndarray
    guided_channels: int

    @abstractmethod
    def condition(self, labels: Sequence[int], prompts: Sequence[str] | None = None) -> Tensor:
        """What the network is told of some images, a row each: of their classes, or of texts where it takes them.

        Args:
            labels: positions in the dataset's classes.
            prompts: a text each; None takes the classes' names. Networks that know classes alone leave them aside.
        """

    @abstractmethod
    def null(self, condition: Tensor) -> Tensor:
        """What it is told where it is to forget the condition, like `condition`."""

    @abstractmethod
    def __call__(self, x: Tensor, t: Tensor, condition: Tensor) -> tuple[Tensor, Tensor | None]:
        """Noise in latents (B, C, h, w) at levels int64 (B,), and the variance's v where the network has learned it."""

    @abstractmethod
    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the latents of images in [-1, 1], (B, channels, size, size): (B, C, h, w) each."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, channels, size, size) of latents, about in [-1, 1]."""

    def tuned_parts(self) -> tuple[Sequence[nn.Module], dict[str, int], nn.Embedding] | None:
        """What DiffFit tunes: blocks, their scaled layers with numbers of scales, the table of classes; None: no DiT.

        A residual branch is scaled where its last layer is, so that this one has a scale more.
        """
        return None

    def guided(self, condition: Tensor, scale: float, channels: int | None = None) -> Predict:
        """The network under a condition, with classifier-free guidance.

        eps = eps_null + scale (eps_cond - eps_null) in the first `channels` of the latents; in the others, and in the
        variance, the conditional half stands as it is.

        Args:
            condition: of the images, a row each.
            scale: of the guidance; 1 asks the network once.
            channels: that are guided; None takes `guided_channels`. DiT's own sampler has 3 of 4, diffusers' all.
        """
        count = self.guided_channels if channels is None else channels
        null = self.null(condition) if scale != 1 else None

        def predict(x: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
            levels = torch.full((len(x),), t, device=x.device)
            if null is None:
                return self(x, levels, condition)
            eps, v = self(torch.cat([x, x]), torch.cat([levels, levels]), torch.cat([condition, null]))
            eps, without = eps.chunk(2)
            moved = without[:, :count] + scale * (eps - without)[:, :count]
            return torch.cat([moved, eps[:, count:]], 1), None if v is None else v[: len(x)]

        return predict


class Backbone(ABC):
    """Describes a generator without loading it; one of your own is a frozen dataclass on this class."""

    @abstractmethod
    def load(self, dataset: RealDataset, cache: Path) -> Denoiser:
        """Load it for a dataset's classes, on `current_device`.

        Args:
            dataset: whose classes are asked for.
            cache: folder of condensed sets.

        Raises:
            DataError: weights that are missing or do not fit.
            UsageError: a package is missing, or it knows no such classes.
        """

    @abstractmethod
    def facts(self, dataset: RealDataset, cache: Path) -> dict[str, Any]:
        """What the manifest of a set says of it, the cost of its training among that where it is known."""

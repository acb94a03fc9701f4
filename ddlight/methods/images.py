"""What methods share that move images by gradients: the space in which they lie, and passes that repeat exactly."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class NormalisedSpace:
    """Images normalised by mean and std per channel, as they are while an optimiser moves them.

    >>> space = NormalisedSpace((0.5,), (0.25,))
    >>> space.enter(np.full((1, 1, 1, 1), 255, np.uint8), torch.device("cpu")).item()
    2.0
    >>> space.leave(torch.full((1, 1, 1, 1), -3.0)).item()
    0

    Args:
        mean: per channel, of images in [0, 1].
        std: per channel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and std, (1, C, 1, 1) each."""
        mean, std = torch.tensor([self.mean, self.std], device=device).reshape(2, 1, -1, 1, 1)
        return mean, std

    def bounds(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Normalised values of black and white, (1, C, 1, 1) each."""
        mean, std = self.statistics(device)
        return -mean / std, (1 - mean) / std

    def enter(self, images: np.ndarray, device: torch.device) -> Tensor:
        """uint8 images as normalised float32 ones; float32 images are normalised already."""
        mean, std = self.statistics(device)
        tensor = torch.from_numpy(images).to(device)
        return (tensor.float() / 255 - mean) / std if tensor.dtype == torch.uint8 else tensor

    def unit(self, images: Tensor) -> Tensor:
        """Normalised images as pixels that are in [0, 1] where they are shown; not clamped."""
        mean, std = self.statistics(images.device)
        return images * std + mean

    def leave(self, images: Tensor) -> np.ndarray:
        """Normalised images as uint8 ones: clamped to [0, 1], times 255, truncated as in all published codes."""
        return self.unit(images.detach()).clamp(0, 1).mul(255).to(torch.uint8).cpu().numpy()


@contextmanager
def repeatable(tf32: bool = True) -> Iterator[None]:
    """Gradients are on, and the same images come out each time on one kind of device.

    Args:
        tf32: let a GPU's convolutions round their inputs to 10 bits.
    """
    flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32)
    with torch.inference_mode(False), torch.enable_grad(), flags:
        yield

"""Real images of each class, in the space in which images are matched, and how batches of them pass a network."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ddlight.data.base import RealDataset

TOGETHER = 512
"""Images that pass a network together."""


class RealImages:
    """The training split as batches of a class. Arrays are kept on a GPU as bytes; folders are decoded as they come.

    Args:
        dataset: the real dataset.
        enter: brings uint8 images (B, C, S, S) to the space in which they are matched.
        device: where batches are wanted.
    """

    def __init__(self, dataset: RealDataset, enter: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self.dataset, self.enter, self.device = dataset, enter, device
        labels = dataset.index("train").labels
        self.rows = [np.flatnonzero(labels == c) for c in range(dataset.num_classes)]
        held = device.type == "cuda" and not dataset.encoded("train")
        self._held = torch.from_numpy(dataset.split("train").images).to(device) if held else None

    def take(self, rows: np.ndarray) -> Tensor:
        """Images at some positions of the training split, float32 (n, C, S, S)."""
        if self._held is not None:
            return self.enter(self._held[torch.from_numpy(rows).to(self.device)])
        return self.enter(torch.from_numpy(self.dataset.take("train", rows)).to(self.device))

    def draw(self, label: int, count: int, rng: np.random.Generator) -> Tensor:
        """Different images of a class, at most `count`: all of a class that has fewer."""
        rows = self.rows[label]
        return self.take(rng.choice(rows, min(count, len(rows)), replace=False))


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """Its layers of BatchNorm."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def passes(network: nn.Module, batches: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Batches of classes by those that pass together: all where there is BatchNorm, which takes in all classes."""
    several = len(batches) if batch_norms(network) else max(1, TOGETHER // max(map(len, batches)))
    for first in range(0, len(batches), several):
        yield list(batches[first : first + several])

"""DSA in a matching loop: one draw for a real and a synthetic batch, or a draw for each image."""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from ddlight.core.randomness import generator
from ddlight.views import dsa


class Augmentation:
    """DSA of one set's images; draws depend on the numbers that are given, and on nothing else.

    On a GPU the gradients of scale and rotation are added in an order that changes: their last bits vary there.

    Args:
        strategy: operations as `dsa.Strategy` names them; "none" leaves images alone. Raises UsageError.
        size: side of the images in pixels.
        seed: of the set.
    """

    def __init__(self, strategy: str, size: int, seed: int) -> None:
        self.strategy, self.size, self.seed = dsa.Strategy(strategy), size, seed

    def siamese(self, *index: int) -> Callable[[Tensor], Tensor]:
        """One operation with one parameter for all images, as a function that is the same for every batch."""
        op, parameters = self._draw("matching siamese", 1, *index)
        return lambda images: dsa.apply(images, op, parameters)

    def each(self, images: Tensor, *index: int) -> Tensor:
        """Images (B, C, S, S) under one operation, with parameters for each image."""
        return dsa.apply(images, *self._draw("matching each", len(images), *index))

    def _draw(self, purpose: str, count: int, *index: int) -> tuple[str, np.ndarray]:
        rng = generator(self.seed, purpose, *index)
        return dsa.draw(self.strategy, rng.random(), rng.random((count, dsa.DSA_UNIFORMS)), self.size)

"""D4M: prototypes of each class in the latent space, noised to 70 % of the way and denoised again.

prototypes   centres of mini-batch k-means over the latents of a class, fed a batch at a time in a random order
synthesis    z_t = sqrt(abar_t) prototype + sqrt(1 - abar_t) noise at the level of `strength`, then DDIM
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.methods.generative.engine import GenerativeSynthesiser
from ddlight.methods.generative.engine.latents import Latents


def minibatch_prototypes(points: np.ndarray, order: np.ndarray, count: int, expand: int) -> np.ndarray:
    """Centres that mini-batch k-means has once it was fed points (n, D) in this order: float32 (count, D).

    Batches have expand x count points. A rest that fills no batch is left out, as in the code, unless it is all.
    """
    clusters = MiniBatchKMeans(count, random_state=0, batch_size=expand * count, n_init="auto")
    size = min(expand * count, len(points))
    for start in range(0, len(points) - size + 1, size):
        clusters.partial_fit(points[order[start : start + size]])
    return clusters.cluster_centers_.astype(np.float32)


class D4M(GenerativeSynthesiser):
    """Prototypes of the real images' latents, redrawn by a generator from 70 % noise (image to image).

    Paper: arXiv 2407.15138, Algorithm 1; numbers from its scripts, which use Stable Diffusion 1.5 at guidance 8.
    Deviation: steps are DDIM's, where the code has PNDM's; the order of the images and their posteriors' draws are
    seeded. Prototypes belong to classes, not to names of classes, of which some are equal.

    Args:
        strength: share of the steps that are taken, and so of the noise.
        expand: points of a batch of k-means, in units of ipc.
    """

    tiny: ClassVar[dict[str, Any]] = {**GenerativeSynthesiser.tiny, "guidance": 8.0}
    uses_real = True

    def __init__(
        self, *args: Any, strength: float = 0.7, expand: int = 1, guidance: float = 8.0, **kwargs: Any
    ) -> None:
        super().__init__(*args, guidance=guidance, **kwargs)
        if not 0 < strength <= 1 or expand < 1:
            raise UsageError(f"strength is above 0, at most 1, and expand at least 1; given: {strength}, {expand}.")
        self.strength = self.share = strength
        self.expand = expand
        self.prototypes: Callable[[int], np.ndarray] = lru_cache(1)(self._prototypes)

    @property
    def needed(self) -> list[Latents]:
        """A draw of each real image's posterior; pictures are squashed to squares."""
        return [self.latents(sampled=True, crop="squash")]

    def _prototypes(self, label: int) -> np.ndarray:
        points = self.needed[0].points(label)
        order = generator(self.seed, "order of latents", label).permutation(len(points))
        return minibatch_prototypes(points, order, self.ipc, self.expand)

    def draw(self, label: int, images: Sequence[int]) -> Tensor:
        """Redraw each image's prototype."""
        return self.redraw(label, images, self.prototypes(label))

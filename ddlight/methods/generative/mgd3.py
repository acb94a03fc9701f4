"""MGD3: samples that are pulled towards modes of the real data, one mode an image, in the first half of the steps.

    modes    m_1 .. m_ipc: centres of k-means over the latents of a class's real images
    step i   x_{i-1} = mu_i + lambda sigma_i (m_k - x0_i) + sigma_i noise   while i > t_stop, plain DDPM after that

The paper writes the pull into the noise that the network sees (Eq. 6); its code adds it to the mean, as here.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from ddlight.core.errors import UsageError
from ddlight.methods.generative.engine import GenerativeSynthesiser, Hook, Step
from ddlight.methods.generative.engine.latents import Latents


def kmeans(points: np.ndarray, count: int, seed: int, n_init: int = 1) -> KMeans:
    """k-means (k-means++ starts) fitted to points (n, D), which may hold fewer different ones than clusters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(count, n_init=n_init, random_state=seed).fit(points.astype(np.float64))


def nearest_points(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """For each centre the point nearest to it: (count, D)."""
    distances = np.stack([((points - centre) ** 2).sum(1) for centre in centres])
    return points[distances.argmin(1)]


def mode_pull(step: Step, modes: Tensor, strength: float, stop: int) -> Tensor:
    """lambda sigma_i (m - x0) while i > t_stop, else 0: like the modes, (n, C, h, w)."""
    if step.i <= stop:
        return torch.zeros_like(step.mean)
    return strength * (0.5 * step.log_var).exp() * (modes - step.x0)


class MGD3(GenerativeSynthesiser):
    """Samples pulled towards k-means centres of the real images' latents (mode guidance).

    Paper: arXiv 2505.18963, Algorithm 1; numbers from its text, the step from its code.

    Args:
        strength: lambda of the pull.
        stop: t_stop, index of the step from which on nothing is pulled; as many as `steps` pulls never.
        closest: pull towards the real image nearest to each centre instead.
        flip: mirror every second real image before it is encoded, where the dataset may be mirrored.
    """

    tiny: ClassVar[dict[str, Any]] = {**GenerativeSynthesiser.tiny, "stop": 1}
    uses_real = True

    def __init__(
        self,
        *args: Any,
        strength: float = 0.1,
        stop: int = 25,
        closest: bool = False,
        flip: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if stop < 0:
            raise UsageError(f"stop is the index of a step, 0 or more; given: {stop}.")
        self.strength, self.stop, self.closest, self.flip = strength, stop, closest, flip
        self.modes: Callable[[int], np.ndarray] = lru_cache(1)(self._modes)

    @property
    def needed(self) -> list[Latents]:
        """Means of the real images' latents."""
        return [self.latents(flip=self.flip and self.dataset.info.flip)]

    def _modes(self, label: int) -> np.ndarray:
        """A class's modes, float32 (ipc, C h w). All sets have the same, whatever their seed, as in the code."""
        points = self.needed[0].points(label)
        centres = kmeans(points, self.ipc, seed=0).cluster_centers_.astype(np.float32)
        return nearest_points(points, centres) if self.closest else centres

    def draw(self, label: int, images: Sequence[int]) -> Tensor:
        """Sampling with the hook."""
        return self.sample(label, images, self.hook(label, images))

    def hook(self, label: int, images: Sequence[int]) -> Hook:
        """Pull each image towards its mode."""
        modes = self.targets(self.modes(label), images)
        return lambda step: mode_pull(step, modes, self.strength, self.stop)

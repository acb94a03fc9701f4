"""ManifoldGD: MGD3 with centres of a bisecting tree, and with a term that knows the manifold around each centre.

    centres   leaves of a tree: the leaf with the largest squared error is split by 2-means until there are ipc
    points    300 around the centre, at radii up to r_i, each noised to the step's level; nu and U: mean of the 12 that
              are nearest to x_i, and directions in which these vary most
    code      x_{i-1} = mu_i + pull + s tanh(d_min / b) w / |w| + sigma_i noise,  w = -(I - U U^T)(x_i - nu)
    paper     x_{i-1} = mu_i + U U^T pull + sigma_i noise

with MGD3's pull = lambda sigma_i (c - x0_i), all while i > t_stop.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.methods.generative.engine import GenerativeSynthesiser, Hook, Step
from ddlight.methods.generative.engine.latents import Latents
from ddlight.methods.generative.mgd3 import kmeans, mode_pull

POINTS, NEIGHBOURS = 300, 12
"""Points around a centre, and how many of them a tangent space is fitted to."""
LEAST_RADIUS = 0.1
"""Where the evenly spaced radii begin, in the code."""


def bisected(points: np.ndarray, count: int, rng: np.random.RandomState) -> np.ndarray:
    """Means of the leaves of a tree over points (n, D): float32 (count, D).

    The leaf with the largest sum of squared distances to its mean is split by 2-means with ten starts, in random halves
    where one side would be empty, until there are `count` leaves, at most n.
    """
    leaves = [np.arange(len(points))]

    def error(rows: np.ndarray) -> float:
        own = points[rows].astype(np.float64)
        return float(((own - own.mean(0)) ** 2).sum()) if len(rows) > 1 else -1.0

    while len(leaves) < count:
        rows = leaves.pop(int(np.argmax([error(rows) for rows in leaves])))
        sides = kmeans(points[rows], 2, int(rng.randint(2**31 - 1)), n_init=10).labels_
        if sides.min() == sides.max():
            sides = np.arange(len(rows)) < len(rows) // 2
            rng.shuffle(sides)
        leaves += [rows[sides == side] for side in (0, 1)]
    return np.stack([points[rows].mean(0) for rows in leaves]).astype(np.float32)


def radius(i: int, last: int, stop: int, smallest: float, warm: int, largest: float) -> float:
    """Radius of the neighbourhood at step i: largest x smallest at the last step, `smallest` after `warm` steps."""
    cut = max(stop, last - warm)
    if i <= cut:
        return smallest
    share = (math.exp((i - cut) / (last - cut)) - 1) / (math.e - 1)
    return smallest * (1 + (largest - 1) * share)


def neighbourhood(centre: np.ndarray, reach: float, abar: float, rng: np.random.Generator) -> np.ndarray:
    """Points on spheres around a centre (D,), each noised to a level: float32 (300, D).

    Half the radii go evenly from 0.1 to `reach`, half are drawn between 0 and `reach`.
    """
    directions = rng.standard_normal((POINTS, len(centre)), np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    half = POINTS // 2
    radii = np.concatenate([np.linspace(LEAST_RADIUS, reach, half), rng.uniform(0, reach, POINTS - half)])
    clean = centre + radii[:, None].astype(np.float32) * directions
    noise = rng.standard_normal(clean.shape, np.float32)
    return math.sqrt(abar) * clean + math.sqrt(1 - abar) * noise


def tangent(x: Tensor, points: Tensor, dimensions: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean nu (D,) of the points nearest to x (D,), directions U (D, d) of their largest variance, least distance."""
    distances = (points - x).norm(dim=1)
    nearest = points[distances.argsort()[:NEIGHBOURS]]
    nu = nearest.mean(0)
    return nu, torch.linalg.svd(nearest - nu, full_matrices=False).Vh[:dimensions].T, distances.min()


def correction(x: Tensor, nu: Tensor, basis: Tensor, nearest: Tensor, scale: float, bandwidth: float) -> Tensor:
    """The code's term: of norm scale tanh(nearest / bandwidth), from x (D,) straight towards the tangent plane."""
    away = x - nu
    towards = basis @ (basis.T @ away) - away
    return scale * torch.tanh(nearest / bandwidth) * towards / (towards.norm() + 1e-8)


class ManifoldGD(GenerativeSynthesiser):
    """MGD3 towards centres of a bisecting tree, with a correction or projection by local tangent spaces.

    Paper: arXiv 2602.23295; numbers from its scripts. Deviation: paper and code differ. The code adds a vector of norm
    `scale` beside an unprojected pull, hundreds of times shorter than the noise; the paper projects the pull. Centres
    are the code's (all leaves), not the paper's levels of a tree, which it leaves open.

    Args:
        manifold: the term of the "code", the projection of the "paper", or "none", MGD3 with other centres.
        strength: lambda of the pull.
        stop: t_stop, index of the step from which on nothing is pulled.
        reach: radius of the neighbourhood; the scripts have 0.05 for ImageNette, 0.1 for others.
        bandwidth: distance within which the code's term fades; 0.2 for ImageNette and ImageWoof, 0.1 for others.
        scale: norm of the code's term.
        dimensions: of the tangent space.
        warm: steps in which the radius shrinks to `reach`.
        widest: radius at the first step, in units of `reach`.
        flip: mirror every second real image before it is encoded, where the dataset may be mirrored.
    """

    tiny: ClassVar[dict[str, Any]] = {**GenerativeSynthesiser.tiny, "stop": 1}
    uses_real = True

    def __init__(
        self,
        *args: Any,
        manifold: Literal["code", "paper", "none"] = "code",
        strength: float = 0.1,
        stop: int = 25,
        reach: float = 0.1,
        bandwidth: float = 0.1,
        scale: float = 0.1,
        dimensions: int = 3,
        warm: int = 5,
        widest: float = 2.0,
        flip: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if stop < 0 or not 1 <= dimensions < NEIGHBOURS:
            raise UsageError(
                f"stop is 0 or more, and dimensions 1 to {NEIGHBOURS - 1}; given: stop={stop}, dimensions={dimensions}."
            )
        self.manifold, self.strength, self.stop, self.reach = manifold, strength, stop, reach
        self.bandwidth, self.scale, self.dimensions = bandwidth, scale, dimensions
        self.warm, self.widest, self.flip = warm, widest, flip
        self.centres: Callable[[int], np.ndarray] = lru_cache(1)(self._centres)

    @property
    def needed(self) -> list[Latents]:
        """Means of the real images' latents."""
        return [self.latents(flip=self.flip and self.dataset.info.flip)]

    def _centres(self, label: int) -> np.ndarray:
        """Leaves of a class's tree, which the set's seed draws."""
        rng = np.random.RandomState(generator(self.seed, "bisecting tree", label).integers(2**32))
        return bisected(self.needed[0].points(label), self.ipc, rng)

    def draw(self, label: int, images: Sequence[int]) -> Tensor:
        """Sampling with the hook."""
        return self.sample(label, images, self.hook(label, images))

    def hook(self, label: int, images: Sequence[int]) -> Hook:
        """Pull each image towards its centre, and correct or project that."""
        centres = self.targets(self.centres(label), images)

        def term(step: Step) -> Tensor:
            pull = mode_pull(step, centres, self.strength, self.stop)
            if step.i <= self.stop or self.manifold == "none":
                return pull
            added = [self._on_manifold(step, pull, centres, row, label, k) for row, k in enumerate(images)]
            return torch.stack(added).reshape(pull.shape)

        return term

    def _on_manifold(self, step: Step, pull: Tensor, centres: Tensor, row: int, label: int, image: int) -> Tensor:
        """What is added to one image's mean (D,)."""
        rng = generator(self.seed, f"manifold of {self.dataset.info.classes[label]}", image, step.i)
        reach = radius(step.i, len(self.schedule) - 1, self.stop, self.reach, self.warm, self.widest)
        abar = float(self.schedule.tables["abar"][step.i])
        points = neighbourhood(centres[row].flatten().cpu().numpy(), reach, abar, rng)
        x, own = step.x[row].flatten(), pull[row].flatten()
        nu, basis, nearest = tangent(x, torch.from_numpy(points).to(x), self.dimensions)
        if self.manifold == "paper":
            return basis @ (basis.T @ own)
        return own + correction(x, nu, basis, nearest, self.scale, self.bandwidth)

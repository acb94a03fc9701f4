"""D3HR: images of a class inverted to noise, where a Gaussian describes them, and the group of draws that fits it best.

invert   z_i = sqrt(abar_i / abar_{i-1}) (z_{i-1} - sqrt(1 - abar_{i-1}) eps) + sqrt(1 - abar_i) eps,
         eps = eps(z_{i-1}, t_i, y) guided, for i = 1..depth: DDIM upwards, asked at the level that it goes to
match    mean mu and deviation sd of z_depth over a class, in each dimension
choose   of m groups of ipc draws from N(mu, sd^2) that with the least
         |mean_g - mu| + |std_g - sd| + w |skew_g|
decode   DDIM downwards from the same level
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.methods.generative.engine import GenerativeSynthesiser
from ddlight.methods.generative.engine.backbone import Denoiser
from ddlight.methods.generative.engine.latents import OfClasses, real_images
from ddlight.methods.generative.engine.schedule import Predict, Schedule, leading
from ddlight.networks.device import current_device

AT_ONCE = 2**24
"""Numbers that are drawn together while groups are compared."""


def inverted(predict: Predict, schedule: Schedule, z: Tensor) -> Tensor:
    """Clean latents brought to the schedule's last level, one level at a time."""
    for i in range(1, len(schedule)):
        eps, _ = predict(z, int(schedule.timesteps[i]))
        z = schedule.moved(z, i - 1, eps, i)
    return z


def denoised(predict: Predict, schedule: Schedule, z: Tensor) -> Tensor:
    """The way back from the schedule's last level to its first."""
    for i in range(len(schedule) - 1, 0, -1):
        eps, _ = predict(z, int(schedule.timesteps[i]))
        z = schedule.moved(z, i, eps, i - 1)
    return z


def group_losses(groups: Tensor, mean: Tensor, deviation: Tensor, skewness: float) -> Tensor:
    """How far groups of draws (m, n, D) are from a Gaussian of mean and deviation (D,): (m,).

    The skewness of a draw is over its dimensions, once these are standardised.
    """
    dimensions = groups.shape[-1]
    factor = dimensions / ((dimensions - 1) * (dimensions - 2))
    skew = factor * ((groups - mean) / deviation.clamp(min=1e-12)).pow(3).sum(-1)
    apart = (groups.mean(1) - mean).norm(dim=-1) + (groups.std(1) - deviation).norm(dim=-1)
    return apart + skewness * skew.norm(dim=-1)


class Inversions(OfClasses):
    """Mean and deviation of each class's images once they are inverted, float32 (C h w,).

    Args:
        steps: of the whole grid.
        depth: steps of it that are inverted.
        guidance: of the network.
        channels: of the latents that are guided.
    """

    kind = "inverted statistics"

    def __init__(self, *args: Any, steps: int, depth: int, guidance: float, channels: int | None) -> None:
        super().__init__(*args)
        self.steps, self.depth, self.guidance, self.channels = steps, depth, guidance, channels

    def identity(self) -> dict[str, Any]:
        """As every kind's, with the numbers of the inversion."""
        return {**super().identity(), "options": [self.steps, self.depth, self.guidance, self.channels]}

    def tensors(self, model: Denoiser, label: int) -> dict[str, Tensor]:
        """Invert a class, a batch at a time, and keep sums alone."""
        schedule = Schedule(model.betas, leading(self.steps)[: self.depth + 1])
        total = squares = torch.zeros((), dtype=torch.float64)
        rng, rows = generator(0, "inverted", label), self.rows(label)
        for images in real_images(self.dataset, model, rows, "centre"):
            mean, deviation = model.encode(images)
            z = mean + deviation * torch.from_numpy(rng.standard_normal(mean.shape, np.float32)).to(mean)
            predict = model.guided(model.condition([label] * len(z)), self.guidance, self.channels)
            flat = inverted(predict, schedule, z).flatten(1).double().cpu()
            total, squares = total + flat.sum(0), squares + flat.square().sum(0)
        mean = total / len(rows)
        variance = (squares - len(rows) * mean.square()).clamp(min=0) / max(len(rows) - 1, 1)
        return {"mean": mean.float(), "deviation": variance.sqrt().float()}


class D3HR(GenerativeSynthesiser):
    """Draws from a Gaussian of each class's inverted images, the group of them that fits it best, denoised.

    Paper: arXiv 2505.18399. Deviation: inversion and denoising meet at the same level (31 steps, level 620), where the
    code inverts one step less; each class has draws of its own, and statistics are float32, where the code shares noise
    among classes in float16; denoising ends at the grid's first level.

    Args:
        depth: steps of the grid that are inverted.
        groups: m, of which the best is taken.
        skewness: w; the code has 0.1.
    """

    tiny: ClassVar[dict[str, Any]] = {**GenerativeSynthesiser.tiny, "depth": 2, "groups": 20}
    uses_real = True

    def __init__(
        self,
        *args: Any,
        depth: int = 31,
        groups: int = 1_000_000,
        skewness: float = 0.5,
        guided_channels: int | None = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, guided_channels=guided_channels, **kwargs)
        if not 1 <= depth < self.steps or groups < 1:
            raise UsageError(
                f"depth is 1 to {self.steps - 1}, below steps, and groups at least 1; given: depth={depth}, "
                f"groups={groups}."
            )
        if self.ipc < 2:
            raise UsageError("D3HR needs --data.ipc=2 or more: one image has no deviation.")
        self.depth, self.groups, self.skewness = depth, groups, skewness
        self.chosen: Callable[[int], np.ndarray] = lru_cache(1)(self._chosen)

    @property
    def needed(self) -> list[Inversions]:
        """Statistics of the inverted images."""
        numbers: dict[str, Any] = {"steps": self.steps, "depth": self.depth, "guidance": self.guidance}
        channels = self.guided_channels
        return [Inversions(self.described, self.dataset, self.place, **numbers, channels=channels)]

    def _chosen(self, label: int) -> np.ndarray:
        """The best group of a class, float32 (ipc, C h w)."""
        kept = {name: tensor.to(current_device()) for name, tensor in self.needed[0].of_class(label).items()}
        mean, deviation = kept["mean"], kept["deviation"]
        together = max(1, AT_ONCE // (self.ipc * len(mean)))
        best, least = torch.empty(0), torch.inf
        purpose = f"groups of {self.dataset.info.classes[label]}"
        for batch, start in enumerate(range(0, self.groups, together)):
            shape = min(together, self.groups - start), self.ipc, len(mean)
            drawn = torch.from_numpy(generator(self.seed, purpose, batch).standard_normal(shape, np.float32))
            groups = mean + deviation * drawn.to(mean)
            losses = group_losses(groups, mean, deviation, self.skewness)
            if float(losses.min()) < least:
                best, least = groups[losses.argmin()], float(losses.min())
        return best.cpu().numpy()

    def draw(self, label: int, images: Sequence[int]) -> Tensor:
        """Denoise the chosen draws."""
        schedule = Schedule(self.model.betas, leading(self.steps)[: self.depth + 1])
        return denoised(self.predict(label, images), schedule, self.targets(self.chosen(label), images))

    @property
    def looks(self) -> float:
        """Times that the network looks at latents: for the set, and to invert the full data."""
        one = self.depth * (1 if self.guidance == 1 else 2)
        return one * (self.expected_images + self.dataset.info.train)

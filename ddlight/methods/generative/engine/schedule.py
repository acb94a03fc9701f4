"""A diffusion's noise levels on the steps that are taken, and what one step computes."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import numpy as np
import torch
from torch import Tensor

LEVELS = 1000
"""T: noise levels of the diffusions that are used here."""


def linear_betas(first: float = 1e-4, last: float = 0.02) -> np.ndarray:
    """Variances that are added at each level, as DiT has them: float64 (T,)."""
    return np.linspace(first, last, LEVELS)


def scaled_betas(first: float = 0.00085, last: float = 0.012) -> np.ndarray:
    """Those of Stable Diffusion, whose roots are linear: float64 (T,)."""
    return np.linspace(first**0.5, last**0.5, LEVELS) ** 2


def spread(steps: int) -> np.ndarray:
    """Levels from the first to the last, equally spaced and rounded: DiT's respacing, int64 (steps,)."""
    return np.round(np.linspace(0, LEVELS - 1, steps)).astype(np.int64)


def leading(steps: int, offset: int = 0) -> np.ndarray:
    """Multiples of T / steps, plus an offset: the grid of DDIM, int64 (steps,)."""
    return np.arange(steps) * (LEVELS // steps) + offset


@dataclass(frozen=True)
class Step:
    """What a hook sees of one denoising step.

    Attributes:
        x: latents before the step, (B, C, h, w).
        i: index of the step among those that are taken; the last one is 0.
        x0: the clean latents that the network expects, (B, C, h, w).
        mean: of the latents after the step, (B, C, h, w).
        log_var: logarithm of their variance, that broadcasts to (B, C, h, w).
    """

    x: Tensor
    i: int
    x0: Tensor
    mean: Tensor
    log_var: Tensor


Hook = Callable[[Step], Tensor]
"""Gives what is added to the mean of a step."""


class Schedule:
    """A diffusion on some of its levels: betas are those of a jump from one kept level to the next.

    Args:
        betas: float64 (T,), of all levels.
        timesteps: kept levels, ascending, int64 (n,); the network is told these.
    """

    def __init__(self, betas: np.ndarray, timesteps: np.ndarray) -> None:
        self.timesteps = timesteps
        abar = np.cumprod(1 - betas)[timesteps]
        before = np.append(1.0, abar[:-1])
        beta = 1 - abar / before
        spread_after = beta * (1 - before) / (1 - abar)
        smallest = spread_after[1] if len(abar) > 1 else beta[0]  # the first is 0, and has no logarithm
        tables = {
            "abar": abar,
            "log_beta": np.log(beta),
            "log_posterior": np.log(np.append(smallest, spread_after[1:])),
            "from_x0": beta * np.sqrt(before) / (1 - abar),
            "from_x": (1 - before) * np.sqrt(1 - beta) / (1 - abar),
        }
        self.tables = {name: torch.from_numpy(table) for name, table in tables.items()}

    def __len__(self) -> int:
        return len(self.timesteps)

    def at(self, name: str, i: int | Tensor, like: Tensor) -> Tensor:
        """A table's entries at an index, or at one for each image, as they broadcast with images."""
        picked = self.tables[name][i.cpu() if isinstance(i, Tensor) else i]
        return picked.to(like).reshape(-1, *[1] * (like.ndim - 1))

    def noised(self, x0: Tensor, i: int | Tensor, noise: Tensor) -> Tensor:
        """Clean latents at a level: sqrt(abar) x0 + sqrt(1 - abar) noise."""
        abar = self.at("abar", i, x0)
        return abar.sqrt() * x0 + (1 - abar).sqrt() * noise

    def clean(self, x: Tensor, i: int | Tensor, eps: Tensor) -> Tensor:
        """The clean latents that the noise in x leaves."""
        abar = self.at("abar", i, x)
        return (x - (1 - abar).sqrt() * eps) / abar.sqrt()

    def posterior_mean(self, x0: Tensor, x: Tensor, i: int | Tensor) -> Tensor:
        """Mean of q(x_{i-1} | x_i, x0)."""
        return self.at("from_x0", i, x) * x0 + self.at("from_x", i, x) * x

    def log_variance(self, v: Tensor | None, i: int | Tensor, like: Tensor) -> Tensor:
        """log sigma^2 = f log beta + (1 - f) log beta_tilde with f = (v + 1) / 2; without v that of the posterior."""
        low, high = self.at("log_posterior", i, like), self.at("log_beta", i, like)
        return low if v is None else low + (v + 1) / 2 * (high - low)

    def step(self, x: Tensor, i: int, eps: Tensor, v: Tensor | None) -> Step:
        """One ancestral step of DDPM, before noise is added."""
        x0 = self.clean(x, i, eps)
        return Step(x, i, x0, self.posterior_mean(x0, x, i), self.log_variance(v, i, x))

    def moved(self, x: Tensor, i: int, eps: Tensor, to: int) -> Tensor:
        """DDIM with eta 0: x at index i, moved to the noise level of index `to`, up or down."""
        return self.noised(self.clean(x, i, eps), to, eps)


Predict = Callable[[Tensor, int], tuple[Tensor, Tensor | None]]
"""Noise in latents (B, C, h, w) at a level 0..T-1, and the network's word on the variance in [-1, 1], if it has one."""


def ancestral(
    predict: Predict, schedule: Schedule, x: Tensor, noise: Callable[[int], Tensor], hook: Hook | None = None
) -> Tensor:
    """Denoise from the schedule's last step: x_{i-1} = mean_i + hook + [i > 0] sigma_i noise_i.

    Args:
        predict: the network, guided.
        schedule: the steps.
        x: latents at the last step's level.
        noise: of a step, standard normal, like x.
        hook: adds to the means.
    """
    for i in reversed(range(len(schedule))):
        step = schedule.step(x, i, *predict(x, int(schedule.timesteps[i])))
        x = step.mean if hook is None else step.mean + hook(step)
        if i > 0:
            x = x + (0.5 * step.log_var).exp() * noise(i)
    return x


def redrawn(predict: Predict, schedule: Schedule, latents: Tensor, noise: Tensor) -> Tensor:
    """Latents noised to the schedule's last level and brought back by DDIM, to the clean latents at its first."""
    x = schedule.noised(latents, len(schedule) - 1, noise)
    for i in reversed(range(len(schedule))):
        eps, _ = predict(x, int(schedule.timesteps[i]))
        x = schedule.moved(x, i, eps, i - 1) if i else schedule.clean(x, 0, eps)
    return x


# --- the loss that DiT is trained by ---


def training_loss(
    schedule: Schedule, x0: Tensor, i: Tensor, noise: Tensor, eps: Tensor, v: Tensor, velocity: bool = False
) -> Tensor:
    """DiT's loss of each image: MSE of the noise, plus the variational bound in bits, which moves the variance alone.

    Args:
        schedule: all levels.
        x0: clean latents (B, C, h, w).
        i: level of each, int64 (B,).
        noise: that was added to them.
        eps: noise that the network saw there.
        v: the network's word on the variance.
        velocity: take the squared error of sqrt(abar) noise - sqrt(1 - abar) x0 (arXiv 2202.00512), which is 1 / abar
            times as large.

    Returns:
        (B,).
    """
    error = (noise - eps).square().flatten(1).mean(1)
    if velocity:
        error = error / schedule.at("abar", i, x0).flatten()
    return error + variational_bits(schedule, x0, i, schedule.noised(x0, i, noise), eps.detach(), v)


def variational_bits(schedule: Schedule, x0: Tensor, i: Tensor, x: Tensor, eps: Tensor, v: Tensor) -> Tensor:
    """KL of a step's true posterior from the network's, at level 0 the likelihood of 8 bits: bits a dimension, (B,)."""
    mean, log_var = schedule.posterior_mean(schedule.clean(x, i, eps), x, i), schedule.log_variance(v, i, x)
    true_mean, true_log_var = schedule.posterior_mean(x0, x, i), schedule.at("log_posterior", i, x)
    spread_ratio = (true_log_var - log_var).exp()
    apart = (true_mean - mean).square() * (-log_var).exp()
    kl = 0.5 * (spread_ratio - 1 - (true_log_var - log_var) + apart)
    bits = torch.where(schedule.at("from_x", i, x) == 0, _bin_nats(x0, mean, log_var), kl)
    return bits.flatten(1).mean(1) / log(2)


def _bin_nats(x0: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Negative log likelihood of the 255 bins between -1 and 1, the outer ones open."""
    normal, deviation = torch.distributions.Normal(0.0, 1.0), (0.5 * log_var).exp()
    upper, lower = (normal.cdf((x0 - mean + side / 255) / deviation) for side in (1, -1))
    upper, lower = torch.where(x0 > 0.999, 1.0, upper), torch.where(x0 < -0.999, 0.0, lower)
    return -(upper - lower).clamp(min=1e-12).log()

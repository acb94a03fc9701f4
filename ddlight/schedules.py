"""Learning-rate schedules as functions of progress in [0, 1], so that every budget is a complete run."""

from dataclasses import dataclass
from math import cos, floor, pi
from typing import Literal

Name = Literal["constant", "linear", "cosine", "ssrs", "step", "rex", "wsd"]


@dataclass(frozen=True)
class Schedule:
    """A multiple of the peak learning rate at each progress x = done / total in [0, 1).

    Sources: slow cosine and `ssrs` arXiv 2404.13733 (eq. 33), REX arXiv 2107.04197, linear under a budget
    arXiv 1905.04753, WSD arXiv 2404.06395.

    Args:
        name: shape; see `factor`.
        zeta: stretches linear, cosine and ssrs: 1 ends at 0, 2 ends the cosine and the line at 0.5.
        milestones: `step` only: fractions of the run after which the rate is multiplied by `gamma`.
        gamma: `step` only: factor at each milestone.
        warmup: fraction of the run with a linear rise from 0.
        cooldown: `wsd` only: last fraction of the run, with a linear fall to 0.
        stepped: "epoch" holds the rate during each pass over the set, as the published code does; "step" does not.
    """

    name: Name = "cosine"
    zeta: float = 1.0
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    warmup: float = 0.0
    cooldown: float = 0.2
    stepped: Literal["step", "epoch"] = "step"

    def factor(self, x: float) -> float:
        """Multiple of the peak at progress `x`: 1 at the start (after the warm-up), the end value at 1."""
        if x < self.warmup:
            return x / self.warmup
        return float(SHAPES[self.name](self, x))

    def at(self, step: int, total: int, steps_per_epoch: int) -> float:
        """Multiple of the peak for optimiser step `step` of `total`."""
        if self.stepped == "epoch":
            step = floor(step / steps_per_epoch) * steps_per_epoch
        return self.factor(step / total)


def _cosine(s: Schedule, x: float) -> float:
    return (1 + cos(pi * x / s.zeta)) / 2


def _ssrs(s: Schedule, x: float) -> float:
    return _cosine(s, x) if x <= 5 / 6 else _cosine(s, 5 / 6) * (1 - x)


def _step(s: Schedule, x: float) -> float:
    return s.gamma ** sum(x >= milestone - 1e-9 for milestone in s.milestones)


def _rex(s: Schedule, x: float) -> float:
    return (1 - x) / (1 - x / 2)


def _wsd(s: Schedule, x: float) -> float:
    return min(1.0, (1 - x) / s.cooldown)


SHAPES = {
    "constant": lambda s, x: 1.0,
    "linear": lambda s, x: 1 - x / s.zeta,
    "cosine": _cosine,
    "ssrs": _ssrs,
    "step": _step,
    "rex": _rex,
    "wsd": _wsd,
}

"""Learning-rate schedules as functions of progress in [0, 1], so that every budget is a complete run."""

from dataclasses import dataclass
from math import cos, floor, pi
from typing import Literal

from ddlight.core.errors import UsageError

Name = Literal["constant", "linear", "cosine", "ssrs", "step", "rex", "wsd"]


@dataclass(frozen=True)
class Schedule:
    """A multiple of the peak learning rate at each progress x = done / total in [0, 1).

    Sources: slow cosine and `ssrs` arXiv 2404.13733 (eq. 33), REX arXiv 2107.04197, linear under a budget
    arXiv 1905.04753, WSD arXiv 2404.06395.

    Args:
        name: shape of the learning rate: constant, linear, cosine, ssrs, step, rex or wsd.
        zeta: stretches linear, cosine and ssrs: 1 ends at 0, 2 ends the cosine and the line at 0.5.
        milestones: `step` only: fractions of the run after which the rate is multiplied by `gamma`.
        gamma: `step` only: factor at each milestone.
        warmup: fraction of the run with a linear rise from 0, by steps; the shape is fitted into what follows, and
            milestones and cooldown are fractions of that.
        cooldown: `wsd` only: last fraction of the run, with a linear fall to 0.
        stepped: "epoch" holds the rate during each pass over the set, as the published code does; "step" does not, nor
            does a run of fewer than 20 passes, unless "epoch" is given.

    Example:
        >>> schedule = Schedule("cosine", zeta=2.0)
        >>> [round(schedule.at(step, total=4, steps_per_epoch=1), 3) for step in range(4)]  # it ends at 0.5
        [1.0, 0.962, 0.854, 0.691]
    """

    name: Name = "cosine"
    zeta: float = 1.0
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    warmup: float = 0.0
    cooldown: float = 0.2
    stepped: Literal["step", "epoch"] = "step"

    def __post_init__(self) -> None:
        """Check the numbers. Raises UsageError."""
        for name, fine, allowed in (
            ("zeta", self.zeta > 0, "above 0"),
            ("gamma", self.gamma > 0, "above 0"),
            ("warmup", 0 <= self.warmup < 1, "0 or more, below 1"),
            ("cooldown", 0 < self.cooldown <= 1, "above 0, at most 1"),
        ):
            if not fine:
                raise UsageError(f"The schedule's {name} is {getattr(self, name)}; allowed: {allowed}.")

    def factor(self, x: float) -> float:
        """Multiple of the peak at progress `x`: a rise from 0 to 1, then the shape, fitted into the rest of the run."""
        if x < self.warmup:
            return x / self.warmup
        return float(SHAPES[self.name](self, (x - self.warmup) / (1 - self.warmup)))

    def at(self, step: int, total: int, steps_per_epoch: int) -> float:
        """Multiple of the peak for optimiser step `step` of `total`."""
        if self.stepped == "epoch" and step >= self.warmup * total:
            begun = floor(step / steps_per_epoch) * steps_per_epoch
            return self.factor(max(begun / total, self.warmup))
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

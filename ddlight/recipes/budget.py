"""The length of a run, in exactly one unit, resolved to optimiser steps."""

from dataclasses import dataclass
from math import ceil
from typing import Literal, get_args

from ddlight.core.errors import UsageError

BudgetUnit = Literal["steps", "epochs", "images", "full_epochs"]
UNITS: tuple[BudgetUnit, ...] = get_args(BudgetUnit)


@dataclass(frozen=True)
class Budget:
    """How much training a student gets. Exactly one unit is set.

    Source: `full_epochs` is the compute unit of arXiv 2604.18811 ("equivalent epochs").

    Args:
        steps: optimiser steps.
        epochs: passes over the condensed set.
        images: images that the student sees.
        full_epochs: passes over the full training set: N means N * |D| images seen, whatever the subset's size.

    Raises:
        UsageError: none or several units are set, or the value is not positive.

    Example:
        >>> Budget(full_epochs=2).total_steps(images=100, batch=50, full_images=5000)  # 10,000 images in steps of 50
        200
    """

    steps: int | None = None
    epochs: float | None = None
    images: int | None = None
    full_epochs: float | None = None

    def __post_init__(self) -> None:
        units = [unit for unit in UNITS if getattr(self, unit) is not None]
        if len(units) != 1:
            option = f"--model.budget.{units[0]}={getattr(self, units[0])}" if units else "--model.budget.epochs=300"
            example = f"--model.budget=null {option} drops what a config gives" if units else option
            raise UsageError(
                f"A budget has exactly one unit; given: {', '.join(units) or 'none'}. "
                f"Allowed: {', '.join(UNITS)}. For example: {example}"
            )
        value = getattr(self, self.unit)
        if value <= 0:
            raise UsageError(f"The budget must be positive; given: {self.unit}={value}.")
        if self.unit in ("epochs", "full_epochs"):
            object.__setattr__(self, self.unit, float(value))  # 60 and 60.0 are one budget, which names one run

    @property
    def unit(self) -> BudgetUnit:
        """The unit that is set."""
        return next(unit for unit in UNITS if getattr(self, unit) is not None)

    @property
    def asked(self) -> float:
        """The number that was asked for, in `unit`."""
        return float(getattr(self, self.unit))

    def total_steps(self, images: int, batch: int, full_images: int) -> int:
        """Optimiser steps of this budget: the fewest that see at least what was asked for.

        Args:
            images: size of the condensed set. The last, short batch of a pass is kept.
            batch: global batch, in images.
            full_images: size of the full training set.
        """
        if self.steps is not None:
            return self.steps
        if self.epochs is not None:
            return steps_to_see(self.epochs * images, images, batch)
        if self.images is not None:
            return steps_to_see(self.images, images, batch)
        return steps_to_see(self.asked * full_images, images, batch)


def steps_to_see(seen: float, images: int, batch: int) -> int:
    """Fewest steps after which at least `seen` images passed, for passes over a set of `images`."""
    passes, rest = divmod(round(seen, 6), images)
    return max(1, int(passes) * ceil(images / batch) + ceil(rest / batch))


def images_seen(steps: int, images: int, batch: int) -> int:
    """Images that passed after `steps` optimiser steps over a set of `images`."""
    passes, rest = divmod(steps, ceil(images / batch))
    return passes * images + min(rest * batch, images)

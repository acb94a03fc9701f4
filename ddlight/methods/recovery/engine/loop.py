"""The recovery loop of decoupled distillation: it optimises images until frozen networks recognise their class.

All methods share this loop and choose its parts: the networks, which take turns (`Observer`), the statistics of their
layers that are matched (`Statistics`), the views of the images that they are shown (`Views`), and further terms of the
loss (`losses`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import cos, pi

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import Adam

from ddlight.core.errors import DataError
from ddlight.methods.images import NormalisedSpace
from ddlight.methods.recovery.engine.observer import Observer
from ddlight.methods.recovery.engine.options import Recovery
from ddlight.methods.recovery.engine.statistics import LayerStatistics
from ddlight.methods.recovery.engine.views import Views

CHECK_EVERY = 200
"""Iterations between two looks at whether the images are finite; each look waits for the device."""


@dataclass(frozen=True)
class Step:
    """One iteration, as losses see it.

    Args:
        iteration: t.
        images: (B, C, S, S), what the optimiser moves.
        views: (B, C, s, s), what the network saw of them.
        labels: int64 (B,).
        logits: float32 (B, classes).
        measured: statistics by layer number.
        observer: the network.
        view: shows other images under the same crop, flip and roll.
    """

    iteration: int
    images: Tensor
    views: Tensor
    labels: Tensor
    logits: Tensor
    measured: Mapping[int, LayerStatistics]
    observer: Observer
    view: Callable[[Tensor], Tensor]


Loss = Callable[[Step], Tensor]
Watch = Callable[[int, Mapping[str, Tensor], Tensor], None]


@dataclass(frozen=True)
class Objective:
    """What stays the same over the iterations of one batch of images.

    Args:
        recovery: the numbers.
        space: of the images.
        labels: int64 (B,), on the device.
        observers: answer in turn: iteration t asks number t mod their count.
        views: what they see.
        whole: side of a whole image in pixels; smaller images are shown smaller (see `Observer.size_of`).
        losses: further terms of the loss, by name, their weights included.
        watch: is told iteration, terms of the loss and images after each iteration; reading them waits for the device.
    """

    recovery: Recovery
    space: NormalisedSpace
    labels: Tensor
    observers: Sequence[Observer]
    views: Views
    whole: int
    losses: Mapping[str, Loss] = field(default_factory=dict)
    watch: Watch | None = None


def look(objective: Objective, images: Tensor, iteration: int) -> Step:
    """Show the images to the network whose turn it is."""
    observer = objective.observers[iteration % len(objective.observers)]
    view = partial(objective.views, iteration=iteration, size=observer.size_of(images.shape[-1], objective.whole))
    views = view(images)
    logits, measured = observer(views)
    return Step(iteration, images, views, objective.labels, logits, measured, observer, view)


def terms(objective: Objective, step: Step) -> dict[str, Tensor]:
    """Terms of the loss: cross-entropy, statistics, and what the method adds."""
    ce = cross_entropy(step.logits, step.labels)
    statistics = objective.recovery.stat_weight * step.observer.statistics.loss(step.measured).to(ce)
    return {"ce": ce, "statistics": statistics, **{name: loss(step) for name, loss in objective.losses.items()}}


def cosine(lr: float, iteration: int, iterations: int) -> float:
    """Learning rate of an iteration: from lr towards 0, without warm-up."""
    return 0.5 * lr * (1 + cos(pi * iteration / iterations))


def recover(objective: Objective, images: Tensor, first: int = 0, last: int | None = None) -> Tensor:
    """Move images by Adam until the networks know them, and return the last iterate.

    Args:
        objective: what stays the same.
        images: normalised float32 (B, C, S, S), on the device; not changed.
        first: iteration to begin with, for methods that work in stages, each with a fresh Adam.
        last: iteration to end before; None means all of them.

    Raises:
        DataError: the images are not finite.
    """
    numbers, (low, high) = objective.recovery, objective.space.bounds(images.device)
    images = images.detach().clone().requires_grad_(True)
    optimizer = Adam([images], lr=numbers.lr, betas=numbers.betas)
    for t in range(first, numbers.iterations if last is None else last):
        optimizer.param_groups[0]["lr"] = cosine(numbers.lr, t, numbers.iterations)
        losses = terms(objective, look(objective, images, t))
        (images.grad,) = torch.autograd.grad(torch.stack(list(losses.values())).sum(), images)
        optimizer.step()
        with torch.no_grad():
            images.clamp_(low, high)
        if objective.watch is not None:
            objective.watch(t, losses, images)
        if t % CHECK_EVERY == 0:
            _check(images, t)
    _check(images, t)
    return images.detach()


def _check(images: Tensor, iteration: int) -> None:
    if not torch.isfinite(images).all():
        raise DataError(
            f"Pixels are not finite after iteration {iteration} of the recovery. Give a lower --data.recovery.lr or "
            "--data.recovery.stat_weight, precision fp32, or another teacher."
        )

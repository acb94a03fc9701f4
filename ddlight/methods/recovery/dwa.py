"""DWA: images that begin as real ones, recovered from a network that was moved away from what those satisfy already.

Before a block's first step, with S its real images under the first view, K times

    theta <- theta + (rho / K) g / |g|,   g = d CE(f_theta(S), y) / d theta

Then SRe2L's loop on f_theta, with a weight of its own for the variances of its BatchNorm statistics.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ddlight.core.artefact import Unit
from ddlight.core.errors import UsageError
from ddlight.methods.recovery.engine import (
    STARTS,
    Carried,
    Init,
    Objective,
    Observer,
    RecoveredSynthesiser,
    Recovery,
    Teachers,
    recover,
)
from ddlight.methods.scoring.run import Scoring
from ddlight.networks.teachers import Teacher


def ascend(observer: Observer, views: Tensor, labels: Tensor, steps: int, rho: float) -> None:
    """Move all weights of an observer's network up the loss of some views, by rho / steps a step, in place.

    Args:
        observer: in evaluation mode: its BatchNorm buffers stay.
        views: normalised float32 (B, C, s, s), the same at every step.
        labels: int64 (B,).
        steps: K.
        rho: no less than the distance that the weights end up from where they were.
    """
    weights = list(observer.network.requires_grad_(True).parameters())
    for _ in range(steps):
        loss = cross_entropy(observer(views)[0], labels)
        gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.add_(rho / steps / (norm + 1e-12) * gradient)
    observer.network.requires_grad_(False)


class DWA(RecoveredSynthesiser):
    """Real images that are changed to suit a network which was moved away from them (directed weight adjustment).

    Paper: arXiv 2409.17612; numbers from its code (github.com/AngusDujw/Diversity-Driven-Synthesis): those of CIFAR up
    to 32 pixels, of Tiny-ImageNet up to 64, of ImageNet-1K above.
    Deviation: each block of classes moves the teacher as it was trained, as the paper describes it; the code never
    undoes a move within one ipc index, so that they add up (carry_state).
    Deviation: weights' gradients of the recovery do not enter the moves of later blocks, nor those of the moves the
    images' first step, as they do in the code, which does not clear them.
    Deviation: real images are the dataset's squares (shorter side resized, centre) in random order, not the whole
    image squeezed into a square in the order of a folder's listing; images are kept as PNG, not as JPEG of quality 75.
    Deviation: images of fewer than 32 pixels, for which nothing is published, are mirrored at random as well; CIFAR's
    are only rolled.

    Args:
        teacher: a trained network with BatchNorm layers; null takes torchvision's ResNet-18 (IMAGENET1K_V1) for
            ImageNet-1K and trains one on any other dataset.
        squeeze: how the teacher is trained where none is given; a null student takes a ResNet-18.
        init: images begin as random real ones, as published, or as noise.
        steps: K, moves of the weights; null takes 15 for images above 64 pixels and 12 below, 0 moves nothing.
        rho: distance of all moves of a block together.
        carry_state: let the moves of the blocks of one ipc index add up, as the code does; such blocks are one unit.
    """

    recipe_version: ClassVar[int] = 2

    def __init__(
        self,
        *args: Any,
        teacher: Teacher | None = None,
        squeeze: Scoring = Scoring(clean=0),
        init: Init = "real",
        steps: int | None = None,
        rho: float = 0.015,
        carry_state: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if rho < 0 or (steps is not None and steps < 0):
            raise UsageError(f"steps and rho are 0 or more; given: steps={steps}, rho={rho}.")
        self.teacher, self.squeeze, self.init = teacher, squeeze, init
        self.steps, self.rho, self.carry_state = steps, rho, carry_state
        self.networks, self.start = Teachers(self, [teacher], [squeeze]), STARTS[init](self)

    def published(self) -> Recovery:
        """The numbers of ImageNet-1K, Tiny-ImageNet or CIFAR, by the images' size."""
        if self.dataset.info.size <= 32:
            mirrored = self.dataset.info.size < 32
            return Recovery(1000, lr=0.25, var_weight=11.0, roll=4, min_crop=0.0, flip=mirrored)
        if self.dataset.info.size <= 64:
            return Recovery(2000, lr=0.1, var_weight=11.0, roll=4, batch=200)
        return Recovery(2000, lr=0.25, var_weight=2.0)

    @property
    def moves(self) -> int:
        """K."""
        if self.steps is not None:
            return self.steps
        return 12 if self.dataset.info.size <= 64 else 15

    def in_order(self) -> list[list[Unit]]:
        """The blocks of each ipc index: the code has a fresh teacher for each."""
        return [[block for block in self.blocks() if block.images == (k,)] for k in range(self.ipc)]

    def recover(self, objective: Objective, images: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        """Move the teacher, from where the block before left it where state is carried, then recover from it."""
        (observer,) = objective.observers
        if carried:
            observer.network.load_state_dict(carried)
        views = objective.views(images, 0, observer.size_of(objective.whole, objective.whole))
        ascend(observer, views, objective.labels, self.moves, self.rho)
        return recover(objective, images), observer.network.state_dict()

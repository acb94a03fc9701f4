"""TESLA: trajectory matching whose gradient forgets that images move the weights of later steps.

As MTT, with theta_N = theta_0 - alpha G and G the sum of the g_n, gradients at weights theta_n that are held fixed:

    L = || theta_0 - alpha G - theta* ||^2 / D
    dL/dx = sum_n (2 / D) d/dx < alpha (theta* - theta_0) + alpha^2 G, g_n >

Two sweeps forward over the steps give it, and nothing is kept of any of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.func import functional_call

from ddlight.methods.matching.engine import Learned, MatchingSynthesiser, Published
from ddlight.methods.matching.engine.unroll import StepLoss
from ddlight.methods.matching.mtt import PUBLISHED as MTT_NUMBERS
from ddlight.methods.matching.trajectory.experts import ExpertRun, Experts
from ddlight.methods.matching.trajectory.gradient import Matched
from ddlight.methods.matching.trajectory.matching import (
    TINY_MATCH,
    Match,
    MatchOverride,
    TrajectoryMatching,
    published_row,
)
from ddlight.sets.store import Synthesis

PUBLISHED: dict[tuple[str, int], tuple[float, Match]] = {  # as MTT's, where TESLA's readme gives no others
    **MTT_NUMBERS,
    ("CIFAR10", 1): (1e3, Match(50, 2, 5, 1e-2, 1e-7)),
    ("ImageNet1K", 1): (1e4, Match(10, 3, 10, 1e-2, 1e-4, batch=100)),
}


def tesla_gradient(
    inner_loss: StepLoss, learned: Sequence[Tensor], rate: Tensor, start: Tensor, target: Tensor, steps: int
) -> Matched:
    """TESLA's gradient, which is not that of the loss but for N = 1; that of alpha is, G being held fixed.

    Arguments as of `exact_gradient`.
    """
    weights, total = start, torch.zeros_like(start)
    for n in range(steps):
        theta = weights.detach().requires_grad_()
        (slope,) = torch.autograd.grad(inner_loss(n, (theta,)), theta)
        weights, total = weights - rate * slope, total + slope
    missed, distance = weights - target, (start - target).square().sum()
    direction = 2 / distance * (rate * (target - start) + rate**2 * total)
    gradients, weights = [torch.zeros_like(x) for x in learned], start
    for n in range(steps):
        theta = weights.detach().requires_grad_()
        (slope,) = torch.autograd.grad(inner_loss(n, (theta,)), theta, create_graph=True)
        for gradient, part in zip(gradients, torch.autograd.grad(direction @ slope, learned), strict=True):
            gradient += part
        weights = weights - rate * slope.detach()
    return Matched(missed.square().sum() / distance, gradients, -2 * (missed @ total) / distance)


def published_gradient(
    inner_loss: StepLoss, learned: Sequence[Tensor], rate: Tensor, start: Tensor, target: Tensor, steps: int
) -> Matched:
    """What TESLA's code takes: half of the images' gradient, a factor 2 being lost on the way (its issue 5).

    Published learning rates of the images go with it. Arguments as of `exact_gradient`.
    """
    matched = tesla_gradient(inner_loss, learned, rate, start, target, steps)
    return replace(matched, gradients=[gradient / 2 for gradient in matched.gradients])


class TESLA(MatchingSynthesiser):
    """Images matched to experts' trajectories by a gradient that no graph of more than one step is needed for.

    Paper: arXiv 2211.10586, Equation 9; numbers from its code (github.com/justincui03/tesla), else MTT's.
    Deviation: alpha is a softplus, as in `MTT`.

    Args:
        experts: how the experts are trained.
        match: numbers that replace the published ones.
        teacher_label: images have soft labels, what the target expert of the iteration says of them, as published for
            ImageNet-1K; the set keeps those of the last iteration. false gives them their classes.
    """

    learns_lr = True
    tiny: ClassVar[dict[str, Any]] = {**MatchingSynthesiser.tiny, **TINY_MATCH}

    def __init__(
        self,
        *args: Any,
        experts: Experts = Experts(),
        match: MatchOverride = MatchOverride(),
        teacher_label: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.experts, self.match, self.teacher_label = experts, match, teacher_label
        self.label_kind = "probabilities" if teacher_label else "hard"
        self.lr_images, numbers = published_row(PUBLISHED, self.dataset.info, self.ipc)
        self.matching = TrajectoryMatching(self, experts, numbers, match)

    def published(self) -> Published:
        """10,000 iterations from real images."""
        return Published(10_000, self.lr_images, "real")

    @property
    def expert_run(self) -> ExpertRun:
        """The experts."""
        return self.matching.run

    def begin(self) -> Learned:
        """Images and alpha."""
        return self.matching.begin(self.initial())

    @torch.no_grad()
    def targets(self, images: Tensor, iteration: int) -> Tensor:
        """Classes int64 (n,), or what the target expert says of the images as they are: (n, classes)."""
        if not self.teacher_label:
            return self.matching.classes
        _, target = self.matching.ends(iteration)
        network = self.expert_run.network.to(self.device)
        return functional_call(network, self.expert_run.parameters(target), (images,)).softmax(1)

    def step(self, learned: Learned, iteration: int) -> Mapping[str, Tensor]:
        """Match one start."""
        targets = self.targets(learned.images.leaf(), iteration)
        return self.matching.step(learned, iteration, targets.__getitem__, gradient=published_gradient)

    def finish(self, learned: Learned) -> Synthesis:
        """Images with their labels, and alpha."""
        made = replace(super().finish(learned), learned_lr=self.matching.rate(learned).item())
        if not self.teacher_label:
            return made
        return replace(made, labels=self.targets(learned.images.leaf(), self.numbers.iterations - 1).cpu().numpy())

    def graph_images(self) -> float:
        """Those of an inner step."""
        return self.matching.graph_images(self.expected_images)

    def operations(self) -> float:
        """Those of the inner steps."""
        return self.matching.operations(self.expected_images)

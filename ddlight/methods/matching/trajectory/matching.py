"""The iteration of trajectory matching: where it starts, what the student sees, how its learning rate is learned."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import inf, isfinite
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from ddlight.core.errors import DataError, UsageError
from ddlight.core.files import cache_folder
from ddlight.core.override import Overriding, override, replaced
from ddlight.core.randomness import generator
from ddlight.data.table import DatasetInfo
from ddlight.methods.matching.engine import (
    MOMENTUM,
    TWICE,
    Learned,
    LearnedRate,
    MatchingSynthesiser,
    PlainImages,
)
from ddlight.methods.matching.engine.unroll import StepLoss
from ddlight.methods.matching.trajectory.experts import ExpertRun, Experts
from ddlight.methods.matching.trajectory.gradient import Gradient, exact_gradient

SHARPNESS = 10.0
"""The learning rate is a softplus that is straight from a tenth of its first value on."""
ASTRAY = 1000.0
"""A learning rate so many times as large or as small as it began ran away: in published sets it changes severalfold."""
STEP_PASSES = 12.0
"""Operations of an inner step's gradient in units of a forward pass: two sweeps, the second differentiated again."""
TINY_MATCH: dict[str, Any] = {
    "experts": {"count": 1, "epochs": 1},
    "match": {"steps": 2, "passes": 1, "max_start": 1, "min_start": 0, "first_max": 0},
}
"""One expert of one pass, and a start at its beginning, for `--tiny`."""
R = TypeVar("R")


@dataclass(frozen=True)
class Match:
    """Numbers of trajectory matching.

    Args:
        steps: N, inner steps of the student.
        passes: M, passes of the expert that they are to match.
        max_start: passes of the expert before which a start lies.
        rate: learning rate of the inner steps to begin with.
        lr_rate: learning rate of that learning rate.
        batch: images of an inner step; 0 takes all.
        zca: whether images are whitened.
        min_start: passes of the expert from which on a start lies.
        first_max: `max_start` at first, where it grows; 0 where it does not.
        expansion: iterations over which it grows.
        limit: loss above which an iteration changes nothing.
    """

    steps: int
    passes: int
    max_start: int
    rate: float
    lr_rate: float
    batch: int = 0
    zca: bool = False
    min_start: int = 0
    first_max: int = 0
    expansion: int = 1
    limit: float = inf

    def __post_init__(self) -> None:
        """Check the numbers. Raises UsageError."""
        for name, least in (("steps", 1), ("passes", 1), ("batch", 0), ("min_start", 0), ("expansion", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"match.{name} is {getattr(self, name)}; allowed: {least} or more.")
        for name in ("rate", "limit"):
            if not getattr(self, name) > 0:
                raise UsageError(f"match.{name} is {getattr(self, name)}; allowed: above 0.")
        if self.max_at(0) <= self.min_start:
            raise UsageError(
                f"match.min_start is {self.min_start}, and starts lie before {self.max_at(0)}: there is none. Give a "
                "lower --data.match.min_start."
            )

    def max_at(self, iteration: int) -> int:
        """Passes before which the start of an iteration lies."""
        if not self.first_max:
            return self.max_start
        return min(self.max_start, self.first_max + (self.max_start - self.first_max) * iteration // self.expansion)


@override(Match)
class MatchOverride(Overriding):
    """Numbers that replace the published ones; null keeps them."""


def published_row(table: Mapping[tuple[str, int], R], info: DatasetInfo, ipc: int) -> R:
    """The row of a table for a dataset and ipc.

    Datasets without rows take those of TinyImageNet from 48 pixels on, of CIFAR100 from 50 classes on, else of CIFAR10;
    between ipc's the next smaller one counts, below all the smallest.
    """
    like = "TinyImageNet" if info.size >= 48 else "CIFAR100" if info.num_classes >= 50 else "CIFAR10"
    names = [name for name, _ in table]
    name = info.name if info.name in names else like if like in names else names[0]
    known = sorted(k for row, k in table if row == name)
    return table[name, max((k for k in known if k <= ipc), default=known[0])]


class TrajectoryMatching:
    """What MTT and the methods after it share of an iteration.

    Args:
        data: the set; the numbers choose its space, since images that are whitened are so from the start.
        experts: how the experts are trained.
        published: the paper's numbers.
        given: numbers that replace them.

    Raises:
        UsageError: starts and targets lie beyond the experts' last pass.
    """

    def __init__(self, data: MatchingSynthesiser, experts: Experts, published: Match, given: MatchOverride) -> None:
        self.data, self.experts, self.augment = data, experts, data.augmentation()
        colour = data.dataset.info.channels > 1
        self.match = match = replaced(replace(published, zca=published.zca and colour), given.given())
        data.space = "zca" if match.zca else "normalised"
        self.ends: Callable[[int], tuple[Tensor, Tensor]] = lru_cache(1)(self._ends)
        if (last := match.max_start - 1 + match.passes) > experts.epochs:
            raise UsageError(
                f"Starts before pass {match.max_start} are matched {match.passes} passes later, up to pass {last}, and "
                f"experts have {experts.epochs}. Give --data.match.max_start={experts.epochs + 1 - match.passes} or "
                f"less, or --data.experts.epochs={last} or more."
            )

    @cached_property
    def run(self) -> ExpertRun:
        """The experts."""
        data = self.data
        return ExpertRun(self.experts, data.network, data.dataset, data.space, data.seed, cache_folder(data.cache))

    @cached_property
    def verified(self) -> ExpertRun:
        """The experts, after every file of theirs was checked."""
        self.run.verified()
        return self.run

    def begin(self, images: Tensor) -> Learned:
        """Images and the learning rate, each with its SGD."""
        kept, start = PlainImages(images), torch.tensor(self.match.rate, device=images.device)
        rate = LearnedRate(start, SHARPNESS / self.match.rate)
        learned = Learned(
            kept,
            images=SGD(kept.parameters(), lr=self.data.numbers.lr, momentum=MOMENTUM),
            rate=SGD(rate.parameters(), lr=self.match.lr_rate, momentum=MOMENTUM),
        )
        learned.rate = rate
        return learned

    def rate(self, learned: Learned) -> Tensor:
        """The learning rate of the inner steps, which is learned."""
        return learned.get_submodule("rate")()  # type: ignore[no-any-return]

    def _ends(self, iteration: int) -> tuple[Tensor, Tensor]:
        """Weights of an expert where the student starts, and where it is to arrive: the experts in turn, shuffled."""
        seed, match = self.data.seed, self.match
        again, place = divmod(iteration, self.experts.count)
        number = generator(seed, "matching expert", again).permutation(self.experts.count)[place]
        first = int(generator(seed, "matching start", iteration).integers(match.min_start, match.max_at(iteration)))
        start, target = self.verified.weights(int(number), first, first + match.passes, device=self.data.device)
        return start, target

    def chunks(self, images: int, iteration: int) -> list[Tensor]:
        """Rows of each inner step: parts of a random order, from its end; a new order where it is used up."""
        rng, chunks = generator(self.data.seed, "matching chunks", iteration), list[np.ndarray]()
        size, found = self.match.batch or images, []
        for _ in range(self.match.steps):
            if not chunks:
                order = rng.permutation(images)
                chunks = [order[start : start + size] for start in range(0, images, size)]
            found.append(torch.from_numpy(chunks.pop()).to(self.data.device))
        return found

    @cached_property
    def classes(self) -> Tensor:
        """Classes of all images of the set, learned class after class: int64 (n,)."""
        return torch.from_numpy(self.data.labels(self.data.expected_images)).to(self.data.device)

    def inner_loss(
        self, images: Tensor, frozen: Tensor | None, target_of: Callable[[Tensor], Tensor], iteration: int
    ) -> StepLoss:
        """Cross-entropy of each inner step; arguments as of `step`."""
        count = len(images) + (0 if frozen is None else len(frozen))
        chunks, network = self.chunks(count, iteration), self.run.network.to(self.data.device)

        def loss(n: int, weights: tuple[Tensor, ...]) -> Tensor:
            shown = images if frozen is None else torch.cat([images, frozen])
            views = self.augment.each(shown[chunks[n]], iteration, n)
            logits = functional_call(network, self.run.parameters(weights[0]), (views,))
            return cross_entropy(logits, target_of(chunks[n]))

        return loss

    def step(
        self,
        learned: Learned,
        iteration: int,
        target_of: Callable[[Tensor], Tensor],
        frozen: Tensor | None = None,
        gradient: Gradient = exact_gradient,
    ) -> dict[str, Tensor]:
        """One iteration: move images, labels where they are learned, and the learning rate.

        Args:
            learned: as `begin` gave it; its attribute `labels` is moved too, where there is one.
            iteration: its number.
            target_of: classes or probabilities of some rows.
            frozen: images (n, C, S, S) after the learned ones that the student sees and nothing moves.
            gradient: how the gradient is taken.

        Returns:
            The loss, and the learning rate before the iteration.

        Raises:
            DataError: the loss is not finite, or the learning rate ran away.
        """
        leaf, rate = learned.images.leaf(), self.rate(learned)
        moved = [leaf, *(p for name, p in learned.named_parameters() if name == "labels")]
        inner_loss = self.inner_loss(leaf, frozen, target_of, iteration)
        matched = gradient(inner_loss, moved, rate.detach(), *self.ends(iteration), self.match.steps)
        loss, alpha, first = matched.loss.item(), rate.item(), self.match.rate
        if not (isfinite(loss) and first / ASTRAY <= alpha <= first * ASTRAY):
            raise DataError(
                f"The loss is {loss:.3g} at iteration {iteration} of {type(self.data).__name__}, with a learning rate "
                f"of {alpha:.3g} that began at {first:g}: it ran away. Give a lower --data.match.lr_rate (it is "
                f"{self.match.lr_rate:g}) or --data.lr (it is {self.data.numbers.lr:g})."
            )
        if loss <= self.match.limit:
            for tensor, found in zip(moved, matched.gradients, strict=True):
                tensor.grad = found
            rate.backward(matched.rate_gradient)
            learned.move(leaf)
        return {"loss": matched.loss, "rate": rate.detach()}

    def step_images(self, images: int) -> int:
        """Images of an inner step of a set of `images`."""
        return min(self.match.batch or images, images)

    def graph_images(self, images: int) -> float:
        """Images of an inner step, whose gradient is differentiated, as `MatchingSynthesiser.graph_images` counts."""
        return TWICE * self.step_images(images)

    def operations(self, images: int) -> float:
        """Operations of all iterations over a set of `images`."""
        steps = self.data.numbers.iterations * self.match.steps
        return STEP_PASSES * steps * self.step_images(images) * self.data.forward_flops

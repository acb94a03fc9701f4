"""MTT: images on which a student goes, in N steps, where experts went on the real data in M passes.

Experts are trained on the real data, and their weights theta*_0, ..., theta*_E are kept after each pass. Each iteration
takes an expert and a pass t < T, lets a student begin at theta*_t and take N steps of SGD on the images, augmented by
DSA, with a learning rate alpha, and moves images and alpha by SGD to lower

    || theta_N - theta*_{t+M} ||^2 / || theta*_t - theta*_{t+M} ||^2
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from ddlight.methods.matching.engine import Learned, MatchingSynthesiser, Published
from ddlight.methods.matching.trajectory.experts import ExpertRun, Experts
from ddlight.methods.matching.trajectory.matching import (
    TINY_MATCH,
    Match,
    MatchOverride,
    TrajectoryMatching,
    published_row,
)
from ddlight.sets.store import Synthesis

PUBLISHED: dict[tuple[str, int], tuple[float, Match]] = {
    # learning rate of the images; N, M, T, alpha at first, its learning rate
    ("CIFAR10", 1): (1e2, Match(50, 2, 2, 1e-2, 1e-7, zca=True)),
    ("CIFAR10", 10): (1e2, Match(30, 2, 20, 1e-3, 1e-5, zca=True)),
    ("CIFAR10", 50): (1e3, Match(30, 2, 40, 1e-3, 1e-5)),
    ("CIFAR100", 1): (1e3, Match(20, 3, 20, 1e-2, 1e-5, zca=True)),
    ("CIFAR100", 10): (1e3, Match(20, 2, 20, 1e-2, 1e-5)),
    ("CIFAR100", 50): (1e3, Match(80, 2, 40, 1e-2, 1e-5, batch=125, zca=True)),
    ("TinyImageNet", 1): (1e4, Match(10, 2, 10, 1e-2, 1e-4)),
    ("TinyImageNet", 10): (1e4, Match(20, 2, 40, 1e-2, 1e-4, batch=200)),
    ("TinyImageNet", 50): (1e4, Match(20, 2, 40, 1e-2, 1e-4, batch=300)),
}


class MTT(MatchingSynthesiser):
    """Images that train a student along the trajectories of experts trained on the real data (trajectory matching).

    Paper: arXiv 2203.11932, Equation 2; numbers of its authors as DC-bench lists them (justincui03/dc_benchmark), for
    datasets without numbers those of the nearest that has some, grey images never whitened.
    Deviation: alpha is a softplus, which is alpha itself from a tenth of its first value on, and never falls below 0,
    where the code's may; iterations are counted, where the code takes the best of many on the test images.

    Args:
        experts: how the experts are trained.
        match: numbers that replace the published ones.
    """

    learns_lr = True
    tiny: ClassVar[dict[str, Any]] = {**MatchingSynthesiser.tiny, **TINY_MATCH}

    def __init__(
        self, *args: Any, experts: Experts = Experts(), match: MatchOverride = MatchOverride(), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.experts, self.match = experts, match
        self.lr_images, numbers = published_row(PUBLISHED, self.dataset.info, self.ipc)
        self.matching = TrajectoryMatching(self, experts, numbers, match)

    def published(self) -> Published:
        """5,000 iterations from real images."""
        return Published(5000, self.lr_images, "real")

    @property
    def expert_run(self) -> ExpertRun:
        """The experts."""
        return self.matching.run

    def begin(self) -> Learned:
        """Images and alpha."""
        return self.matching.begin(self.initial())

    def step(self, learned: Learned, iteration: int) -> Mapping[str, Tensor]:
        """Match one start."""
        return self.matching.step(learned, iteration, self.matching.classes.__getitem__)

    def finish(self, learned: Learned) -> Synthesis:
        """Images with hard labels, and alpha."""
        return replace(super().finish(learned), learned_lr=self.matching.rate(learned).item())

    def graph_images(self) -> float:
        """Those of an inner step."""
        return self.matching.graph_images(self.expected_images)

    def operations(self) -> float:
        """Those of the inner steps."""
        return self.matching.operations(self.expected_images)

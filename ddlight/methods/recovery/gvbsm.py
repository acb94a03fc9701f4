"""G-VBSM: images that several networks know, whose statistics match in every layer, and that differ within a class.

Noise X of several images y of several classes is moved by Adam to lower, one network f of several after another,

    CE(f(v(X)), y) + r sum_l w_l d_l(X) + nu sum_c KL(softmax(e_c / tau) | softmax(e_c))

with v a random crop, flip and roll of the whole batch, and
    d_l  distance of what enters BatchNorm layer or convolution l to what the real images give there: mean and variance
         by channel, for convolutions by patch too, averaged over iterations (`SmoothedStatistics`)
    e_c  eigenvalues of the Gram matrix of the views of class c: data densification, which wants a flat spectrum.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddlight.core.artefact import Unit
from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.methods.recovery.engine import (
    LARGE_TEACHERS,
    TINY_TEACHERS,
    GatheredStatistics,
    Loss,
    RecoveredSynthesiser,
    Recovery,
    SmoothedStatistics,
    Start,
    Teachers,
    photographs,
    students,
)
from ddlight.methods.scoring.run import Scoring
from ddlight.networks.teachers import Teacher

POOLED = 32
"""Views are averaged down to this side in pixels before they are compared."""


def together(labels: Tensor) -> list[Tensor]:
    """Positions of the images of each class, a matrix of one row per class for each number of images: int64 (K, n)."""
    rows = [torch.nonzero(labels == label)[:, 0] for label in labels.unique()]
    sizes = sorted({len(row) for row in rows})
    return [torch.stack([row for row in rows if len(row) == size]) for size in sizes]


def densification(views: Tensor, members: Sequence[Tensor], tau: float) -> Tensor:
    """Sum over classes of KL(softmax(e / tau) | softmax(e)), e the eigenvalues of the Gram matrix of a class's views.

    The first distribution is a target: no gradient flows through it. A class of one view adds 0; so does one whose
    eigenvalues are far apart, as those of large normalised views are: both distributions then sit at the largest.

    Args:
        views: normalised float32 (B, C, S, S).
        members: which of them are of one class, as `together` says.
        tau: temperature of the target.
    """
    flat = F.adaptive_avg_pool2d(views, min(POOLED, views.shape[-1])).flatten(1)
    total = torch.zeros((), device=views.device)
    for rows in members:
        e = torch.linalg.eigvalsh(flat[rows] @ flat[rows].mT)
        target = (e.detach() / tau).log_softmax(1)
        total = total + F.kl_div(e.log_softmax(1), target, reduction="sum", log_target=True)
    return total


class GVBSM(RecoveredSynthesiser):
    """Noise that is moved until several networks know its class and see real statistics in all of their layers.

    Paper: arXiv 2311.17950; numbers from its code (github.com/shaoshitong/G_VBSM_Dataset_Condensation), images up to 95
    pixels as its CIFAR and Tiny-ImageNet scripts have them.
    Deviation: running means of statistics begin anew with each block of images, so that blocks are independent; the
    code never resets them (carry_state). Blocks are class after class at every size; the script for Tiny-ImageNet takes
    one image of each class in turn at 10 images per class, with which data densification has nothing to spread.
    Deviation: small images are rolled by any number of pixels, but not first moved inside a frame of zeros; images are
    kept as PNG, not as JPEG of quality 75. Crops of real images, whose statistics are matched, are taken from the
    dataset's squares. See also `engine.gathered` (variances) and `engine.teachers`.
    The published `recovery.batch`, the images whose statistics count together, is split over GPUs by the code: 40 on
    two of them.

    Args:
        teachers: trained networks, asked in turn; null takes torchvision's ResNet-18, MobileNetV2, EfficientNet-B0 and
            ShuffleNetV2-x0.5 (IMAGENET1K_V1) for ImageNet-1K and trains four on any other dataset.
        squeezes: how teachers are trained where none are given; null trains those four from 96 pixels on, and a
            ResNet-18 and three ConvNets with BatchNorm below.
        momentum: of the running means of statistics; null takes 0.4, and 0.8 below 96 pixels, 0 has none.
        drop_rate: probability that a convolution is left out at an iteration (beta_dr); null takes 0, and 0.4 below 96
            pixels, as the code does. The paper's value for ImageNet-1K is not known to us.
        density: nu, weight of the data densification; 0 leaves it out.
        tau: temperature of its target.
        carry_state: let running means go on from block to block, as the code does; all blocks are then one unit.
    """

    recipe_version: ClassVar[int] = 2
    tiny: ClassVar[dict[str, Any]] = {**TINY_TEACHERS, "recovery": {"iterations": 4, "batch": 40}}
    matched = SmoothedStatistics
    class_after_class = True

    def __init__(
        self,
        *args: Any,
        teachers: list[Teacher] | None = None,
        squeezes: list[Scoring] | None = None,
        momentum: float | None = None,
        drop_rate: float | None = None,
        density: float = 1.0,
        tau: float = 4.0,
        carry_state: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if drop_rate is not None and not 0 <= drop_rate < 1:
            raise UsageError(f"drop_rate is {drop_rate}; allowed: 0 or more, below 1.")
        if density < 0 or tau <= 0:
            raise UsageError(f"density is 0 or more and tau above 0; given: density={density}, tau={tau}.")
        self.teachers, self.squeezes, self.carry_state = teachers, squeezes, carry_state
        self.momentum, self.drop_rate, self.density, self.tau = momentum, drop_rate, density, tau
        self.networks = Teachers(self, teachers, squeezes, LARGE_TEACHERS, students(self.dataset))
        self.start, self.gathered = Start(self), GatheredStatistics(self, momentum)
        self.parts = [self.gathered]

    def published(self) -> Recovery:
        """4,000 iterations; the numbers of ImageNet-1K, or of CIFAR and Tiny-ImageNet for small images."""
        if not photographs(self.dataset):
            roll = min(32, self.dataset.info.size - 1)
            return Recovery(4000, lr=0.05, batch=100, min_crop=0.0, roll=roll)
        return Recovery(4000, lr=0.1, batch=80 if self.dataset.num_classes > 10 else 100)

    @property
    def used_momentum(self) -> float:
        """Momentum of the running means; the code's where none is given."""
        return (0.4 if photographs(self.dataset) else 0.8) if self.momentum is None else self.momentum

    @property
    def dropped(self) -> float:
        """Probability that a convolution is left out."""
        return (0.0 if photographs(self.dataset) else 0.4) if self.drop_rate is None else self.drop_rate

    def statistics(self, network: nn.Module, number: int, block: Unit) -> SmoothedStatistics:
        """Statistics over all real images."""
        return SmoothedStatistics(
            network,
            self.numbers.first_weight,
            self.numbers.var_weight,
            self.gathered.patch,
            real=self.gathered.real[number].of_all(self.device),
            momentum=self.used_momentum,
            drop_rate=self.dropped,
            rng=generator(self.seed, "dropped layers", block.number, number),
        )

    def losses(self, block: Unit) -> dict[str, Loss]:
        """Data densification."""
        if not self.density:
            return {}
        members = together(torch.from_numpy(self.labels(block)).to(self.device))
        return {"density": lambda step: self.density * densification(step.views, members, self.tau)}

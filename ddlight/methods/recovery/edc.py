"""EDC: mosaics of real patches, moved a little by G-VBSM's matching, with statistics of classes and a flatness term.

begin      images drawn from RDED's mosaics of their class, mirrored at random
step       one network f of several after another, under a mild random crop and flip v of the whole batch:
           CE(f(v(X)), y) + r sum_l w_l ((1 - a) d_l(X) + a d'_l(X)) + w KL(f(v(X')) | f(v(X)))
d_l, d'_l  distances of what enters layer l to what all real images, and those of the batch's classes, give there
X'         running mean of the images: a flat loss is one that differs little between X and X'
"""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddlight.core.artefact import Unit
from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.data.base import RealDataset
from ddlight.methods.base import Synthesiser
from ddlight.methods.patches.rded import RDED, PatchSynthesiser
from ddlight.methods.recovery.engine import (
    LARGE_TEACHERS,
    TINY_TEACHERS,
    CategoryStatistics,
    GatheredStatistics,
    Loss,
    PatchImages,
    RecoveredSynthesiser,
    Recovery,
    Step,
    Teachers,
    photographs,
    students,
)
from ddlight.methods.scoring.run import Scoring
from ddlight.networks.teachers import Teacher
from ddlight.views.crop import flip

FLAT_BETA, FLAT_TAU = 0.99, 4.0
"""Momentum of the images' running mean, and temperature of the distributions that are compared (paper, Tables 6, 7)."""


class Flatness:
    """EDC's flatness term: KL from what a network says of the images' running mean to what it says of the images.

    w KL(softmax(f(v(X')) / tau) | softmax(f(v(X)) / tau)), a mean over images; then X' <- beta X' + (1 - beta) X. X'
    begins as X; no gradient flows through it. Equation 7 of arXiv 2404.13733.
    Deviation: the code for small images also divides by the number of classes, unlike the paper and its own code for
    photographs.

    Args:
        weight: w.
        beta: momentum of the running mean.
        tau: temperature.
    """

    def __init__(self, weight: float, beta: float = FLAT_BETA, tau: float = FLAT_TAU) -> None:
        self.weight, self.beta, self.tau = weight, beta, tau
        self.images: Tensor | None = None

    def __call__(self, step: Step) -> Tensor:
        """The term, its weight included; moves the running mean on."""
        now = step.images.detach()
        before = now if self.images is None else self.images
        with torch.no_grad():
            target = (step.observer(step.view(before), measure=False)[0] / self.tau).log_softmax(1)
        self.images = self.beta * before + (1 - self.beta) * now
        answer = (step.logits / self.tau).log_softmax(1)
        return self.weight * F.kl_div(answer, target, reduction="batchmean", log_target=True)


def few(dataset: RealDataset) -> bool:
    """Whether the numbers are those of ImageNet-10."""
    return photographs(dataset) and dataset.num_classes <= 10


def draw(count: int, pool: int, balanced: bool, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` of `pool` images with replacement: int64 (count,).

    Args:
        count: number of draws.
        pool: number of images to draw from.
        balanced: draw image i with probability softmax(-n)_i, n how often each was drawn before; else all alike.
        rng: generator.
    """
    if not balanced:
        return rng.integers(pool, size=count)
    times, drawn = np.zeros(pool), np.empty(count, np.int64)
    for k in range(count):
        odds = np.exp(times.min() - times)
        drawn[k] = rng.choice(pool, p=odds / odds.sum())
        times[drawn[k]] += 1
    return drawn


class DrawnImages(PatchImages):
    """Images drawn with replacement among RDED's mosaics of their class, or its real images, some of them mirrored.

    Args:
        data: the set that begins with them.
        teachers: of that set; the first chooses the mosaics' patches.
        kind: "mosaic" or "real".
        draw: "uniform" or "balanced"; None takes balanced up to ten classes of photographs.
    """

    fact = "mosaics"

    def __init__(self, data: Synthesiser, teachers: Teachers, kind: str, draw: str | None) -> None:
        super().__init__(data, teachers, kind)
        self.draw = draw

    def options(self) -> tuple[type[PatchSynthesiser], dict[str, Any]] | None:
        """RDED as it is, or none."""
        return (RDED, {}) if self.kind == "mosaic" else None

    @property
    def sources(self) -> int:  # type: ignore[override]
        """As many as a mosaic has tiles."""
        return self.patches.tile_factor**2 if self.patches else 1

    def check(self) -> None:
        """Raise UsageError where a class has too few images for the mosaics."""
        if self.patches:
            self.patches.layout.require()

    def facts(self) -> dict[str, Any]:
        """The mosaics that images began with."""
        return super().facts() if self.patches else {}

    def drawn(self, label: int, pool: int) -> tuple[np.ndarray, np.ndarray]:
        """Which of a class's `pool` images its ipc images begin with, and which of those are mirrored: (ipc,) each."""
        dataset, ipc = self.data.dataset, self.data.ipc
        rng = generator(self.data.seed, "initial images", label)
        balanced = few(dataset) if self.draw is None else self.draw == "balanced"
        return draw(ipc, pool, balanced, rng), (rng.random(ipc) < 0.5) & dataset.info.flip

    def __call__(self, number: int, places: np.ndarray) -> np.ndarray:
        """Mosaics or real images of the block's classes, some mirrored: uint8."""
        ipc, parts, real = self.data.ipc, [], self.data.dataset.index("train").labels
        for label in np.unique(places // ipc).tolist():
            chosen = places[places // ipc == label] % ipc
            pool = label * ipc + np.arange(ipc) if self.patches else np.flatnonzero(real == label)
            rows, mirrored = self.drawn(label, len(pool))
            images = torch.from_numpy(self.taken(pool[rows[chosen]]))
            parts.append(flip(images, mirrored[chosen]))
        return torch.cat(parts).numpy()


class EDC(RecoveredSynthesiser):
    """Mosaics of realistic patches that are changed to meet statistics of their classes in several networks.

    Paper: arXiv 2404.13733; numbers from its Tables 6 and 7, and from its code (github.com/shaoshitong/EDC) where the
    paper is silent. Where the two differ, `length`, `category`, `patch_targets` and `flatness` name both.
    Deviation: running means of statistics begin anew with each block of images, so that blocks are independent; the
    code never resets them (carry_state).
    Deviation: mosaics are those of method RDED from the first teacher. The code's own are chosen by four teachers
    together, from several views of one image too. Images are kept as PNG, not as JPEG of quality 75. Crops of real
    images, whose statistics are matched, are taken from the dataset's squares. See also `engine.gathered` (variances)
    and `engine.teachers`.
    The published `recovery.batch`, the images whose statistics count together, is split over GPUs by the code: 20 on
    four of them.

    Args:
        teachers: trained networks, asked in turn, of which the first chooses the mosaics' patches; null takes
            torchvision's ResNet-18, MobileNetV2, EfficientNet-B0, ShuffleNetV2-x0.5 and AlexNet (IMAGENET1K_V1) for
            ImageNet-1K and trains four on any other dataset.
        squeezes: how teachers are trained where none are given; null trains the first four of those from 96 pixels on,
            and a ResNet-18 and three ConvNets with BatchNorm below.
        length: iterations of the "paper" (2,000) or of the released "script" (1,000; 50 up to ten classes of 96 pixels
            or more). Which of them gave the published accuracy is not known. Small images have the script's.
        momentum: of the running means of statistics; null takes 0.8, and 0 up to ten classes of 96 pixels or more.
        init: begin with RDED's mosaics, as published, or with real images, as the script for CIFAR-10.
        draw: how images are drawn to begin with, always with replacement: "uniform", or "balanced", which prefers those
            that were drawn less often; null takes balanced up to ten classes of 96 pixels or more, as the code does.
        category_share: a, share of the classes' statistics in the matching (the paper's 1 - alpha, both 0.5).
        category: "mean": all images of a block together against the mean of their classes' statistics (code);
            "classes": the images of each class against its own, added up (paper).
        patch_targets: "right", or "swapped": classes' means of patches are matched with variances and variances with
            means, as the code does, which saves them under each other's name. Deviation: right by default.
        flatness: w, weight of the flatness term: 0.25 in the paper; 0 leaves it out, as all published scripts do.
        carry_state: let running means go on from block to block, as the code does; all blocks are then one unit.
    """

    recipe_version: ClassVar[int] = 2
    tiny: ClassVar[dict[str, Any]] = {**TINY_TEACHERS, "recovery": {"iterations": 4, "batch": 40}}
    matched = CategoryStatistics
    class_after_class = True

    def __init__(
        self,
        *args: Any,
        teachers: list[Teacher] | None = None,
        squeezes: list[Scoring] | None = None,
        length: Literal["paper", "script"] = "paper",
        momentum: float | None = None,
        init: Literal["mosaic", "real"] = "mosaic",
        draw: Literal["uniform", "balanced"] | None = None,
        category_share: float = 0.5,
        category: Literal["mean", "classes"] = "mean",
        patch_targets: Literal["right", "swapped"] = "right",
        flatness: float = 0.25,
        carry_state: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if not 0 <= category_share <= 1 or flatness < 0:
            raise UsageError(
                f"category_share is 0 to 1 and flatness 0 or more; given: category_share={category_share}, "
                f"flatness={flatness}."
            )
        self.teachers, self.squeezes, self.carry_state = teachers, squeezes, carry_state
        self.length, self.momentum, self.init, self.draw, self.flatness = length, momentum, init, draw, flatness
        self.category_share, self.category, self.patch_targets = category_share, category, patch_targets
        self.networks = Teachers(self, teachers, squeezes, (*LARGE_TEACHERS, "alexnet"), students(self.dataset))
        self.start, self.gathered = DrawnImages(self, self.networks, init, draw), GatheredStatistics(self, momentum)
        self.parts = [self.gathered]
        self.passes = 4.0 if flatness else 3.0  # the flatness term asks the network once more

    def published(self) -> Recovery:
        """The numbers of ImageNet-1K, ImageNet-10, CIFAR-10 (its script's 75 iterations) or CIFAR-100."""
        paper = self.length == "paper"
        if few(self.dataset):
            return Recovery(2000 if paper else 50, lr=0.05, batch=100, stat_weight=0.01, min_crop=0.5, roll=0)
        if photographs(self.dataset):
            return Recovery(2000 if paper else 1000, lr=0.05, batch=80, stat_weight=0.1, min_crop=0.5, roll=0)
        if self.dataset.info.size <= 32 and self.dataset.num_classes <= 10:
            return Recovery(75, lr=0.05, batch=100, stat_weight=0.01, min_crop=0.08, roll=0)
        return Recovery(2000, lr=0.05, batch=100, stat_weight=0.01, min_crop=0.5, roll=0)

    @property
    def used_momentum(self) -> float:
        """Momentum of the running means; the scripts' where none is given."""
        return (0.0 if few(self.dataset) else 0.8) if self.momentum is None else self.momentum

    def statistics(self, network: nn.Module, number: int, block: Unit) -> CategoryStatistics:
        """Statistics over all real images, and over those of the block's classes."""
        real, labels = self.gathered.real[number], self.labels(block)
        categories = real.of_classes(np.unique(labels), self.device)
        if self.patch_targets == "swapped":
            categories = {k: (*s[:2], *reversed(s[2:])) for k, s in categories.items()}
        return CategoryStatistics(
            network,
            self.numbers.first_weight,
            self.numbers.var_weight,
            self.gathered.patch,
            real=real.of_all(self.device),
            momentum=self.used_momentum,
            labels=torch.from_numpy(labels).to(self.device),
            categories=categories,
            share=self.category_share,
            each=self.category == "classes",
        )

    def losses(self, block: Unit) -> dict[str, Loss]:
        """The flatness term, its running mean anew for each block."""
        return {"flatness": Flatness(self.flatness)} if self.flatness else {}

"""EDC: mosaics of real patches, moved a little by G-VBSM's matching, with statistics of classes and a flatness term.

begin      images drawn from RDED's mosaics of their class, mirrored at random
step       one network f of several after another, under a mild random crop and flip v of the whole batch:
           CE(f(v(X)), y) + r sum_l w_l ((1 - a) d_l(X) + a d'_l(X)) + w KL(f(v(X')) | f(v(X)))
d_l, d'_l  distances of what enters layer l to what all real images, and those of the batch's classes, give there
X'         running mean of the images: a flat loss is one that differs little between X and X'
"""

from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddlight.core.artefact import Unit
from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.data.base import RealDataset
from ddlight.methods.patches.mosaic import MosaicSynthesiser
from ddlight.methods.patches.rded import RDED
from ddlight.methods.recovery.engine.gathered import RealStatistics
from ddlight.methods.recovery.engine.loop import Loss, Step
from ddlight.methods.recovery.engine.matched import LARGE_TEACHERS, MatchedSynthesiser
from ddlight.methods.recovery.engine.matching import CategoryStatistics
from ddlight.methods.recovery.engine.options import Recovery, RecoveryOverride
from ddlight.methods.scoring.run import Scoring
from ddlight.networks.teachers import Teacher
from ddlight.views.crop import flip
from ddlight.views.pixels import Encoded

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
        found = (step.logits / self.tau).log_softmax(1)
        return self.weight * F.kl_div(found, target, reduction="batchmean", log_target=True)


def draw(count: int, there: int, balanced: bool, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` of `there` images with replacement: int64 (count,).

    Args:
        count: number of draws.
        there: images to draw from.
        balanced: draw image i with probability softmax(-n)_i, n how often each was drawn before; else all alike.
        rng: generator.
    """
    if not balanced:
        return rng.integers(there, size=count)
    times, drawn = np.zeros(there), np.empty(count, np.int64)
    for k in range(count):
        odds = np.exp(times.min() - times)
        drawn[k] = rng.choice(there, p=odds / odds.sum())
        times[drawn[k]] += 1
    return drawn


class EDC(MatchedSynthesiser):
    """Mosaics of realistic patches that are changed to meet statistics of their classes in several networks.

    Paper: arXiv 2404.13733; numbers from its Tables 6 and 7, and from its code (github.com/shaoshitong/EDC) where the
    paper is silent. Where the two differ, `length`, `category`, `patch_targets` and `flatness` name both.
    Deviation: running means of statistics begin anew with each block of images, so that blocks are independent; the
    code never resets them (carry_state).
    Deviation: mosaics are those of method RDED from the first teacher. The code's own are chosen by four teachers
    together, from several views of one image too. Images are kept as PNG, not as JPEG of quality 75. Crops of real
    images, whose statistics are matched, are taken from the dataset's squares. See also `engine.gathered` (variances)
    and `engine.matched` (teachers).

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of the mosaics, of the teachers that are trained for it, where those have none of their own, and of every
            draw.
        cache: folder of condensed sets; that of the mosaics is made there too.
        teachers: trained networks, asked in turn, of which the first chooses the mosaics' patches; null takes
            torchvision's ResNet-18, MobileNetV2, EfficientNet-B0, ShuffleNetV2-x0.5 and AlexNet (IMAGENET1K_V1) for
            ImageNet-1K and trains four on any other dataset.
        squeezes: how teachers are trained where none are given; null trains the first four of those from 96 pixels on,
            and a ResNet-18 and three ConvNets with BatchNorm below.
        recovery: numbers that replace the published ones; batch is the number of images whose statistics count
            together, which the code splits over its GPUs: 20 on four of them.
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

    torchvision = (*LARGE_TEACHERS, "alexnet")

    def __init__(
        self,
        dataset: RealDataset,
        ipc: int = 10,
        seed: int = 0,
        cache: str | None = None,
        teachers: list[Teacher] | None = None,
        squeezes: list[Scoring] | None = None,
        recovery: RecoveryOverride = RecoveryOverride(),  # noqa: B008  frozen
        length: Literal["paper", "script"] = "paper",
        momentum: float | None = None,
        init: Literal["mosaic", "real"] = "mosaic",
        draw: Literal["uniform", "balanced"] | None = None,
        category_share: float = 0.5,
        category: Literal["mean", "classes"] = "mean",
        patch_targets: Literal["right", "swapped"] = "right",
        flatness: float = 0.25,
        carry_state: bool = False,
    ) -> None:
        super().__init__(dataset, ipc, seed, cache, teachers, squeezes, recovery, momentum, carry_state)
        if not 0 <= category_share <= 1 or flatness < 0:
            raise UsageError(
                f"category_share is 0 to 1 and flatness 0 or more; given: category_share={category_share}, "
                f"flatness={flatness}."
            )
        self.length, self.init, self.draw = length, init, draw
        self.category_share, self.category, self.patch_targets = category_share, category, patch_targets
        self.flatness = flatness

    @property
    def few(self) -> bool:
        """Whether the numbers are those of ImageNet-10."""
        return self.large and self.dataset.num_classes <= 10

    def published(self) -> Recovery:
        """The numbers of ImageNet-1K, ImageNet-10, CIFAR-10 (its script's 75 iterations) or CIFAR-100."""
        paper = self.length == "paper"
        if self.few:
            return Recovery(2000 if paper else 50, lr=0.05, batch=100, stat_weight=0.01, min_crop=0.5, roll=0)
        if self.large:
            return Recovery(2000 if paper else 1000, lr=0.05, batch=80, stat_weight=0.1, min_crop=0.5, roll=0)
        if self.dataset.info.size <= 32 and self.dataset.num_classes <= 10:
            return Recovery(75, lr=0.05, batch=100, stat_weight=0.01, min_crop=0.08, roll=0)
        return Recovery(2000, lr=0.05, batch=100, stat_weight=0.01, min_crop=0.5, roll=0)

    @property
    def published_momentum(self) -> float:
        """The scripts'."""
        return 0.0 if self.few else 0.8

    # --- where images begin ---

    @cached_property
    def mosaics(self) -> RDED:
        """The set that images are drawn from to begin with; its teacher is the first one."""
        first = (self.ready_made or [run.trained for run in self.scoring_runs])[0]
        return RDED(self.dataset, self.ipc, self.seed, self.cache, first)

    @cached_property
    def _mosaics(self) -> Encoded | Tensor:
        """Its images, class after class: uint8 (classes ipc, C, S, S), in memory where they fit."""
        images = self.mosaics.read().images
        return torch.from_numpy(images) if isinstance(images, np.ndarray) else images

    def prepare(self) -> None:
        """As any matching method; and make the mosaics. Raises UsageError where a class has too few images for them."""
        if self.init == "mosaic":
            MosaicSynthesiser.prepare(self.mosaics)
        super().prepare()
        if self.init == "mosaic":
            self.mosaics.condense()

    def drawn(self, label: int, there: int) -> tuple[np.ndarray, np.ndarray]:
        """Which of a class's `there` images its ipc images begin with, and which of those are mirrored: (ipc,) each."""
        rng = generator(self.seed, "initial images", label)
        balanced = self.few if self.draw is None else self.draw == "balanced"
        return draw(self.ipc, there, balanced, rng), (rng.random(self.ipc) < 0.5) & self.dataset.info.flip

    def initial(self, block: Unit) -> Tensor:
        """Mosaics or real images of the block's classes, some mirrored: normalised float32 (B, C, S, S)."""
        places, parts = self.places(block), []
        for label in block.classes:
            here = places[places // self.ipc == label] % self.ipc
            pool = self._pool(label)
            rows, mirrored = self.drawn(label, len(pool))
            images = torch.from_numpy(self._images(pool[rows[here]]))
            parts.append(flip(images, mirrored[here]))
        return self.pixels.enter(torch.cat(parts).numpy(), self.device)

    def _pool(self, label: int) -> np.ndarray:
        """Positions of a class's images among the mosaics, or in the training split: int64 (n,)."""
        if self.init == "mosaic":
            return np.arange(label * self.ipc, (label + 1) * self.ipc)
        return np.flatnonzero(self.dataset.index("train").labels == label)

    def _images(self, rows: np.ndarray) -> np.ndarray:
        """Mosaics or training images, uint8 (n, C, S, S)."""
        if self.init == "mosaic":
            return self._mosaics[torch.from_numpy(rows)].numpy()
        return self.dataset.take("train", rows)

    @property
    def source_images_per_image(self) -> int:
        """Real images that go into one: as many as a mosaic has tiles."""
        return self.mosaics.tile_factor**2 if self.init == "mosaic" else 1

    # --- what is asked of them ---

    def matching(self, network: nn.Module, real: RealStatistics, block: Unit, number: int) -> CategoryStatistics:
        """Statistics over all real images, and over those of the block's classes."""
        numbers, device, labels = self.numbers, self.device, self.labels(block)
        categories = real.of_classes(np.unique(labels), device)
        if self.patch_targets == "swapped":
            categories = {k: (*s[:2], *reversed(s[2:])) for k, s in categories.items()}
        return CategoryStatistics(
            network,
            numbers.first_weight,
            numbers.var_weight,
            self.patch,
            real.of_all(device),
            self.used_momentum,
            torch.from_numpy(labels).to(device),
            categories,
            self.category_share,
            self.category == "classes",
        )

    def losses(self, block: Unit) -> dict[str, Loss]:
        """The flatness term, its running mean anew for each block."""
        return {"flatness": Flatness(self.flatness)} if self.flatness else {}

    # --- what goes with it ---

    def _operations(self) -> float:
        """As any matching method's; with the passes of the flatness term and of the mosaics' patches."""
        forwards = self._forwards()
        again = self.numbers.iterations * self.expected_images * float(np.mean(forwards)) if self.flatness else 0.0
        scored = self.mosaics.scored_crops * forwards[0] if self.init == "mosaic" else 0.0
        return super()._operations() + again + scored

    def facts(self) -> dict[str, Any]:
        """As any matching method's, with the mosaics that images began with."""
        begun = {"mosaics": self.mosaics.fingerprint} if self.init == "mosaic" else {}
        return {**super().facts(), **begun}

"""IDC: gradient matching of images that hold several smaller ones, in networks that are trained on real images.

One stored image is f x f tiles, each of which networks see at full size (multi-formation). An iteration begins with a
new network and, many times, moves the images of one class after another by SGD to lower

    sum over the network's convolutions of |grad CE(f_w(A(s_c)), c) - grad CE(f_w(A(x_c)), c)|  (or its square)

under one augmentation A of real and synthetic images, and then trains the network on some real images.
"""

from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.methods.base import require_images
from ddlight.methods.matching.dc import gradients
from ddlight.methods.matching.engine import (
    BACKWARD,
    MOMENTUM,
    TWICE,
    Learned,
    MatchingSynthesiser,
    Parametrisation,
    Published,
)
from ddlight.views import dsa, mix
from ddlight.views.normalise import normalise
from ddlight.views.view import to_unit

Metric: TypeAlias = Literal["l1", "mse"]
MOST = 128
"""Images of a class that are matched in one step, drawn where there are more."""
BATCH = 64
"""Real images of the network's batches."""
LR_NET, MOMENTUM_NET, DECAY_NET = 0.01, 0.9, 5e-4
CUTMIX = 0.5
"""Probability that a batch of the network is mixed, by a share that is drawn from Beta(1, 1)."""
GREY = 0.5
"""What fills the last tiles where the side is no multiple of f."""


class MultiFormation(Parametrisation):
    """Images in [0, 1] that are f x f tiles, each of them bilinearly resized to full size.

    Args:
        pixels: float32 (n, C, S, S) in [0, 1].
        factor: f.
        mean: per channel, of images in [0, 1].
        std: per channel.
    """

    def __init__(self, pixels: Tensor, factor: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.pixels, self.factor, self.mean, self.std = nn.Parameter(pixels), factor, mean, std
        self.views = factor**2

    def __len__(self) -> int:
        return len(self.pixels)

    def decoded(self, rows: slice = slice(None)) -> Tensor:
        """Tiles at full size, those of an image together, row by row: (f f n, C, S, S) in [0, 1]."""
        images, f = self.pixels[rows], self.factor
        count, channels, size, _ = images.shape
        tile = -(-size // f)
        padded = F.pad(images, (0, tile * f - size, 0, tile * f - size), value=GREY)
        grid = padded.view(count, channels, f, tile, f, tile).permute(0, 2, 4, 1, 3, 5)
        tiles = grid.reshape(-1, channels, tile, tile)
        return tiles if f == 1 else F.interpolate(tiles, size=size, mode="bilinear", align_corners=False)

    def forward(self, rows: slice = slice(None)) -> Tensor:
        """Tiles at full size, normalised."""
        return normalise(self.decoded(rows), self.mean, self.std)

    def kept(self) -> Tensor:
        """Tiles at full size: what students are to see."""
        with torch.no_grad():
            return self.decoded()


def kernel_distance(one: tuple[Tensor, ...], other: tuple[Tensor, ...], metric: Metric) -> Tensor:
    """Sum of absolute or squared differences of gradients in convolutions' kernels; other weights count nothing."""
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a.dim() == 4]
    differences = torch.cat([(a - b).flatten() for a, b in pairs])
    return (differences.abs() if metric == "l1" else differences.square()).sum()


def augmented(images: Tensor, ops: str, rng: np.random.Generator, shared: bool) -> Tensor:
    """IDC's DSA: flip and colour where they are named, then one of the other operations, then cutout where it is named.

    Args:
        images: normalised (B, C, S, S).
        ops: operations, joined by "_".
        rng: generator.
        shared: whether all images have the same parameters.
    """
    named = dsa.Strategy(ops).ops
    others = [op for op in named if op not in ("flip", "color", "cutout")]
    chosen = [others[int(rng.random() * len(others))]] if others else []
    for op in [op for op in ("flip", "color") if op in named] + chosen + ["cutout"] * ("cutout" in named):
        u = rng.random((1 if shared else len(images), dsa.DSA_UNIFORMS))
        images = dsa.apply(images, op, dsa.parameters(op, u, images.shape[-1]))
    return images


class IDC(MatchingSynthesiser):
    """Mosaics of small images whose gradients match real ones' in networks that learn from real images.

    Paper: arXiv 2205.14959, Algorithm 1; numbers from its code (github.com/snu-mllab/Efficient-Dataset-Condensation):
    those of MNIST and FashionMNIST for grey images, of CIFAR-10 and SVHN for colour, of ImageNet from 96 pixels on.
    The set keeps the decoded images, factor^2 of them for each stored one, as students see them; `ipc` counts stored
    ones. Deviation: the order of flip, colour, the other operations and cutout is ours.

    Args:
        factor: f, tiles per side of a stored image; null takes 2, and 3 from 96 pixels on. 1 is the paper's IDC-I.
        inner: rounds over the classes in an iteration.
        batch_real: real images of a class in a step; all of a class that has fewer.
        real_images: images that the network is trained on after each round; null takes 2,000 for CIFAR, 500 otherwise.
        metric: l1 or mse; null takes mse for colour below 96 pixels and l1 otherwise.
        dsa: operations, such as color_crop_cutout; null takes these, without cutout for MNIST.
        cutmix: whether the network's batches are mixed; null mixes but for MNIST.
    """

    space = "pixel"
    tiny: ClassVar[dict[str, Any]] = {**MatchingSynthesiser.tiny, "inner": 1, "batch_real": 4, "real_images": 16}

    def __init__(
        self,
        *args: Any,
        factor: int | None = None,
        inner: int = 100,
        batch_real: int = 64,
        real_images: int | None = None,
        metric: Metric | None = None,
        dsa: str | None = None,
        cutmix: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.factor, self.inner, self.batch_real, self.real_images = factor, inner, batch_real, real_images
        self.metric, self.dsa, self.cutmix = metric, dsa, cutmix
        self.require_positive("factor", "inner", "batch_real", "real_images")
        info = self.dataset.info
        large, digits = info.size >= 96, info.name == "MNIST"
        self.tiles = factor or (3 if large else 2)
        if self.tiles > info.size // 2:
            raise UsageError(f"factor is {factor}; images of {info.size} pixels allow 1 to {info.size // 2}.")
        self.distance: Metric = metric or ("l1" if large or info.channels == 1 else "mse")
        self.trained_on = real_images or (2000 if info.name.startswith("CIFAR") else 500)
        self.ops = dsa or ("color_crop" if digits else "color_crop_cutout")
        self.mixes = not digits if cutmix is None else cutmix

    def published(self) -> Published:
        """Learning rates grow with ipc and with the images' area, from those of the code's readme."""
        info = self.dataset.info
        base, side = (1e-4 if info.channels == 1 else 5e-3), (28 if info.name == "MNIST" else 32)
        return Published(2000, lr=base * self.ipc / 10 * (info.size / side) ** 2, init="real")

    @property
    def expected_images(self) -> int:
        """Decoded images."""
        return super().expected_images * self.tiles**2

    def prepare(self) -> None:
        """Raise UsageError where a class has too few real images for the tiles."""
        if self.numbers.init == "real":
            require_images(self.dataset, self.ipc * self.tiles**2)

    def begin(self) -> Learned:
        """Tiles that are different real images, made small; or noise."""
        info, f = self.dataset.info, self.tiles
        if self.numbers.init == "noise":
            pixels = super().initial()
        else:
            tile = -(-info.size // f)
            pixels = torch.cat([self._mosaics(c, tile) for c in range(info.num_classes)])
        images = MultiFormation(pixels, f, info.mean, info.std)
        return Learned(images, images=SGD(images.parameters(), lr=self.numbers.lr, momentum=MOMENTUM))

    def _mosaics(self, label: int, tile: int) -> Tensor:
        """Stored images of a class to begin with, in [0, 1]: (ipc, C, S, S)."""
        f, info = self.tiles, self.dataset.info
        real = self.real.draw(label, self.ipc * f * f, generator(self.seed, "matching real", label))
        small = F.interpolate(to_unit(real, info, "normalised"), size=tile, mode="bilinear", align_corners=False)
        rows = small.view(self.ipc, f, f, info.channels, tile, tile).permute(0, 3, 1, 4, 2, 5)
        return rows.reshape(self.ipc, info.channels, f * tile, f * tile)[..., : info.size, : info.size]

    def step(self, learned: Learned, iteration: int) -> dict[str, Tensor]:
        """One network's life; gives the distance of the last round over the classes."""
        network = self.fresh(iteration)
        optimizer = SGD(network.parameters(), lr=LR_NET, momentum=MOMENTUM_NET, weight_decay=DECAY_NET)
        for round_ in range(self.inner):
            index = (iteration, round_)
            distances = [self._move(learned, network, c, *index) for c in range(self.dataset.num_classes)]
            self._train(network, optimizer, *index)
        with torch.no_grad():
            learned.images.pixels.clamp_(0, 1)  # type: ignore[operator]
        return {"distance": torch.stack(distances).sum()}

    def _move(self, learned: Learned, network: nn.Module, label: int, *index: int) -> Tensor:
        """A step of the images of one class, by as many of them as are matched at once."""
        rows, rng = self.rows(label), generator(self.seed, "idc step", *index, label)
        leaf, real = learned.images.leaf(rows), self.real.draw(label, self.batch_real, rng)
        chosen = leaf[torch.from_numpy(rng.permutation(len(leaf))[:MOST]).to(leaf.device)] if len(leaf) > MOST else leaf
        both = augmented(torch.cat([real, chosen]), self.ops, rng, shared=True)
        goal = gradients(network, both[: len(real)].detach(), label)
        distance = kernel_distance(gradients(network, both[len(real) :], label, graph=True), goal, self.distance)
        torch.autograd.backward(distance, inputs=[leaf])
        learned.move(leaf, rows)
        return distance.detach()

    def _train(self, network: nn.Module, optimizer: SGD, *index: int) -> None:
        """Train the network on real images of all classes, each augmented by itself, some batches mixed."""
        rng, labels = generator(self.seed, "idc network", *index), self.dataset.index("train").labels
        ops = "_".join(op for op in self.ops.split("_") if op != "cutout" or not self.mixes)
        drawn = rng.permutation(len(labels))[: self.trained_on]
        for rows in np.split(drawn, range(BATCH, len(drawn), BATCH)):
            views = augmented(self.real.take(rows), ops, rng, shared=False)
            targets = torch.from_numpy(labels[rows]).to(views.device)
            kept, others = 1.0, targets
            if self.mixes and rng.random() < CUTMIX:
                partners = torch.from_numpy(rng.permutation(len(rows))).to(views.device)
                box = mix.cutmix_draw(rng.random(mix.CUTMIX_UNIFORMS), views.shape[-1])
                views, others = mix.cutmix(views, views[partners], box), targets[partners]
                kept = float(mix.kept_fraction(box, views.shape[-1]))
            logits = network(views)
            loss = kept * F.cross_entropy(logits, targets) + (1 - kept) * F.cross_entropy(logits, others)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def graph_images(self) -> float:
        """Real images or those that are learned, of one class."""
        return max(BACKWARD * self.batch_real, TWICE * min(MOST, self.tiles**2 * self.ipc))

    def operations(self) -> float:
        """Gradients of real images and of the images', and the networks' training."""
        matched = min(MOST, self.tiles**2 * self.ipc)
        a_round = self.dataset.num_classes * (3 * self.batch_real + 11 * matched) + 3 * self.trained_on
        return self.numbers.iterations * self.inner * a_round * self.forward_flops

    def facts(self) -> dict[str, Any]:
        """As every method, and how the images are stored."""
        return {**super().facts(), "factor": self.tiles, "stored_images": self.ipc * self.dataset.num_classes}

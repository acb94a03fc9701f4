"""DC: images that give networks the gradients that real images give them, class by class.

Each iteration begins with a new network of weights w and takes T outer steps:

    image step   for all classes c: D_c = D(grad CE(f_w(s_c), c), grad CE(f_w(x_c), c)); one SGD step on sum_c D_c
    inner loop   E epochs of SGD on the images, which moves w; not after the last image step

D adds up, over the rows of each weight (one row an output channel), 1 - cos of the two gradients' angle.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from ddlight.methods.matching.engine import (
    BACKWARD,
    BATCH,
    TWICE,
    Augmentation,
    Learned,
    MatchingSynthesiser,
    Published,
    batch_norms,
)

WARM = 16
"""Real images of each class from which BatchNorm takes its statistics before an image step."""
LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
"""Outer steps and inner epochs by ipc, as published."""


def published_loops(ipc: int) -> tuple[int, int]:
    """Outer steps and inner epochs; between and beyond the published ones those of the next smaller ipc."""
    return LOOPS[max(known for known in LOOPS if known <= ipc)]


def gradient_distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Sum over the rows of all weights of 1 - <a, b> / (|a| |b| + 1e-6); vectors (biases, norms) count nothing."""
    terms = []
    for a, b in zip(one, other, strict=True):
        if a.dim() > 1:
            a, b = a.flatten(1), b.flatten(1)
            terms.append((1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)).sum())
    return torch.stack(terms).sum()


def gradients(network: nn.Module, images: Tensor, label: int, graph: bool = False) -> tuple[Tensor, ...]:
    """Gradients of the mean cross-entropy of images of one class, in all weights; with a graph where that is asked."""
    labels = torch.full((len(images),), label, device=images.device)
    loss = cross_entropy(network(images), labels)
    return torch.autograd.grad(loss, list(network.parameters()), create_graph=graph)


class GradientMatching:
    """The iteration of DC, and with an augmentation of DSA.

    Args:
        data: the set.
        outer: image steps of an iteration; None takes the published number.
        inner: epochs between two of them; None takes the published number.
        lr_net: of the network.
        batch_real: real images of a class in an image step.
        augment: of real and synthetic images alike, and of the inner loop's batches.
    """

    def __init__(
        self,
        data: MatchingSynthesiser,
        outer: int | None,
        inner: int | None,
        lr_net: float,
        batch_real: int,
        augment: Augmentation,
    ) -> None:
        self.data, self.lr_net, self.batch_real, self.augment = data, lr_net, batch_real, augment
        published = published_loops(data.ipc)
        self.outer, self.inner = outer or published[0], inner or published[1]

    def step(self, learned: Learned, iteration: int) -> dict[str, Tensor]:
        """One iteration; gives the distance at its last image step."""
        network = self.data.fresh(iteration)
        optimizer = SGD(network.parameters(), lr=self.lr_net)
        for step in range(self.outer):
            self._freeze_statistics(network, iteration, step)
            distance = self._move(learned, network, iteration, step)
            if step + 1 < self.outer:
                self._train(network, optimizer, learned.images.leaf().detach(), iteration, step)
        return {"distance": distance}

    def _move(self, learned: Learned, network: nn.Module, *index: int) -> Tensor:
        """An image step. Gradients of one class after another add up: one class's graph is held at a time."""
        leaf, total = learned.images.leaf(), torch.zeros((), device=self.data.device)
        for c in range(self.data.dataset.num_classes):
            view = self.augment.siamese(*index, c)
            real = gradients(network, view(self.data.real_batch(self.batch_real, c, *index)), c)
            synthetic = gradients(network, view(leaf[self.data.rows(c)]), c, graph=True)
            distance = gradient_distance(synthetic, real)
            torch.autograd.backward(distance, inputs=[leaf])
            total = total + distance.detach()
        learned.move(leaf)
        return total

    def _train(self, network: nn.Module, optimizer: SGD, images: Tensor, *index: int) -> None:
        """The inner loop."""
        network.train()
        for epoch in range(self.inner):
            self.data.train_epoch(network, optimizer, images, self.augment, *index, epoch)

    def _freeze_statistics(self, network: nn.Module, *index: int) -> None:
        """Let BatchNorm layers take in real images of all classes once, and keep to that until the inner loop."""
        if layers := batch_norms(network):
            network.train()
            classes = range(self.data.dataset.num_classes)
            with torch.no_grad():
                network(torch.cat([self.data.real_batch(WARM, c, *index, 1) for c in classes]))
            for layer in layers:
                layer.eval()

    def graph_images(self) -> float:
        """A class's real images or those that are learned, or a batch of the inner loop."""
        trained = min(BATCH, self.data.expected_images) if self.outer > 1 else 0
        return max(BACKWARD * max(self.batch_real, trained), TWICE * self.data.ipc)

    def operations(self) -> float:
        """Gradients in the weights by real images, of these in the images, and the inner loops."""
        data, images = self.data, self.data.expected_images
        matched = self.outer * (3 * data.dataset.num_classes * self.batch_real + 11 * images)
        trained = (self.outer - 1) * self.inner * 3 * images
        return data.numbers.iterations * (matched + trained) * data.forward_flops


class DC(MatchingSynthesiser):
    """Images whose gradients match those of the real images, while a network is trained on them (gradient matching).

    Paper: arXiv 2006.05929, Equations 4 to 9; numbers from its code (github.com/VICO-UoE/DatasetCondensation), which
    counts iterations from 0 to 1,000 and, at one image per class, never trains the network.
    Deviation: draws have generators of their own; the code seeds torch with the clock whenever it builds a network.

    Args:
        outer: T, image steps of an iteration; null takes the published number: ipc from 10 to 50, 1 below.
        inner: E, epochs of the network between two of them; null takes the published number.
        lr_net: learning rate of the network.
        batch_real: real images of a class in an image step; all of a class that has fewer.
    """

    tiny: ClassVar[dict[str, Any]] = {**MatchingSynthesiser.tiny, "outer": 2, "inner": 1, "batch_real": 8}

    def __init__(
        self,
        *args: Any,
        outer: int | None = None,
        inner: int | None = None,
        lr_net: float = 0.01,
        batch_real: int = 256,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.outer, self.inner, self.lr_net, self.batch_real = outer, inner, lr_net, batch_real
        self.require_positive("outer", "inner", "lr_net", "batch_real")
        self.matching = GradientMatching(self, outer, inner, lr_net, batch_real, self.augmentation("none"))

    def published(self) -> Published:
        """The same for all datasets and ipc."""
        return Published(1001, lr=0.1, init="noise")

    def step(self, learned: Learned, iteration: int) -> dict[str, Tensor]:
        """One iteration; see above."""
        return self.matching.step(learned, iteration)

    def graph_images(self) -> float:
        """Those of an image step or of the inner loop."""
        return self.matching.graph_images()

    def operations(self) -> float:
        """Those of all image steps and inner loops."""
        return self.matching.operations()

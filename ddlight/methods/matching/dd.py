"""DD: images on which a few steps of gradient descent, each with a rate of its own, make a network good at real images.

With batches s_0, ..., s_S-1 of one or more images of each class, passed in this order E times, and n = 0, ..., S E - 1,

    w_n+1 = w_n - eta_n grad CE(f_w(s_n mod S), y)

and images and rates eta = softplus(r) are moved by Adam to lower CE(f(x), y) of real images x at the last weights, from
new weights w_0 in every iteration. The gradient is exact, through all steps.
"""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.optim import Adam

from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.methods.matching.engine import (
    BACKWARD,
    TWICE,
    Learned,
    LearnedRate,
    MatchingSynthesiser,
    PlainImages,
    Published,
    Weights,
    batch_norms,
    sweep,
    unroll,
)
from ddlight.sets.store import Steps, Synthesis

BETAS = (0.5, 0.999)
"""Of Adam."""
EPOCHS, HALVED = 400, 10
"""Passes over the real images, and how often in them Adam's learning rate is halved, at equal distances."""


class DD(MatchingSynthesiser):
    """Images and learning rates of a short training whose result knows real images (the bi-level original).

    Paper: arXiv 1811.10959, Algorithm 1 with random initial weights; numbers from its code
    (github.com/ssnl/dataset-distillation): 400 passes over the real images.
    Deviation: the code keeps the graphs of all steps; here they are built anew one at a time, for the same gradient.
    Its networks are a LeNet and a small AlexNet; here any student without BatchNorm, by default a ConvNet.
    Deviation: networks begin as students do, so that what is learned suits these; the code draws them by Xavier.
    The set keeps order and rates: protocol own trains by them, as the authors do, every other as on any set.

    Args:
        passes: E, times that the batches are passed.
        images_per_step: images of each class in a batch; ipc is a multiple of it.
        rate: learning rate of each step to begin with.
        batch_real: real images in an iteration.
    """

    tiny: ClassVar[dict[str, Any]] = {**MatchingSynthesiser.tiny, "passes": 2, "batch_real": 64}

    def __init__(
        self,
        *args: Any,
        passes: int = 3,
        images_per_step: int = 1,
        rate: float = 0.02,
        batch_real: int = 1024,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.passes, self.images_per_step, self.rate, self.batch_real = passes, images_per_step, rate, batch_real
        self.require_positive("passes", "images_per_step", "rate", "batch_real")
        if self.ipc % images_per_step:
            raise UsageError(
                f"ipc={self.ipc} is no multiple of images_per_step={images_per_step}; give 1, or a divisor."
            )

    def published(self) -> Published:
        """400 passes over the real images."""
        per_pass = -(-self.dataset.info.train // self.batch_real)
        return Published(EPOCHS * per_pass, lr=0.01, init="noise")

    @property
    def own_steps(self) -> tuple[int, int]:  # type: ignore[override]
        """Steps, and images of each."""
        return self.passes * len(self.batches), self.batches.shape[1]

    @property
    def batches(self) -> np.ndarray:
        """Places in the set of the images of each batch, class after class: int64 (S, B)."""
        places = np.arange(self.expected_images).reshape(self.dataset.num_classes, -1, self.images_per_step)
        return places.transpose(1, 0, 2).reshape(-1, self.dataset.num_classes * self.images_per_step)

    def begin(self) -> Learned:
        """Images and raw rates, under one Adam."""
        images = PlainImages(self.initial())
        rates = LearnedRate(torch.full((self.passes * len(self.batches),), self.rate, device=self.device))
        learned = Learned(images, adam=Adam([*images.parameters(), *rates.parameters()], self.numbers.lr, BETAS))
        learned.rates = rates
        return learned

    def step(self, learned: Learned, iteration: int) -> dict[str, Tensor]:
        """Train a new network by all steps, look at real images, and pull that back to images and rates."""
        for group in learned.optimizers["adam"].param_groups:
            group["lr"] = self.numbers.lr * 0.5 ** (HALVED * iteration // self.numbers.iterations)
        network = self.fresh(iteration)
        names = [name for name, _ in network.named_parameters()]
        leaf, rates = learned.images.leaf(), learned.rates()  # type: ignore[operator]
        places = torch.from_numpy(self.batches).to(self.device)
        labels = torch.from_numpy(self.labels(len(leaf))).to(self.device)

        def loss(n: int, weights: Weights) -> Tensor:
            rows = places[n % len(places)]
            logits = functional_call(network, dict(zip(names, weights, strict=True)), (leaf[rows],))
            return cross_entropy(logits, labels[rows])

        path = unroll(loss, tuple(network.parameters()), rates.detach().unbind())
        last = tuple(w.clone().requires_grad_(True) for w in path[-1])
        real, targets = self._real(iteration)
        final = cross_entropy(functional_call(network, dict(zip(names, last, strict=True)), (real,)), targets)
        swept = sweep(loss, path, rates.detach().unbind(), torch.autograd.grad(final, last), [leaf])
        leaf.grad = swept.inputs[0]
        rates.backward(swept.rates)
        learned.move(leaf)
        return {"loss": final.detach(), "mean rate": rates.detach().mean()}

    def _real(self, iteration: int) -> tuple[Tensor, Tensor]:
        """Real images of an iteration and their labels; a pass visits all in a random order."""
        labels = self.dataset.index("train").labels
        number, place = divmod(iteration, -(-len(labels) // self.batch_real))
        order = generator(self.seed, "dd real", number).permutation(len(labels))
        rows = order[place * self.batch_real :][: self.batch_real]
        return self.real.take(rows), torch.from_numpy(labels[rows]).to(self.device)

    def finish(self, learned: Learned) -> Synthesis:
        """Images, the order of their batches, and the rates."""
        rates = learned.rates().detach().cpu().double().numpy()  # type: ignore[operator]
        return replace(super().finish(learned), steps=Steps(np.tile(self.batches, (self.passes, 1)), rates))

    def prepare(self) -> None:
        """Raise UsageError for a network with BatchNorm, whose statistics no gradient would go through."""
        super().prepare()
        if batch_norms(self.fresh(0)):
            raise UsageError(
                "DD differentiates through a training, and BatchNorm remembers it: give a student without."
            )

    def graph_images(self) -> float:
        """The real images, or a batch of those that are learned."""
        return max(BACKWARD * self.batch_real, TWICE * self.batches.shape[1])

    def operations(self) -> float:
        """All steps once forward and once backward, and the real images."""
        images = 14 * self.passes * self.expected_images + 3 * self.batch_real
        return self.numbers.iterations * images * self.forward_flops

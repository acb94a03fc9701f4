"""FRePo: images and labels from whose features, in networks that learn from them, ridge regression tells real images.

With phi the features before the last layer, X and Y the images and labels that are learned, K(a, b) = phi(a) phi(b)^T,

    f(x) = K(x, X) (K(X, X) + lambda tr(K(X, X)) / n I)^-1 Y

An iteration takes one of several networks, moves X and Y by LAMB to lower

    mean_x |f(x) - y(x)|^2 / 2 + mean_j max(0, 1 / C - (largest - second largest of Y_j))   up to a constant

and then lets that network learn Y from X in one step of Adam. No gradient goes through the networks' training; a
network that has taken enough steps begins anew.
"""

from collections.abc import Iterable
from dataclasses import replace
from math import cos, pi
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from ddlight.core.randomness import generator
from ddlight.methods.matching.engine import BACKWARD, FORWARD, Learned, MatchingSynthesiser, PlainImages, Published
from ddlight.networks.layers import embed_with_logits
from ddlight.sets.store import Synthesis

RIDGE = 1e-6
"""lambda."""
LR_NET = 3e-4
"""Of the networks' Adam."""
MOST = 1000
"""Images that a network learns from in a step, drawn where there are more."""
END = 0.1
"""Share of its first value to which LAMB's learning rate falls, in a cosine."""


class Lamb(Optimizer):
    """Adam whose step in each tensor is as long, beside the learning rate, as the tensor itself (arXiv 1904.00962).

    Args:
        parameters: to be moved.
        lr: learning rate.
        betas: of the running means of gradients and of their squares.
        eps: added to the root of the latter.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move all parameters that have a gradient."""
        for group in self.param_groups:
            first, second = group["betas"]
            for parameter in (p for p in group["params"] if p.grad is not None):
                state = self.state[parameter]
                if not state:
                    state.update(
                        step=torch.zeros(()), mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter)
                    )
                state["step"] += 1
                state["mean"].lerp_(parameter.grad, 1 - first)
                state["square"].mul_(second).addcmul_(parameter.grad, parameter.grad, value=1 - second)
                taken = float(state["step"])
                root = (state["square"] / (1 - second**taken)).sqrt() + group["eps"]
                update = state["mean"] / (1 - first**taken) / root
                own, length = parameter.norm(), update.norm()
                trust = torch.where((own > 0) & (length > 0), own / length, torch.ones_like(own))
                parameter.sub_(group["lr"] * trust * update)


def ridge_regression(own: Tensor, labels: Tensor, real: Tensor) -> Tensor:
    """What ridge regression on features own (n, D) with labels (n, K) says of features real (m, D): (m, K)."""
    kernel = own @ own.T
    ridge = RIDGE * kernel.diagonal().mean() * torch.eye(len(own), dtype=own.dtype, device=own.device)
    solved = torch.linalg.solve((kernel + ridge).double(), labels.double())  # nearly singular in float32
    return real @ own.T @ solved.to(own.dtype)


def margin(labels: Tensor) -> Tensor:
    """Mean over labels (n, K) of how much less than 1 / K the largest is above the second: minus a constant, 1 / K."""
    top = labels.topk(2, dim=1).values
    return -(top[:, 0] - top[:, 1]).clamp_max(1 / labels.shape[1]).mean()


class FRePo(MatchingSynthesiser):
    """Images and labels by whose features ridge regression knows real images (neural feature regression with a pool).

    Paper: arXiv 2206.00719, Algorithm 1 and Equations 4 to 6; numbers from its code (github.com/yongchaoz/FRePo).
    Labels are learned, as class minus 1 / C; students train on them with `--model=SoftLabel --model.labels=set`.
    Deviation: that code's networks widen from block to block, 128 to 512 channels; null takes a ConvNet of width 128.
    Features of BatchNorm layers are those of training mode (a guess), of the images and of real images apart.

    Args:
        pool: networks that take turns at random.
        most_steps: steps of a network after which it begins anew.
        batch_real: real images in an iteration.
        mirror: take each image's mirrored copy for ridge regression too; null does so for colour images that may be
            mirrored, of at most ten classes or at one image a class.
        zca: learn whitened images; null whitens colour images up to 64 pixels.
    """

    label_kind = "centred"
    norm = "batch"
    tiny: ClassVar[dict[str, Any]] = {
        **MatchingSynthesiser.tiny,
        "iterations": 3,
        "pool": 2,
        "most_steps": 1,
        "batch_real": 16,
    }

    def __init__(
        self,
        *args: Any,
        pool: int = 10,
        most_steps: int = 100,
        batch_real: int = 1024,
        mirror: bool | None = None,
        zca: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.pool, self.most_steps, self.batch_real, self.mirror, self.zca = pool, most_steps, batch_real, mirror, zca
        self.require_positive("pool", "most_steps", "batch_real")
        info = self.dataset.info
        few = info.num_classes <= 10 or self.ipc == 1
        self.mirrors = info.flip and info.channels == 3 and few if mirror is None else mirror
        whiten = info.channels == 3 and info.size <= 64 if zca is None else zca
        self.space = "zca_frepo" if whiten else "normalised"

    def published(self) -> Published:
        """The same for all datasets and ipc."""
        return Published(500_000, lr=3e-4, init="real")

    def targets(self, labels: np.ndarray) -> Tensor:
        """One-hot labels (n,) minus 1 / C: float32 (n, C)."""
        classes = self.dataset.num_classes
        return F.one_hot(torch.from_numpy(labels).to(self.device), classes).float() - 1 / classes

    def begin(self) -> Learned:
        """Images, labels, and the pool, whose networks begin with as many steps as will let them end one by one."""
        images = PlainImages(self.initial())
        labels = self.targets(self.labels(len(images))) / (self.dataset.num_classes / 10) ** 0.5
        learned = Learned(images)
        learned.labels = nn.Parameter(labels)
        learned.optimizers["lamb"] = Lamb([images.pixels, learned.labels], self.numbers.lr)
        learned.networks = nn.ModuleList(self.fresh(0, k) for k in range(self.pool))
        learned.register_buffer("steps", torch.arange(self.pool) * self.most_steps // self.pool)
        learned.inner = {str(k): Adam(net.parameters(), LR_NET) for k, net in enumerate(learned.networks)}
        return learned

    def step(self, learned: Any, iteration: int) -> dict[str, Tensor]:
        """Move images and labels by one network, which then learns from them."""
        rng = generator(self.seed, "frepo step", iteration)
        which, passed = int(rng.integers(self.pool)), iteration / self.numbers.iterations
        for group in learned.optimizers["lamb"].param_groups:
            group["lr"] = self.numbers.lr * (END + (1 - END) * (1 + cos(pi * passed)) / 2)
        network, optimizer = learned.networks[which], learned.inner[str(which)]
        every = self.dataset.index("train").labels
        rows = rng.choice(len(every), min(self.batch_real, len(every)), replace=False)
        with torch.no_grad():
            real = embed_with_logits(network, self.real.take(rows))[0]
        leaf = learned.images.leaf()
        both = [leaf, leaf.flip(3)] if self.mirrors else [leaf]
        own = embed_with_logits(network, torch.cat(both))[0]
        told = ridge_regression(own, learned.labels.repeat(len(both), 1), real)
        distance = (told - self.targets(every[rows])).square().sum(1).mean() / 2
        loss = distance + margin(learned.labels)
        torch.autograd.backward(loss, inputs=[leaf, learned.labels])
        learned.move(leaf)
        self._train(learned, network, optimizer, rng)
        learned.steps[which] += 1
        if learned.steps[which] >= self.most_steps:
            network.load_state_dict(self.fresh(iteration + 1, which).state_dict())
            optimizer.state.clear()
            learned.steps[which] = 0
        return {"regression": distance.detach(), "loss": loss.detach()}

    def _train(self, learned: Any, network: nn.Module, optimizer: Optimizer, rng: np.random.Generator) -> None:
        """Let a network learn the labels in one step."""
        images = learned.images.leaf().detach()
        rows = torch.from_numpy(rng.permutation(len(images))[:MOST]).to(images.device)
        optimizer.zero_grad()
        F.mse_loss(network(images[rows]), learned.labels.detach()[rows]).backward()
        optimizer.step()

    def finish(self, learned: Any) -> Synthesis:
        """Images with their learned labels."""
        return replace(super().finish(learned), labels=learned.labels.detach().cpu().numpy())

    def graph_images(self) -> float:
        """The real images, or all that are learned."""
        return max(FORWARD * self.batch_real, BACKWARD * (1 + self.mirrors) * self.expected_images)

    def operations(self) -> float:
        """Features of real images, those of the images there and back, and the networks' steps."""
        images = self.expected_images
        own = 3 * images * (1 + self.mirrors) + 3 * min(MOST, images)
        return self.numbers.iterations * (self.batch_real + own) * self.forward_flops

"""What a matching method learns: images as a function of parameters, labels, rates; and the state of optimisers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ddlight.methods.optimizers import optimizer_tensors, restore_optimizer

ALL = slice(None)


class Parametrisation(nn.Module, ABC):
    """A set's images as a differentiable function of parameters, one row of them after another, class after class.

    Methods do not differentiate through it. They take a `leaf`, differentiate a loss with respect to that, and `pull`
    the gradient back to the parameters, a chunk of rows at a time: the function's memory does not grow with the set.
    """

    views: int = 1
    """Images that networks see of one row."""
    chunk: int | None = None
    """Most rows that are differentiated together; None takes all."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @abstractmethod
    def forward(self, rows: slice = ALL) -> Tensor:
        """Images of some rows as networks take them: float32 (views n, C, S, S), those of a row together."""

    @abstractmethod
    def kept(self) -> Tensor:
        """What the set keeps: (n, C, S, S), in the method's space."""

    def leaf(self, rows: slice = ALL) -> Tensor:
        """Images of some rows, to be differentiated with respect to."""
        with torch.no_grad():
            return self(rows).clone().requires_grad_(True)

    def pull(self, leaf: Tensor, rows: slice = ALL) -> None:
        """Add the gradient of a leaf's rows to that of the parameters."""
        assert leaf.grad is not None
        first, last, _ = rows.indices(len(self))
        count = self.chunk or last - first
        for start in range(first, last, count):
            part = self(slice(start, min(start + count, last)))
            part.backward(leaf.grad[self.views * (start - first) :][: len(part)])


class PlainImages(Parametrisation):
    """Images that are their own parameters.

    Args:
        images: float32 (n, C, S, S).
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.pixels = nn.Parameter(images)

    def __len__(self) -> int:
        return len(self.pixels)

    def forward(self, rows: slice = ALL) -> Tensor:
        """The images."""
        return self.pixels[rows]

    def kept(self) -> Tensor:
        """The images."""
        return self.pixels.detach()


class LearnedRate(nn.Module):
    """Learning rates that are learned and stay positive: softplus of a parameter.

    Args:
        rates: float (n,) or (), above 0, to begin with.
        sharpness: beta of the softplus; rates well above its inverse are the parameter itself.
    """

    def __init__(self, rates: Tensor, sharpness: float = 1.0) -> None:
        super().__init__()
        self.sharpness = sharpness
        self.raw = nn.Parameter(rates + torch.log(-torch.expm1(-sharpness * rates)) / sharpness)

    def forward(self) -> Tensor:
        """The rates."""
        return F.softplus(self.raw, self.sharpness)


class Learned(nn.Module):
    """All that iterations change. What a method learns besides images (labels, rates, networks) it sets as attributes.

    Args:
        images: the images.
        optimizers: of parameters, by name.
    """

    def __init__(self, images: Parametrisation, /, **optimizers: Optimizer) -> None:
        super().__init__()
        self.images, self.optimizers = images, optimizers
        self.inner: dict[str, Optimizer] = {}
        """Optimisers of networks that outlast an iteration, by name: kept like the others, moved by the method."""

    def move(self, leaf: Tensor, rows: slice = ALL) -> None:
        """Pull back a leaf's gradient and let every optimiser take a step by what has been gathered, which is cleared.

        Args:
            leaf: of `images`, after a backward pass.
            rows: that it shows.
        """
        self.images.pull(leaf, rows)
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad()

    def packed(self) -> dict[str, Tensor]:
        """Everything that changes, by name, as `unpack` takes it."""
        state = {
            f"optimizer/{name}/{place}": tensor
            for name, optimizer in {**self.optimizers, **self.inner}.items()
            for place, tensor in optimizer_tensors(optimizer).items()
        }
        return {**self.state_dict(), **state}

    def unpack(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `packed` gave."""
        self.load_state_dict({name: t for name, t in tensors.items() if not name.startswith("optimizer/")})
        for name, optimizer in {**self.optimizers, **self.inner}.items():
            restore_optimizer(optimizer, tensors, f"optimizer/{name}/")

"""Exact gradients through steps of gradient descent, in memory that does not grow with their number.

    w_{n+1} = w_n - a_n g_n,   g_n = d L_n / d w_n,   n = 0, ..., N - 1

A graph of all steps would be kept until the end. Here the weights w_n alone are kept, and the steps are taken again one
at a time, last first. With v = d loss / d w_{n+1} and s = <g_n, v>, v held fixed,

    d loss / d x += -a_n ds/dx,   d loss / d a_n = -s,   v <- v - a_n ds/dw_n

which is the same gradient: x stands for images and labels, in whatever way L_n depends on them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Weights = tuple[Tensor, ...]
StepLoss = Callable[[int, Weights], Tensor]
"""L_n at some weights; the same views of the same images each time that it is asked for one n."""


def unroll(loss: StepLoss, weights: Weights, rates: Sequence[Tensor]) -> list[Weights]:
    """Take the steps: w_0, ..., w_N, without graphs.

    Args:
        loss: L_n.
        weights: w_0.
        rates: a_n, scalars; their number is N.
    """
    path = [tuple(w.detach() for w in weights)]
    for n, rate in enumerate(rates):
        leaves = tuple(w.clone().requires_grad_(True) for w in path[-1])
        gradients = torch.autograd.grad(loss(n, leaves), leaves)
        path.append(tuple(w - rate.detach() * g for w, g in zip(path[-1], gradients, strict=True)))
    return path


@dataclass(frozen=True)
class Swept:
    """Gradients of a loss of w_N.

    Args:
        inputs: of what L_n depends on, in order.
        rates: of each a_n, (N,).
        weights: of w_0.
    """

    inputs: list[Tensor]
    rates: Tensor
    weights: Weights


def sweep(
    loss: StepLoss, path: Sequence[Weights], rates: Sequence[Tensor], end: Sequence[Tensor], inputs: Sequence[Tensor]
) -> Swept:
    """Take the steps backward.

    Args:
        loss: as for `unroll`.
        path: what `unroll` gave.
        rates: as for `unroll`.
        end: gradient of the loss with respect to w_N.
        inputs: leaves that L_n depends on.
    """
    gathered, slopes, adjoint = [torch.zeros_like(x) for x in inputs], [], tuple(end)
    for n in reversed(range(len(rates))):
        leaves, rate = tuple(w.clone().requires_grad_(True) for w in path[n]), rates[n].detach()
        gradients = torch.autograd.grad(loss(n, leaves), leaves, create_graph=True)
        product = torch.stack([(g * v).sum() for g, v in zip(gradients, adjoint, strict=True)]).sum()
        pulled = torch.autograd.grad(product, [*leaves, *inputs], allow_unused=True, materialize_grads=True)
        for sum_, part in zip(gathered, pulled[len(leaves) :], strict=True):
            sum_ -= rate * part
        slopes.append(-product.detach())
        adjoint = tuple(v - rate * h for v, h in zip(adjoint, pulled, strict=False))
    return Swept(gathered, torch.stack(slopes[::-1]), adjoint)

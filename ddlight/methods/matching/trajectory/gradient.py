"""The loss of trajectory matching, and its exact gradient through N inner steps.

A student begins at theta_0 and takes N steps theta_{n+1} = theta_n - alpha g_n, with g_n the gradient of the loss l_n
of step n. Matched is a target theta*:

    L = || theta_N - theta* ||^2 / || theta_0 - theta* ||^2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ddlight.methods.matching.engine.unroll import StepLoss, sweep, unroll


@dataclass(frozen=True)
class Matched:
    """The loss and its gradients.

    Args:
        loss: L, a scalar.
        gradients: of L with respect to what is learned, in its order.
        rate_gradient: of L with respect to alpha, a scalar.
    """

    loss: Tensor
    gradients: list[Tensor]
    rate_gradient: Tensor


Gradient = Callable[[StepLoss, Sequence[Tensor], Tensor, Tensor, Tensor, int], Matched]
"""How the gradient is taken: arguments as of `exact_gradient`."""


def exact_gradient(
    inner_loss: StepLoss, learned: Sequence[Tensor], rate: Tensor, start: Tensor, target: Tensor, steps: int
) -> Matched:
    """The exact gradient (MTT, arXiv 2203.11932, Equation 2), a graph of one step at a time; only weights are kept.

    Args:
        inner_loss: l_n of weights ((P,),).
        learned: leaves that l_n depends on: images, and labels where they are learned.
        rate: alpha, a scalar.
        start: theta_0 (P,).
        target: theta* (P,).
        steps: N.
    """
    rates = [rate] * steps
    path = unroll(inner_loss, (start,), rates)
    missed, distance = path[-1][0] - target, (start - target).square().sum()
    swept = sweep(inner_loss, path, rates, [2 * missed / distance], learned)
    return Matched(missed.square().sum() / distance, swept.inputs, swept.rates.sum())

"""GSAM: steps against sharp minima, for the flat trajectories of FTD (arXiv 2211.11004) and DATM (arXiv 2310.05773).

With g the gradient at theta and g' the gradient at theta + rho theta^2 g / || |theta| g ||, SGD steps along

    g' - alpha g_,   g_ the component of g orthogonal to g'.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from ddlight.regimes.base import build_optimizer
from ddlight.regimes.hard_label import HardLabel

RHO = 0.01
ALPHA = 0.3
"""Numbers of FTD's and DATM's buffers (code): constant, with perturbations in proportion to the weights."""
EPSILON = 1e-12


class GSAM(SGD):
    """SGD whose gradient is GSAM's (arXiv 2203.08065, with ASAM's perturbation, arXiv 2102.11600).

    Args:
        params: parameters, or groups of them with options of SGD.
        lr: learning rate, where a group has none.
        rho: size of the perturbation.
        alpha: share of the orthogonal component that is taken off.
    """

    def __init__(self, params: Any, lr: float = 0.01, rho: float = RHO, alpha: float = ALPHA) -> None:
        super().__init__(params, lr=lr)
        self.rho, self.alpha = rho, alpha

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Take one step; `closure` zeroes gradients, computes them anew and returns the loss, and is called twice."""
        with torch.enable_grad():
            loss = closure()
        weights = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        before, first = [p.clone() for p in weights], [self._gradient(p) for p in weights]
        perturbed = self.rho / (_norm([p.abs() * g for p, g in zip(weights, first, strict=True)]) + EPSILON)
        for p, g in zip(weights, first, strict=True):
            p.add_(p.square() * g * perturbed)
        with torch.enable_grad():
            closure()
        second = [self._gradient(p) for p in weights]
        length = _norm(second) + EPSILON
        along = torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).sum() / length
        for p, value, g, h in zip(weights, before, first, second, strict=True):
            p.copy_(value)
            p.grad = h - self.alpha * (g - along * h / length)
        super().step()
        return loss

    @staticmethod
    def _gradient(weight: Tensor) -> Tensor:
        assert weight.grad is not None
        return weight.grad.clone()


def _norm(tensors: list[Tensor]) -> Tensor:
    return torch.stack([tensor.norm() for tensor in tensors]).norm()


class _FlatHardLabel(HardLabel):
    """Hard labels, learned by GSAM in place of the recipe's SGD."""

    def configure_optimizers(self) -> Any:
        """GSAM with the numbers of the recipe's SGD, and the recipe's schedule."""
        assert self.network is not None
        optimizer = GSAM(build_optimizer(self.network, self.run.plan.recipe).param_groups)
        schedule = LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

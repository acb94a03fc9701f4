"""GradMatch: images whose weighted gradients add up to the gradient of their class."""

from typing import Any

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls

from ddlight.core.errors import UsageError
from ddlight.methods.geometry.selector import GeometrySelector
from ddlight.methods.scoring.features import Features
from ddlight.methods.scoring.vectors import TIE, Gradients, largest


def non_negative_ridge(gram: np.ndarray, products: np.ndarray, ridge: float) -> np.ndarray:
    """Weights w >= 0 that minimise |b - A w|^2 + ridge |w|^2, from A^T A (m, m) and A^T b (m,): float64 (m,).

    With the Cholesky factor A^T A + ridge I = L L^T it is the non-negative least squares of L^T w = L^-1 A^T b.
    """
    lower = cholesky(gram + ridge * np.eye(len(gram)), lower=True)
    weights: np.ndarray = nnls(lower.T, solve_triangular(lower, products, lower=True))[0]
    return weights


def matching_pursuit(gradients: Gradients, count: int, lam: float) -> tuple[np.ndarray, np.ndarray]:
    """Orthogonal matching pursuit: greedy minimum of |mean of all g - sum over S of w_j g_j|^2 + lam' |w|^2, w >= 0.

    The next image is the one whose gradient has the largest inner product with what is left to explain; then all
    weights are found anew. Of the (n, n) inner products only the rows of the chosen are computed.

    Args:
        gradients: of n images.
        count: at most n. Where no inner product is positive the largest is taken all the same, with a weight of 0, so
            that the count is always met.
        lam: lam' in units of the mean squared length of a gradient.

    Returns:
        int64 (count,), positions, of which a smaller count gives a prefix; float64 (count,), their weights.
    """
    scale = np.sqrt(gradients.squares().mean()) or 1.0
    gradients = Gradients(gradients.left / scale, gradients.right)
    rounding = TIE * max(gradients.squares().max(), 1.0)
    towards = gradients.along(gradients.mean())
    rows, left, free = np.empty((count, len(towards))), towards, np.ones(len(towards), bool)
    order, weights = list[int](), np.empty(0)
    for k in range(count):
        order.append(largest(np.where(free, left, -np.inf), rounding))
        rows[k], free[order[k]] = gradients.row(order[k]), False
        weights = non_negative_ridge(rows[: k + 1, order], towards[order], max(lam, rounding))
        left = towards - weights @ rows[: k + 1]
    return np.array(order, np.int64), weights


class GradMatch(GeometrySelector):
    """Images of each class whose weighted gradients add up to the mean gradient of the class.

    Paper: arXiv 2103.00123, Algorithm 2 (orthogonal matching pursuit), within each class, on the last layer.
    Deviation: one subset from one trained network, as in DeepCore (arXiv 2204.08499); the paper selects anew during
    training. Weights are kept from being negative in every step; the released code does so in the last alone.
    Deviation: lam is relative to the squared length of the gradients, since those of networks that fit their data
    differ by orders of magnitude: 0.5 as such, which some released configurations have, would leave only
    the alignment with the mean.
    Deviation: no early stop at a tolerance, and images of weight 0 stay, so that there are exactly ipc.
    Deviation: weights serve the pursuit alone. Sets have one weight for all, as those of every other method that they
    are compared with.

    Args:
        lam: strength of the ridge on the weights, in units of the class's mean squared length of a gradient.
    """

    def __init__(self, *args: Any, lam: float = 0.5, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not 0 <= lam < float("inf"):
            raise UsageError(f"lam is {lam}; allowed: 0 or more, and finite.")
        self.lam = lam

    def order(self, images: Features, count: int, rng: np.random.Generator) -> np.ndarray:
        """Order of the pursuit."""
        return matching_pursuit(Gradients.of(images), count, self.lam)[0]

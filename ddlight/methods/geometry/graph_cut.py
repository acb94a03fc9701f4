"""GraphCut: images similar to the whole class and unlike each other."""

from typing import Any

import numpy as np

from ddlight.core.errors import UsageError
from ddlight.methods.geometry.selector import GeometrySelector
from ddlight.methods.scoring.features import Features
from ddlight.methods.scoring.vectors import TIE, Similarity, Vectors, largest


def graph_cut(similarity: Similarity, count: int, lam: float) -> np.ndarray:
    """Exact greedy maximum of f(S) = lam (sum of s_ij, i in V, j in S) - (sum of s_ij, i and j in S).

    The gain of j is lam sum_V s_ij - 2 sum_S s_ij - s_jj: after each pick one row of similarities is subtracted,
    O(1) an image, so that no heap and no (n, n) matrix are needed.

    Args:
        similarity: of n images.
        count: at most n; filled up where gains are negative.
        lam: weight of the similarity to all; f never falls for lam >= 2.

    Returns:
        int64 (count,): positions; a smaller count gives a prefix.
    """
    gains = lam * similarity.sums() - similarity.to_itself()
    order, rounding = list[int](), TIE * max(1.0, lam) * len(gains)
    for _ in range(count):
        order.append(largest(gains, rounding))
        gains -= 2 * similarity.row(order[-1])
        gains[order] = -np.inf
    return np.array(order, np.int64)


class GraphCut(GeometrySelector):
    """Images of each class that are similar to all of it and unlike each other.

    Paper: submodular graph cut as in DeepCore, arXiv 2204.08499; similarity 0.5 + 0.5 cos, within each class.
    Deviation: DeepCore compares gradients of the last layer (`vectors`) and has lam 1, with which f falls at last.

    Args:
        lam: weight of similarity to the class against that among the chosen: 2 is the least with which f never falls.
        vectors: what is compared: "features", or "gradients" of the last layer's weights and biases.
    """

    def __init__(self, *args: Any, lam: float = 2.0, vectors: Vectors = "features", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not 0 <= lam < float("inf"):
            raise UsageError(f"lam is {lam}; allowed: 0 or more, and finite.")
        self.lam, self.vectors = lam, vectors

    def order(self, images: Features, count: int, rng: np.random.Generator) -> np.ndarray:
        """Greedy order."""
        return graph_cut(Similarity.of(images, self.vectors), count, self.lam)

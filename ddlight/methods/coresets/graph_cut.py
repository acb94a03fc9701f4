"""GraphCut: images similar to the whole class and unlike each other."""

import numpy as np

from ddlight.methods.geometry import TIE, Similarity


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
    gains = lam * similarity.sums() - similarity.own()
    order, rounding = list[int](), TIE * max(1.0, lam) * len(gains)
    for _ in range(count):
        order.append(int(np.argmax(gains >= gains.max() - rounding)))
        gains -= 2 * similarity.row(order[-1])
        gains[order] = -np.inf
    return np.array(order, np.int64)

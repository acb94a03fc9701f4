"""FacilityLocation: images such that each image of the class is similar to one of them."""

import heapq

import numpy as np

DECIMALS = 11
"""Places after the point to which gains count: what is left is rounding, and a gain is then a tie or is not."""


def facility_location(similarity: np.ndarray, count: int) -> np.ndarray:
    """Exact lazy greedy maximum of f(S) = sum over i of max over j in S of s_ij.

    A gain that was computed for a smaller S is an upper bound (f is submodular), so only the largest bounds are
    computed anew (Minoux 1978).

    Args:
        similarity: float64 (n, n), symmetric, not negative.
        count: at most n; filled up where all gains are 0.

    Returns:
        int64 (count,): positions; a smaller count gives a prefix.
    """
    covered, order = np.zeros(len(similarity)), list[int]()
    bounds = [(-gain, image) for image, gain in enumerate(similarity.sum(1).round(DECIMALS).tolist())]
    heapq.heapify(bounds)
    while len(order) < count:
        image = heapq.heappop(bounds)[1]
        gain = round(float(np.maximum(similarity[image] - covered, 0).sum()), DECIMALS)
        if bounds and bounds[0] < (-gain, image):
            heapq.heappush(bounds, (-gain, image))
            continue
        covered = np.maximum(covered, similarity[image])
        order.append(image)
    return np.array(order, np.int64)

"""FacilityLocation: images such that each image of the class is similar to one of them."""

import heapq
from typing import Any

import numpy as np

from ddlight.methods.geometry.selector import GeometrySelector
from ddlight.methods.scoring.features import Features
from ddlight.methods.scoring.vectors import Similarity, Vectors

DECIMALS = 10
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
    covered, spare, order, before = np.zeros(len(similarity)), np.empty(len(similarity)), list[int](), 0.0
    bounds = [(-gain, image) for image, gain in enumerate(similarity.sum(1).round(DECIMALS).tolist())]
    heapq.heapify(bounds)
    while len(order) < count:
        image = heapq.heappop(bounds)[1]
        value = float(np.maximum(similarity[image], covered, out=spare).sum())
        gain = round(value - before, DECIMALS)
        if bounds and bounds[0] < (-gain, image):
            heapq.heappush(bounds, (-gain, image))
            continue
        covered, spare, before = spare, covered, value
        order.append(image)
    return np.array(order, np.int64)


class FacilityLocation(GeometrySelector):
    """Images of each class such that every image of it is similar to one of them.

    Paper: submodular facility location as in DeepCore, arXiv 2204.08499; similarity 0.5 + 0.5 cos, within each class.
    Deviation: DeepCore compares gradients of the last layer; features are the default here, since a network that fits
    its training data leaves gradients next to nothing to say. `vectors` chooses.

    Args:
        vectors: what is compared: "features", or "gradients" of the last layer's weights and biases.
    """

    def __init__(self, *args: Any, vectors: Vectors = "features", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.vectors = vectors

    def order(self, images: Features, count: int, rng: np.random.Generator) -> np.ndarray:
        """Lazy greedy order. Raises UsageError where the class has too many images for their similarities."""
        self.require_table(images)
        return facility_location(Similarity.of(images, self.vectors).matrix(), count)

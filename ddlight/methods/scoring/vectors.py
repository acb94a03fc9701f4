"""Distances and similarities of one class's feature vectors: fast where rounding does not matter, exact where it does.

Ties go to the image that comes first, so callers put images in a drawn order (`GeometrySelector`).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial.distance import cdist

from ddlight.methods.scoring.features import Features

Vectors = Literal["features", "gradients"]
TIE = 1e-12
"""Share of the numbers' size within which float64 results count as equal."""


def unit_length(points: np.ndarray) -> np.ndarray:
    """Vectors (n, D) divided by their Euclidean length, in float64; a zero vector stays zero."""
    points = points.astype(np.float64)
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return points / np.where(lengths > 0, lengths, 1)


def largest(values: np.ndarray, rounding: float) -> int:
    """Position of the largest of some numbers (n,), the first of those that differ from it by rounding alone."""
    return int(np.argmax(values >= values.max() - rounding))


class Cloud:
    """Points, and exact answers about their distances to others at the speed of float32.

    A matrix-vector product in float32 gives every distance with a bound of its error (Higham, Accuracy and Stability
    of Numerical Algorithms, eq. 3.5); the few points that it leaves open are compared in float64. Memory beyond the
    points is O(n).

    Args:
        points: float32 or float64 (n, D), finite.
    """

    def __init__(self, points: np.ndarray) -> None:
        self.points = points
        self.rough = points.astype(np.float32, copy=False)
        self.squares = np.einsum("nd,nd->n", points, points, dtype=np.float64)
        self.rounding = 2 * (points.shape[1] + 8) * 2.0**-24 * np.sqrt(self.squares)

    def about(self, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Squared distances to a place (D,), and the most that each may be wrong by: two float64 (n,)."""
        square = place @ place
        distances = self.squares - 2.0 * (self.rough @ place.astype(np.float32)) + square
        return distances, self.rounding * np.sqrt(square)

    def exactly(self, rows: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Squared distances of some points to a place, from differences in float64: (len(rows),)."""
        return np.square(self.points[rows] - place.astype(np.float64)).sum(1)

    def nearest(self, place: np.ndarray, free: np.ndarray) -> int:
        """The point nearest to a float64 place among those that are `free` (bool (n,)); the first of several."""
        distances, error = self.about(place)
        least = (distances + error)[free].min()
        rows = np.flatnonzero(free & (distances - error <= least))
        if len(rows) == 1:
            return int(rows[0])
        exact = self.exactly(rows, place)
        return int(rows[np.argmax(exact <= exact.min() + TIE * (exact.min() + place @ place))])


@dataclass(frozen=True)
class Similarity:
    """Similarity 0.5 + 0.5 cos of each two images, in [0, 1], as DeepCore (arXiv 2204.08499) takes it.

    The cosine of two Kronecker products is the product of the factors' cosines, so that gradients of the last layer,
    g = d x [h, 1] with d = softmax - one-hot, are never formed: <g_i, g_j> = <d_i, d_j> (<h_i, h_j> + 1).

    Attributes:
        left: float64 (n, C), rows of length 1 or 0.
        right: float64 (n, D), rows of length 1 or 0.
    """

    left: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, images: Features, vectors: Vectors) -> "Similarity":
        """Similarity of images by their features, or by the gradients of their loss in the last layer."""
        if vectors == "features":
            return cls.of_features(images.features)
        gradients = Gradients.of(images)
        return cls(unit_length(gradients.left), unit_length(gradients.right))

    @classmethod
    def of_features(cls, features: np.ndarray) -> "Similarity":
        """Similarity of feature vectors (n, D)."""
        return cls(np.ones((len(features), 1)), unit_length(features))

    def row(self, image: int) -> np.ndarray:
        """Similarity of one image to each: float64 (n,)."""
        return 0.5 + 0.5 * (self.left @ self.left[image]) * (self.right @ self.right[image])

    def to_itself(self) -> np.ndarray:
        """Similarity of each image to itself, 1 but for zero vectors: float64 (n,)."""
        return 0.5 + 0.5 * np.square(self.left).sum(1) * np.square(self.right).sum(1)

    def sums(self) -> np.ndarray:
        """Similarity of each image summed over all, in O(n C D) without the (n, n) matrix: float64 (n,)."""
        total = self.left.T @ self.right
        return 0.5 * len(self.left) + 0.5 * np.einsum("nc,nc->n", self.left, self.right @ total.T)

    def matrix(self) -> np.ndarray:
        """All of them: float64 (n, n)."""
        both = self.right @ self.right.T
        both *= self.left @ self.left.T
        both *= 0.5
        both += 0.5
        return both


@dataclass(frozen=True)
class Gradients:
    """Gradients of each image's cross-entropy in weights and biases of the last layer, at their length.

    Image i has g_i = d_i x [h_i, 1], a matrix of C rows, with d = softmax - one-hot and h what enters the layer. It is
    kept as its two factors: C (D + 1) numbers per image would be 2.7 GB for a class of ImageNet. No mean over a batch
    is taken, so that no gradient depends on the size of the batch that its image came in.

    Attributes:
        left: float64 (n, C), the d_i.
        right: float64 (n, D + 1), the [h_i, 1].
    """

    left: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, images: Features) -> "Gradients":
        """Gradients from what the network says of the images."""
        with_bias = np.concatenate([images.features, np.ones((len(images.features), 1))], 1)
        return cls(output_gradients(images.logits, images.labels), with_bias)

    def squares(self) -> np.ndarray:
        """Squared Euclidean length of each: (n,)."""
        return np.asarray(np.square(self.left).sum(1) * np.square(self.right).sum(1))

    def mean(self) -> np.ndarray:
        """Their mean: (C, D + 1)."""
        return self.left.T @ self.right / len(self.left)

    def along(self, direction: np.ndarray) -> np.ndarray:
        """Inner product of each with a direction (C, D + 1): (n,)."""
        return np.asarray(np.einsum("nc,nc->n", self.left, self.right @ direction.T))

    def row(self, image: int) -> np.ndarray:
        """Inner product of each with that of one image: (n,)."""
        return np.asarray((self.left @ self.left[image]) * (self.right @ self.right[image]))

    def distances(self) -> np.ndarray:
        """Euclidean distance of each two: (n, n), symmetric, and exactly 0 between equal ones.

        With L = |d_i - d_j|^2, R = |r_i - r_j|^2 and r = [h, 1], the squared distance is
        (L (|r_i|^2 + |r_j|^2) + R (|d_i|^2 + |d_j|^2) - L R + (|d_i|^2 - |d_j|^2) (|r_i|^2 - |r_j|^2)) / 2:
        |g_i|^2 + |g_j|^2 - 2 <g_i, g_j> without the cancellation that makes equal ones differ.
        """
        n, lefts, rights = len(self.left), np.square(self.left).sum(1), np.square(self.right).sum(1)
        distances = np.empty((n, n))
        for i in range(n):
            left, right = (cdist(x[i : i + 1], x, "sqeuclidean")[0] for x in (self.left, self.right))
            turned = left * (rights[i] + rights) + right * (lefts[i] + lefts) - left * right
            distances[i] = np.sqrt(np.maximum(turned + (lefts[i] - lefts) * (rights[i] - rights), 0) / 2)
        return distances


def output_gradients(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Gradient of the cross-entropy in the logits, softmax - one-hot, float64 (n, C).

    The label's entry is minus the sum of the others, which keeps its digits where the softmax is near 1.
    """
    rows = np.arange(len(labels))
    powers = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    gradients = powers / powers.sum(1, keepdims=True)
    gradients[rows, labels] = 0
    gradients[rows, labels] = -gradients.sum(1)
    return gradients

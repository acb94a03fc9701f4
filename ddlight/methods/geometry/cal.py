"""CAL: images that a network predicts unlike their nearest neighbours in feature space."""

from typing import Any, Literal

import numpy as np
from scipy.special import log_softmax
from sklearn.neighbors import NearestNeighbors

from ddlight.core.errors import UsageError
from ddlight.methods.geometry.selector import GeometrySelector
from ddlight.methods.scoring.features import Features


def contrast(features: np.ndarray, logits: np.ndarray, k: int) -> np.ndarray:
    """Mean over the k nearest neighbours of the symmetric KL divergence, 0.5 KL(p || q) + 0.5 KL(q || p): (n,), nats.

    Logarithms are those of the log-softmax, finite where a probability is 0. One image alone has 0.

    Args:
        features: (n, D); neighbours are nearest in Euclidean distance, an image not its own.
        logits: (n, C).
        k: neighbours; all others where there are fewer.
    """
    k = min(k, len(features) - 1)
    if k == 0:
        return np.zeros(len(features))
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(features.astype(np.float64))
    logs = log_softmax(logits.astype(np.float64), axis=1)
    chances, total = np.exp(logs), np.zeros(len(features))
    for others in search.kneighbors(return_distance=False).T:
        total += 0.5 * np.einsum("nc,nc->n", chances - chances[others], logs - logs[others])
    return total / k


class CAL(GeometrySelector):
    """Images of each class whose prediction differs most from those of their nearest neighbours.

    Paper: arXiv 2109.03764 (contrastive active learning), as a coreset in DeepCore, arXiv 2204.08499.
    Deviation: neighbours are sought among the images of the class, as DeepCore does where it balances classes; the
    paper seeks them among all labelled ones. The divergence is DeepCore's symmetric one; the paper's is
    KL(neighbour || image).

    Args:
        k: nearest neighbours.
        keep: "largest" divergence, as the paper has it, or "smallest", as DeepCore's code has it: images that are
            predicted like their neighbours, which are easy ones.
    """

    def __init__(
        self, *args: Any, k: int = 10, keep: Literal["largest", "smallest"] = "largest", **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if k < 1:
            raise UsageError(f"k is {k}; allowed: 1 or more.")
        self.k, self.keep = k, keep

    def order(self, images: Features, count: int, rng: np.random.Generator) -> np.ndarray:
        """By divergence."""
        scores = contrast(images.features, images.logits, self.k)
        return np.argsort(-scores if self.keep == "largest" else scores, kind="stable")[:count]

"""CAL: images that a network predicts unlike their nearest neighbours in feature space."""

import numpy as np
from scipy.special import log_softmax
from sklearn.neighbors import NearestNeighbors


def contrast(features: np.ndarray, logits: np.ndarray, k: int) -> np.ndarray:
    """Mean over the k nearest neighbours of the symmetric KL divergence, 0.5 KL(p || q) + 0.5 KL(q || p), in nats.

    Logarithms are those of the log-softmax, finite where a probability is 0.

    Args:
        features: (n, D); neighbours are nearest in Euclidean distance, an image not its own.
        logits: (n, C).
        k: neighbours; all others where there are fewer.

    Returns:
        float64 (n,); 0 for one image alone.
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

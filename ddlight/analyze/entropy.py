"""How soft a set's labels are: their mean entropy in bits, 0 for hard ones."""

import math
from collections.abc import Iterable

import numpy as np
from scipy.special import entr, softmax


def bits(probabilities: np.ndarray) -> np.ndarray:
    """Entropy of each row of probabilities (n, K), in bits: (n,). Rows are brought to the sum 1 first."""
    p = probabilities.astype(np.float64)
    return np.asarray(entr(p / p.sum(1, keepdims=True)).sum(1) / math.log(2))


def own_entropy(labels: np.ndarray, kind: str) -> float | None:
    """Mean entropy of the labels that a set is stored with, in bits.

    Args:
        labels: classes (N,), or (N, K).
        kind: of (N, K): "probabilities", "logits" (their softmax is taken), or another, which has no entropy: None.
    """
    if labels.ndim == 1:
        return 0.0
    if kind == "logits":
        return mean_entropy([labels], 1.0)
    return float(bits(labels).mean()) if kind == "probabilities" else None


def mean_entropy(parts: Iterable[np.ndarray], temperature: float) -> float:
    """Mean entropy in bits of softmax(logits / T) over parts (n, K), which need not be in memory together."""
    total, count = 0.0, 0
    for part in parts:
        found = bits(softmax(part.astype(np.float64) / temperature, axis=1))
        total, count = total + float(found.sum()), count + len(found)
    return total / count

"""DUAL: images that are uncertain and difficult early in training, drawn towards easy ones where few are kept."""

from typing import Any, Literal

import numpy as np

from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring.table import ScoreTable


def beta(
    difficulty: np.ndarray, mean_prob: np.ndarray, count: int, rng: np.random.Generator, kept: float, c_d: float
) -> np.ndarray:
    """Beta sampling, for small subsets: draw by Beta(a, b).pdf(mean probability) x score.

    b = 15 (1 - mu)(1 - r ** c_d) and a = 16 - b with r the pruned share and mu the mean probability of the ten images
    of highest score: as r grows, the mode moves to easy images.

    Args:
        difficulty: (n,): the DUAL score, 0 or more.
        mean_prob: (n,): mean probability of the image's class over the scored passes.
        count: images to draw.
        rng: draws without replacement.
        kept: share of all images that is kept, 1 - r.
        c_d: how early the mode moves.

    Returns rows in drawn order, int64 (count,).
    """
    from scipy.stats import beta as distribution

    anchor = float(mean_prob[np.argsort(-difficulty, kind="stable")[:10]].mean())
    b = 15 * (1 - anchor) * (1 - (1 - kept) ** c_d)
    weights = distribution.pdf(np.clip(mean_prob, 1e-6, 1 - 1e-6), 16 - b, max(b, 1e-6)) * np.maximum(difficulty, 0)
    return weighted(weights, count, rng)


def weighted(weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw rows by weight (n,), without replacement, those of weight 0 where the others are too few: int64 (count,)."""
    keys = rng.random(len(weights))
    positive = weights > 0
    with np.errstate(divide="ignore"):
        race = np.where(positive, np.log(keys) / np.where(positive, weights, 1.0), -np.inf)
    return np.lexsort((keys, -race))[:count]


class DUAL(ScoreSelector):
    """The images of each class with the largest std x (1 - mean) of their probability, or a Beta-weighted draw.

    Paper: arXiv 2502.06905. The first `scoring.dual` passes are looked at; `keep` is for `sampler: top` alone.
    Deviation: each class has a draw and an anchor mu of its own, so that every class keeps ipc images; its authors'
    code draws from all images together and anchors mu on the ten of highest score among them.

    Args:
        sampler: "beta", the paper's draw for strong pruning, or "top".
        c_d: "beta" only: how early the draw moves to easy images; 5.5 for CIFAR-10, 4 for CIFAR-100, 11 for ImageNet.
    """

    def __init__(self, *args: Any, sampler: Literal["beta", "top"] = "beta", c_d: float = 4.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sampler, self.c_d = sampler, c_d

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """Mean over windows of 10 std (1 - mean) of the own class's probability: (N,)."""
        return table["train.dual"]

    def sample(self, rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Beta-weighted draw, or the end of the ranking."""
        if self.sampler == "top":
            return super().sample(rows, count, rng)
        mean = self.table["train.dual_prob"][rows]
        return rows[beta(self.scores[rows], mean, count, rng, count / len(rows), self.c_d)]

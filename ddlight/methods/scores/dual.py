"""DUAL: images that are uncertain and difficult early in training, drawn towards easy ones where few are kept."""

from typing import Any, Literal

import numpy as np

from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring import samplers, scores
from ddlight.methods.scoring.table import ScoreTable


class DUAL(ScoreSelector):
    """The images of each class with the largest std x (1 - mean) of their probability, or a Beta-weighted draw.

    Paper: arXiv 2502.06905. The first `scoring.dual` passes are looked at; `keep` is for `sampler: top` alone.

    Args:
        sampler: "beta", the paper's draw for strong pruning, or "top".
        c_d: "beta" only: how early the draw moves to easy images; 5.5 for CIFAR-10, 4 for CIFAR-100, 11 for ImageNet.
    """

    def __init__(self, *args: Any, sampler: Literal["beta", "top"] = "beta", c_d: float = 4.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sampler, self.c_d = sampler, c_d

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """DUAL: (N,)."""
        return scores.dual(table)

    def sample(self, rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Beta-weighted draw, or the end of the ranking."""
        if self.sampler == "top":
            return super().sample(rows, count, rng)
        mean = self.table["train.dual_prob"][rows]
        return rows[samplers.beta(self.scores[rows], mean, count, rng, count / len(rows), self.c_d)]

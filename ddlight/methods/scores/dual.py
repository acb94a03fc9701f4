"""DUAL: images that are uncertain and difficult early in training, drawn towards easy ones where few are kept."""

from typing import Literal

import numpy as np

from ddlight.data.base import RealDataset
from ddlight.methods.scores.selector import Keep, ScoredSelector
from ddlight.methods.scoring import samplers, scores
from ddlight.methods.scoring.run import Scoring
from ddlight.methods.scoring.samplers import Balance
from ddlight.methods.scoring.table import ScoreTable


class DUAL(ScoredSelector):
    """The images of each class with the largest std x (1 - mean) of their probability, or a Beta-weighted draw.

    Paper: arXiv 2502.06905.

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of the scoring run, where that has none of its own, and of every draw.
        cache: folder of condensed sets.
        scoring: how the network that scores is trained; `scoring.dual` passes are looked at.
        balance: "ipc" takes exactly ipc images of each class; "proportional", "floor" (half of an even share for each
            class, the rest over all) and "none" take ipc x classes images in all.
        keep: "hard" or "easy" end of the ranking; for sampler "top" only.
        sampler: "beta", the paper's draw for strong pruning, or "top".
        c_d: "beta" only: how early the draw moves to easy images; 5.5 for CIFAR-10, 4 for CIFAR-100, 11 for ImageNet.
    """

    def __init__(
        self,
        dataset: RealDataset,
        ipc: int = 10,
        seed: int = 0,
        cache: str | None = None,
        scoring: Scoring = Scoring(),  # noqa: B008  frozen
        balance: Balance = "ipc",
        keep: Keep = "hard",
        sampler: Literal["beta", "top"] = "beta",
        c_d: float = 4.0,
    ) -> None:
        super().__init__(dataset, ipc, seed, cache, scoring, balance, keep)
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

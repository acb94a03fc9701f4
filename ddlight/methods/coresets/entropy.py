"""Entropy: images that the trained network is undecided about."""

import numpy as np

from ddlight.datasets.base import RealDataset
from ddlight.methods.scored import Keep, ScoredSelector
from ddlight.scoring import scores
from ddlight.scoring.run import Scoring
from ddlight.scoring.samplers import Balance
from ddlight.scoring.table import ScoreTable


class Entropy(ScoredSelector):
    """The images of each class with the largest entropy of the trained network's answer.

    Paper: uncertainty selection of arXiv 1906.11829, as in DeepCore (arXiv 2204.08499).

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of the scoring run, where that has none of its own, and of every draw.
        cache: folder of condensed sets.
        scoring: how the network that scores is trained.
        balance: "ipc" takes exactly ipc images of each class; "proportional", "floor" (half of an even share for each
            class, the rest over all) and "none" take ipc x classes images in all.
        keep: "hard" or "easy" end of the ranking.
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
    ) -> None:
        super().__init__(dataset, ipc, seed, cache, scoring, balance, keep)

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """Entropy in nats: (N,)."""
        return scores.entropy(table)

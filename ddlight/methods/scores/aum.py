"""AUM: images whose class wins by little, or loses, on average over training."""

import numpy as np

from ddlight.data.base import RealDataset
from ddlight.methods.scores.selector import Keep, ScoredSelector
from ddlight.methods.scoring import scores
from ddlight.methods.scoring.run import Scoring
from ddlight.methods.scoring.samplers import Balance
from ddlight.methods.scoring.scores import Space
from ddlight.methods.scoring.table import ScoreTable


class AUM(ScoredSelector):
    """The images of each class with the smallest area under the margin.

    Paper: arXiv 2001.10528; as a coreset score, with margins of probabilities, arXiv 2210.15809.

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of the scoring run, where that has none of its own, and of every draw.
        cache: folder of condensed sets.
        scoring: how the network that scores is trained.
        balance: "ipc" takes exactly ipc images of each class; "proportional", "floor" (half of an even share for each
            class, the rest over all) and "none" take ipc x classes images in all.
        keep: "hard" or "easy" end of the ranking.
        margin_space: margins of probabilities ("prob", as CCS) or of logits ("logit", as AUM itself).
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
        margin_space: Space = "prob",
    ) -> None:
        super().__init__(dataset, ipc, seed, cache, scoring, balance, keep)
        self.margin_space = margin_space

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """Less the mean margin: (N,)."""
        return scores.aum(table, self.margin_space)

"""Forgetting: images that the network learned and lost again."""

import numpy as np

from ddlight.data.base import RealDataset
from ddlight.methods.scores.selector import Keep, ScoredSelector
from ddlight.methods.scoring import scores
from ddlight.methods.scoring.run import Scoring
from ddlight.methods.scoring.samplers import Balance
from ddlight.methods.scoring.scores import NeverLearned
from ddlight.methods.scoring.table import ScoreTable


class Forgetting(ScoredSelector):
    """The images of each class that were forgotten most often.

    Paper: arXiv 1812.05159; Forgetting-easy of arXiv 2604.18811 is `keep: easy`.
    Counts have many ties, which a seeded draw breaks.
    Deviation: the counts of one run, which all scores share; the paper sums five.

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of the scoring run, where that has none of its own, and of every draw.
        cache: folder of condensed sets.
        scoring: how the network that scores is trained.
        balance: "ipc" takes exactly ipc images of each class; "proportional", "floor" (half of an even share for each
            class, the rest over all) and "none" take ipc x classes images in all.
        keep: "hard" or "easy" end of the ranking.
        never_learned: images that were never right rank hardest ("max", as published) or easiest ("zero", as DeepCore,
            CCS, D2 and DUAL have it).
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
        never_learned: NeverLearned = "max",
    ) -> None:
        super().__init__(dataset, ipc, seed, cache, scoring, balance, keep)
        self.never_learned = never_learned

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """Forgetting events: (N,)."""
        return scores.forgetting(table, self.never_learned)

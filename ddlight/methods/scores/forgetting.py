"""Forgetting: images that the network learned and lost again."""

from typing import Any

import numpy as np

from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring import scores
from ddlight.methods.scoring.scores import NeverLearned
from ddlight.methods.scoring.table import ScoreTable


class Forgetting(ScoreSelector):
    """The images of each class that were forgotten most often.

    Paper: arXiv 1812.05159; Forgetting-easy of arXiv 2604.18811 is `keep: easy`.
    Counts have many ties, which a seeded draw breaks.
    Deviation: the counts of one run, which all scores share; the paper sums five.

    Args:
        never_learned: images that were never right rank hardest ("max", as published) or easiest ("zero", as DeepCore,
            CCS, D2 and DUAL have it).
    """

    def __init__(self, *args: Any, never_learned: NeverLearned = "max", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.never_learned = never_learned

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """Forgetting events: (N,)."""
        return scores.forgetting(table, self.never_learned)

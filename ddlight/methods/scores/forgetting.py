"""Forgetting: images that the network learned and lost again."""

from typing import Any, Literal

import numpy as np

from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring.table import ScoreTable

NeverLearned = Literal["max", "zero"]


def forgetting(table: ScoreTable, never_learned: NeverLearned = "max") -> np.ndarray:
    """How often an image was right in one pass and wrong in the next: (N,).

    Args:
        table: of a scoring run.
        never_learned: images that were never right get the number of passes ("max"), or keep their count of zero.
    """
    events = table["train.forgetting"]
    if never_learned == "zero":
        return events
    return np.where(table["train.learned"] > 0, events, max(float(table["train.seen"].max()), 1.0))


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
        return forgetting(table, self.never_learned)

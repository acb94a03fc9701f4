"""EL2N: images whose answer is far from the class early in training."""

import numpy as np

from ddlight.data.base import RealDataset
from ddlight.methods.scores.selector import Keep, ScoredSelector
from ddlight.methods.scoring import scores
from ddlight.methods.scoring.run import Scoring
from ddlight.methods.scoring.samplers import Balance
from ddlight.methods.scoring.scores import Signal
from ddlight.methods.scoring.table import ScoreTable


class EL2N(ScoredSelector):
    """The hardest (or easiest) images of each class by the norm of softmax minus one-hot.

    Paper: arXiv 2107.07075. EL2N-easy and EL2N-hard of arXiv 2604.18811 are `keep`.
    Deviation: the paper averages ten networks; one scoring run is one network, and another seed is another one.

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of the scoring run, where that has none of its own, and of every draw.
        cache: folder of condensed sets.
        scoring: how the network that scores is trained.
        balance: "ipc" takes exactly ipc images of each class; "proportional", "floor" (half of an even share for each
            class, the rest over all) and "none" take ipc x classes images in all.
        keep: "hard" or "easy" end of the ranking.
        signal: "clean": one pass over the images as they are, as published; "train": mean over the first
            `scoring.early` passes' augmented views, as CCS has it.
        at: "clean" only: the first clean pass at or after this fraction of the run (epoch 20 of 200 is 0.1).
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
        signal: Signal = "clean",
        at: float = 0.1,
    ) -> None:
        super().__init__(dataset, ipc, seed, cache, scoring, balance, keep)
        self.signal, self.at = signal, at

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """EL2N: (N,)."""
        return scores.el2n(table, self.signal, self.at)

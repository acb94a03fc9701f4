"""CCS: drop the hardest images, then draw evenly over strata of difficulty, within each class."""

from typing import Literal

import numpy as np

from ddlight.datasets.base import RealDataset
from ddlight.methods.scored import ScoredSelector
from ddlight.scoring import samplers, scores
from ddlight.scoring.run import Scoring
from ddlight.scoring.samplers import Balance, Binning
from ddlight.scoring.table import ScoreTable

Score = Literal["aum", "el2n", "forgetting", "dual", "dyn_unc", "entropy"]


class CCS(ScoredSelector):
    """Coverage-centric coresets: AUM (or another score) sampled over strata, the hardest share left out.

    Paper: arXiv 2210.15809; per class as Algorithm 1 of arXiv 2606.18209 (AUM+CCS).
    The strata of a class reach from its own smallest to its own largest score. What is dropped is always what AUM calls
    hardest, as in the authors' code.

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of the scoring run, where that has none of its own, and of every draw.
        cache: folder of condensed sets.
        scoring: how the network that scores is trained.
        balance: "ipc" applies the whole procedure within each class, to ipc images; "proportional", "floor" (half of an
            even share for each class, the rest over all) and "none" (as the authors' code) take ipc x classes in all.
        score: what the strata are made of.
        cutoff: beta: share of the images (of the class) that is dropped, hardest first. Published: 0.3 for CIFAR-10 and
            ImageNet and 0.5 for CIFAR-100 where a tenth is kept; for small ipc none is.
        bins: number of strata.
        binning: strata of equal "width", as published, or of equal population ("quantile").
        even: with fewer images than strata, spread them over the whole range; the published allocation then takes the
            most populated strata.
    """

    def __init__(
        self,
        dataset: RealDataset,
        ipc: int = 10,
        seed: int = 0,
        cache: str | None = None,
        scoring: Scoring = Scoring(),  # noqa: B008  frozen
        balance: Balance = "ipc",
        score: Score = "aum",
        cutoff: float = 0.3,
        bins: int = 50,
        binning: Binning = "width",
        even: bool = False,
    ) -> None:
        super().__init__(dataset, ipc, seed, cache, scoring, balance)
        self.score, self.cutoff, self.bins, self.binning, self.even = score, cutoff, bins, binning, even

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """The score that the strata are made of: (N,)."""
        found: np.ndarray = getattr(scores, self.score)(table)
        return found

    def sample(self, rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Drop, then draw over strata."""
        prune_by = scores.aum(self.table)[rows]
        how = {"cutoff": self.cutoff, "bins": self.bins, "binning": self.binning, "even": self.even}
        return rows[samplers.ccs(self.scores[rows], count, rng, prune_by=prune_by, **how)]  # type: ignore[arg-type]

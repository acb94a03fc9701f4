"""CCS: drop the hardest images, then draw evenly over strata of difficulty, within each class."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ddlight.data.base import RealDataset
from ddlight.methods.scores.searched import SearchedSelector
from ddlight.methods.scores.selector import ScoredSelector
from ddlight.methods.scoring import samplers, scores
from ddlight.methods.scoring.run import Scoring
from ddlight.methods.scoring.samplers import Balance, Binning
from ddlight.methods.scoring.search import Search
from ddlight.methods.scoring.table import ScoreTable

Score = Literal["aum", "el2n", "forgetting", "dual", "dyn_unc", "entropy"]


class CCS(SearchedSelector):
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
        cutoffs: beta: shares of the images (of the class) that are dropped, hardest first; of several the one with the
            highest held-out accuracy. Published: 0.3 for CIFAR-10 and ImageNet, 0.5 for CIFAR-100, where a tenth is
            kept; for small ipc none is.
        bins: number of strata.
        binning: strata of equal "width", as published, or of equal population ("quantile").
        even: with fewer images than strata, spread them over the whole range; the published allocation then takes the
            most populated strata.
        search: how students are trained on each cutoff, where there are several.
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
        cutoffs: tuple[float, ...] = (0.3,),
        bins: int = 50,
        binning: Binning = "width",
        even: bool = False,
        search: Search = Search(),  # noqa: B008  frozen
    ) -> None:
        super().__init__(dataset, ipc, seed, cache, scoring, balance)
        self.score, self.cutoffs, self.search = score, tuple(cutoffs), search
        self.bins, self.binning, self.even = bins, binning, even

    @property
    def options(self) -> Sequence[float]:
        """The cutoffs."""
        return self.cutoffs

    def variant(self, value: float) -> ScoredSelector:
        """The same with one cutoff."""
        own = (self.dataset, self.ipc, self.seed, self.cache, self.scoring, self.balance, self.score)
        return CCS(*own, cutoffs=(value,), bins=self.bins, binning=self.binning, even=self.even)

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """The score that the strata are made of: (N,)."""
        found: np.ndarray = getattr(scores, self.score)(table)
        return found

    def sample(self, rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Drop, then draw over strata."""
        prune_by = scores.aum(self.table)[rows]
        how = {"cutoff": self.chosen, "bins": self.bins, "binning": self.binning, "even": self.even}
        return rows[samplers.ccs(self.scores[rows], count, rng, prune_by=prune_by, **how)]  # type: ignore[arg-type]

"""CCS: drop the hardest images, then draw evenly over strata of difficulty, within each class."""

from collections.abc import Callable
from operator import itemgetter
from typing import Any, ClassVar, Literal

import numpy as np

from ddlight.methods.scores.aum import aum
from ddlight.methods.scores.dyn_unc import dyn_unc
from ddlight.methods.scores.el2n import el2n
from ddlight.methods.scores.forgetting import forgetting
from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring import samplers
from ddlight.methods.scoring.samplers import Binning
from ddlight.methods.scoring.search import TINY_SEARCH, Search
from ddlight.methods.scoring.table import ScoreTable

Score = Literal["aum", "el2n", "forgetting", "dual", "dyn_unc", "entropy"]
SCORES: dict[str, Callable[[ScoreTable], np.ndarray]] = {
    "aum": aum,
    "el2n": el2n,
    "forgetting": forgetting,
    "dual": itemgetter("train.dual"),
    "dyn_unc": dyn_unc,
    "entropy": itemgetter("clean.entropy"),
}


class CCS(ScoreSelector):
    """Coverage-centric coresets: AUM (or another score) sampled over strata, the hardest share left out.

    Paper: arXiv 2210.15809; per class as Algorithm 1 of arXiv 2606.18209 (AUM+CCS).
    The whole procedure is applied within each class; `balance: none` applies it to all together, as the authors' code.
    The strata of a class reach from its own smallest to its own largest score. What is dropped is always what AUM calls
    hardest, as in the authors' code.

    Args:
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

    tiny: ClassVar[dict[str, Any]] = {**ScoreSelector.tiny, "search": TINY_SEARCH}
    tried: ClassVar[str] = "cutoffs"

    def __init__(
        self,
        *args: Any,
        score: Score = "aum",
        cutoffs: tuple[float, ...] = (0.3,),
        bins: int = 50,
        binning: Binning = "width",
        even: bool = False,
        search: Search = Search(),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, keep="hard", **kwargs)
        self.score, self.cutoffs, self.search = score, tuple(cutoffs), search
        self.bins, self.binning, self.even = bins, binning, even

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """The score that the strata are made of: (N,)."""
        return SCORES[self.score](table)

    def sample(self, rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Drop, then draw over strata."""
        prune_by = aum(self.table)[rows]
        strata = (self.bins, self.binning, self.even)
        return rows[samplers.ccs(self.scores[rows], count, rng, self.chosen, *strata, prune_by=prune_by)]

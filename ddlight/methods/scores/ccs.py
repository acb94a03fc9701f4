"""CCS: drop the hardest images, then draw evenly over strata of difficulty, within each class."""

from collections.abc import Callable
from operator import itemgetter
from typing import Any, ClassVar, Literal

import numpy as np

from ddlight.core.errors import UsageError
from ddlight.methods.scores.aum import aum
from ddlight.methods.scores.dyn_unc import dyn_unc
from ddlight.methods.scores.el2n import el2n
from ddlight.methods.scores.forgetting import forgetting
from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring import samplers
from ddlight.methods.scoring.search import TINY_SEARCH, Search
from ddlight.methods.scoring.table import ScoreTable

Binning = Literal["width", "quantile"]
Score = Literal["aum", "el2n", "forgetting", "dual", "dyn_unc", "entropy"]
SCORES: dict[str, Callable[[ScoreTable], np.ndarray]] = {
    "aum": aum,
    "el2n": el2n,
    "forgetting": forgetting,
    "dual": itemgetter("train.dual"),
    "dyn_unc": dyn_unc,
    "entropy": itemgetter("clean.entropy"),
}


def ccs(
    difficulty: np.ndarray,
    count: int,
    rng: np.random.Generator,
    cutoff: float = 0.0,
    bins: int = 50,
    binning: Binning = "width",
    even: bool = False,
    prune_by: np.ndarray | None = None,
) -> np.ndarray:
    """Coverage-centric sampling: drop the hardest share, then draw evenly over strata of the score.

    Strata are visited from the least to the most populated; each gives min(its size, floor(what is left / strata
    left)), as in the authors' code. With fewer images than strata that puts one image into each of the `count` most
    populated ones; `even` gives them to strata spread over the whole range instead.

    Args:
        difficulty: (n,): what the strata are made of.
        count: images to draw.
        rng: draws within strata.
        cutoff: beta, the share of the n images that is dropped, hardest first.
        bins: number of strata.
        binning: strata of equal width between the smallest and the largest score, or of equal population.
        even: with fewer images than strata, spread them over the range.
        prune_by: (n,): what the hardest are dropped by, where that is another score (the authors always use AUM).

    Returns rows in drawn order, int64 (count,).

    Raises:
        UsageError: too few images are left after the cutoff.
    """
    kept = easiest_share(difficulty if prune_by is None else prune_by, count, rng, cutoff)
    strata = _strata(difficulty[kept], bins, binning)
    if even and count < len(strata):
        strata = _joined(strata, count)
    counts = allocate([len(s) for s in strata], count)
    drawn = [rng.permutation(s)[:k] for s, k in zip(strata, counts, strict=True)]
    return rng.permutation(kept[np.concatenate(drawn)])


def easiest_share(difficulty: np.ndarray, count: int, rng: np.random.Generator, cutoff: float) -> np.ndarray:
    """What is left when the hardest share `cutoff` of n images is dropped: int64, hardest first.

    The number that is dropped is rounded down. Raises UsageError where fewer than `count` images are left.
    """
    n = len(difficulty)
    left = n - int(cutoff * n)
    if not 0 <= cutoff < 1 or left < count:
        most = max(0, n - count) / n
        raise UsageError(
            f"cutoff {cutoff} leaves {left} of {n} images, and {count} are to be drawn. Allowed here: 0 to {most:.3f}."
        )
    return samplers.hardest_first(difficulty, rng)[n - left :]


def _strata(scores: np.ndarray, bins: int, binning: Binning) -> list[np.ndarray]:
    """Rows of each stratum that is not empty, from low to high scores; the last stratum is closed on both sides."""
    if binning == "quantile":
        parts = np.array_split(np.argsort(scores, kind="stable"), bins)
        return [part for part in parts if len(part)]
    low, high = float(scores.min()), float(scores.max())
    place = np.zeros(len(scores), np.int64)
    if high > low:
        place = np.minimum(((scores - low) / (high - low) * bins).astype(np.int64), bins - 1)
    return [rows for b in range(bins) if len(rows := np.flatnonzero(place == b))]


def _joined(strata: list[np.ndarray], count: int) -> list[np.ndarray]:
    """Neighbouring strata joined until there are `count`."""
    return [np.concatenate(strata[part[0] : part[-1] + 1]) for part in np.array_split(np.arange(len(strata)), count)]


def allocate(sizes: list[int], count: int) -> list[int]:
    """Share `count` over strata of these sizes, from the least populated on: min(size, floor(rest / strata left))."""
    shares, rest = [0] * len(sizes), count
    for done, stratum in enumerate(sorted(range(len(sizes)), key=lambda s: sizes[s])):
        shares[stratum] = min(sizes[stratum], rest // (len(sizes) - done))
        rest -= shares[stratum]
    return shares


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
        return rows[ccs(self.scores[rows], count, rng, self.chosen, *strata, prune_by=prune_by)]

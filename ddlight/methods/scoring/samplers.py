"""From scores to subsets. A sampler takes the difficulty of some images and a number, and returns rows, best first.

Scores and samplers are separate things: any score may go with any sampler. Ties are broken by a seeded draw, never by
the order of files.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from ddlight.core.errors import DataError, UsageError

Balance = Literal["ipc", "proportional", "floor", "none"]
Binning = Literal["width", "quantile"]
Sampler = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
"""(rows to choose from int64 (n,), count, generator) -> int64 (count,), best first."""


def require_finite(scores: np.ndarray, what: str) -> np.ndarray:
    """Return the scores. Raises DataError where some are not numbers, saying how many."""
    wrong = int((~np.isfinite(scores)).sum())
    if wrong:
        raise DataError(
            f"{what}: {wrong:,} of {len(scores):,} scores are not finite numbers. Train the scoring run with a lower "
            "learning rate, or score the images again."
        )
    return scores


def hardest_first(difficulty: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Order from hard to easy, equal ones in drawn order: int64 (n,).

    Args:
        difficulty: (n,), larger is harder.
        rng: draws the order of ties.
    """
    return np.lexsort((rng.permutation(len(difficulty)), -np.asarray(difficulty, np.float64)))


def hard(difficulty: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """The hardest: int64 (count,), hardest first."""
    return hardest_first(difficulty, rng)[:count]


def easy(difficulty: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """The easiest: int64 (count,), easiest first."""
    return hardest_first(difficulty, rng)[::-1][:count]


def window(difficulty: np.ndarray, count: int, offset: int, rng: np.random.Generator) -> np.ndarray:
    """`count` images in a row of the order from hard to easy: int64 (count,).

    Offset 0 is `hard`, n - count is `easy` reversed, half of that is Moderate's median window.

    Args:
        difficulty: (n,).
        count: size of the window.
        offset: how many harder images are passed over, 0 to n - count.
        rng: draws the order of ties.

    Raises:
        UsageError: the window leaves the class.
    """
    if not 0 <= offset <= len(difficulty) - count:
        raise UsageError(
            f"A window of {count} that begins after {offset} images leaves a class of {len(difficulty)}; allowed "
            f"offsets: 0 to {len(difficulty) - count}."
        )
    return hardest_first(difficulty, rng)[offset : offset + count]


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
    """Coverage-centric sampling (arXiv 2210.15809): drop the hardest share, then draw evenly over strata of the score.

    Strata are visited from the least to the most populated; each gives min(its size, floor(what is left / strata
    left)), as in the authors' code. With fewer images than strata that puts one image into each of the `count` most
    populated ones; `even` gives them to strata spread over the whole range instead.

    Args:
        difficulty: (n,), larger is harder: what the strata are made of.
        count: images to draw.
        rng: draws within strata.
        cutoff: beta, the share of the n images that is dropped, hardest first.
        bins: number of strata.
        binning: strata of equal width between the smallest and the largest score, or of equal population.
        even: with fewer images than strata, spread them over the range.
        prune_by: (n,): what the hardest are dropped by, where that is another score (the authors always use AUM).

    Returns:
        int64 (count,), in drawn order.

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
    """What is left when the share `cutoff` of the images is dropped, hardest first: int64, hardest first.

    Args:
        difficulty: (n,).
        count: images that are to be drawn from the rest.
        rng: draws the order of ties.
        cutoff: share that is dropped, 0 to less than 1.

    Raises:
        UsageError: fewer than `count` images are left.
    """
    n = len(difficulty)
    left = n - int(cutoff * n)
    if not 0 <= cutoff < 1 or left < count:
        most = max(0, n - count) / n
        raise UsageError(
            f"cutoff {cutoff} leaves {left} of {n} images, and {count} are to be drawn. Allowed here: 0 to {most:.3f}."
        )
    return hardest_first(difficulty, rng)[n - left :]


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
    """Share `count` over strata of these sizes, from the least populated on: min(size, floor(rest / strata left)).

    Args:
        sizes: images of each stratum, `count` or more in all.
        count: to share.
    """
    shares, rest = [0] * len(sizes), count
    for done, stratum in enumerate(sorted(range(len(sizes)), key=lambda s: sizes[s])):
        shares[stratum] = min(sizes[stratum], rest // (len(sizes) - done))
        rest -= shares[stratum]
    return shares


def balanced(choose: Sampler, labels: np.ndarray, ipc: int, balance: Balance, rng: np.random.Generator) -> np.ndarray:
    """Apply a sampler to all classes together, under a rule of balance; ipc x classes images in all.

    Args:
        choose: the sampler.
        labels: int64 (N,): the class of each row.
        ipc: images per class, on average.
        balance: "proportional" to the sizes of the classes; "floor": half of an even share for every class and the
            rest over all; "none": over all. ("ipc" is exact per class and made class by class.)
        rng: draws ties.

    Returns:
        int64 (ipc * classes,): rows.
    """
    rows, total = np.arange(len(labels)), ipc * (int(labels.max()) + 1)
    if balance == "none":
        return choose(rows, total, rng)
    sizes = np.bincount(labels)
    if balance == "proportional":
        counts = proportional(sizes, total)
        return np.concatenate([choose(rows[labels == c], k, rng) for c, k in enumerate(counts.tolist()) if k])
    floors = np.minimum(sizes, -(-ipc // 2))
    first = np.concatenate([choose(rows[labels == c], k, rng) for c, k in enumerate(floors.tolist())])
    rest = np.setdiff1d(rows, first)
    return np.concatenate([first, choose(rest, total - len(first), rng)])


def proportional(sizes: np.ndarray, total: int) -> np.ndarray:
    """Share `total` in proportion to `sizes`, by largest remainder: int64 (len(sizes),), each at most its size."""
    exact = sizes * (total / sizes.sum())
    counts = np.floor(exact).astype(np.int64)
    extra = np.argsort(counts - exact, kind="stable")[: total - int(counts.sum())]
    counts[extra] += 1
    return counts

"""From scores to subsets. A sampler takes the difficulty of some images and a number, and returns rows, best first.

Scores and samplers are separate things: any score may go with any sampler. Difficulty is (n,), larger is harder. Equal
images come in an order that `rng` draws, never in that of their files.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from ddlight.core.errors import DataError, UsageError

Balance = Literal["ipc", "proportional", "floor", "none"]
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
    """Order from hard to easy, equal ones in drawn order: int64 (n,)."""
    return np.lexsort((rng.permutation(len(difficulty)), -np.asarray(difficulty, np.float64)))


def hard(difficulty: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """The hardest: int64 (count,), hardest first."""
    return hardest_first(difficulty, rng)[:count]


def easy(difficulty: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """The easiest: int64 (count,), easiest first."""
    return hardest_first(difficulty, rng)[::-1][:count]


def window(difficulty: np.ndarray, count: int, offset: int, rng: np.random.Generator) -> np.ndarray:
    """`count` images in a row of the order from hard to easy, after `offset` harder ones: int64 (count,).

    Offset 0 is `hard`, n - count is `easy` reversed, half of that is Moderate's median window. Raises UsageError where
    the window leaves the class.
    """
    if not 0 <= offset <= len(difficulty) - count:
        raise UsageError(
            f"A window of {count} that begins after {offset} images leaves a class of {len(difficulty)}; allowed "
            f"offsets: 0 to {len(difficulty) - count}."
        )
    return hardest_first(difficulty, rng)[offset : offset + count]


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

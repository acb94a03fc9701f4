"""Label pruning: which of the label batches of M passes are kept."""

from typing import Literal

import numpy as np

from ddlight.errors import UsageError
from ddlight.randomness import generator

PruneUnit = Literal["batch", "epoch"]


def kept(epochs: int, batches: int, keep: float, seed: int, unit: PruneUnit = "batch") -> np.ndarray:
    """Draw the labels that are kept; a run goes round them in stored order, step by step.

    Source: LPLD (arXiv 2410.15919): random pruning of the label pool, by whole epochs or, more diverse, by batches.
    Deviation: LPLD's code keeps the first part of the pool, which is as random as any other where views are; here it
    is drawn, so that seeds give replicates. Its students draw from the pool with replacement, and never see a short
    last batch when whole passes are put together; here all that is kept is replayed equally often.

    Args:
        epochs: passes whose labels there are, M.
        batches: label batches of a pass.
        keep: share that is kept, in (0, 1]; at least one unit is.
        seed: of the draw.
        unit: what is kept or dropped as a whole: batch or epoch.

    Returns:
        int64 (P, 2): pass and batch within it, in stored order; all of them where `keep` is 1.

    Raises:
        UsageError: `keep` lies outside (0, 1], or there is no such unit.
    """
    if not 0 < keep <= 1:
        raise UsageError(f"keep is the share of the labels that is kept, above 0 and not above 1; {keep} was given.")
    if unit not in ("batch", "epoch"):
        raise UsageError(f"Labels are pruned by whole units, batch or epoch; unit: {unit} was given.")
    count = epochs * batches if unit == "batch" else epochs
    chosen = np.sort(generator(seed, "prune").permutation(count)[: max(1, round(keep * count))])
    if unit == "batch":
        return np.stack(np.divmod(chosen, batches), 1)
    return np.stack([np.repeat(chosen, batches), np.tile(np.arange(batches), len(chosen))], 1)

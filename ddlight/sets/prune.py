"""Label pruning: which of the label batches of M passes are kept."""

import numpy as np

from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator


def kept(epochs: int, batches: int, keep: float, seed: int) -> np.ndarray:
    """Draw the labels that are kept; a run goes round them in stored order, step by step.

    Source: LPLD (arXiv 2410.15919): random pruning of the label pool, by batches, which is more diverse than by epochs.
    Deviation: LPLD's code keeps the first part of the pool, which is as random as any other where views are; here it
    is drawn, so that seeds give replicates. Its students draw from the pool with replacement, and never see a short
    last batch when whole passes are put together; here all that is kept is replayed equally often.

    Args:
        epochs: passes whose labels there are, M.
        batches: label batches of a pass.
        keep: share that is kept, in (0, 1]; at least one batch is.
        seed: of the draw.

    Returns:
        int64 (P, 2): pass and batch within it, in stored order; all of them where `keep` is 1.

    Raises:
        UsageError: `keep` lies outside (0, 1].
    """
    if not 0 < keep <= 1:
        raise UsageError(f"keep is the share of the labels that is kept, above 0 and not above 1; {keep} was given.")
    count = epochs * batches
    chosen = np.sort(generator(seed, "prune").permutation(count)[: max(1, round(keep * count))])
    return np.stack(np.divmod(chosen, batches), 1)

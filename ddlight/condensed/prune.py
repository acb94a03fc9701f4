"""Label pruning: which stored label batches are kept, and which of them each batch of a run replays."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ddlight.errors import UsageError
from ddlight.randomness import generator

PruneUnit = Literal["epoch", "batch"]
Visit = Literal["cycle", "random"]


@dataclass(frozen=True)
class Pruning:
    """Keeps a random part of the labels that M passes stored, and replays it for as long as a run lasts.

    Source: LPLD (arXiv 2410.15919): random pruning of the label pool by whole epochs or, better, by single batches.
    Deviation: the published code keeps the first part of the pool, which is as random as any other for labels of
    random views; here the part is drawn, so that seeds give replicates. It also lets a short last batch stand for a
    full one, or leaves it out; here full batches are replayed by full ones and short by short ones, so that a pruned
    run sees as many images as any other.

    Args:
        keep: share of the stored labels that is kept, in (0, 1]; at least one epoch or batch is.
        unit: what is kept or dropped as a whole: epoch or batch.
        visit: cycle through what is kept in stored order, each equally often; or random, drawn with replacement for
            every epoch or batch of the run, as LPLD does.
        seed: of both draws.
    """

    keep: float = 1.0
    unit: PruneUnit = "epoch"
    visit: Visit = "cycle"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise UsageError(f"keep is the share of the labels that is kept, 0 < keep <= 1; {self.keep} was given.")
        if self.unit not in ("epoch", "batch") or self.visit not in ("cycle", "random"):
            raise UsageError(
                "Labels are pruned by unit: epoch or batch, and visited by visit: cycle or random; "
                f"unit: {self.unit}, visit: {self.visit} was given."
            )
        if self.seed < 0:
            raise UsageError(f"The seed of label pruning must be at least 0; {self.seed} was given.")

    def kept(self, epochs: int, batches: int, short_last: bool = False) -> np.ndarray:
        """Return what has to be stored.

        Args:
            epochs: passes whose labels there are, M.
            batches: label batches of a pass.
            short_last: whether the last batch of a pass holds fewer images than the others.

        Returns:
            int64 (n, 2): epoch and batch, sorted; all M x batches of them where `keep` is 1.
        """
        if self.unit == "epoch":
            chosen = self._chosen(epochs, "epochs")
            return np.stack(np.broadcast_arrays(chosen[:, None], np.arange(batches)), -1).reshape(-1, 2)
        kinds = [self._kept_batches(epochs, columns) for columns in _kinds(batches, short_last)]
        every = np.concatenate(kinds)
        return every[np.lexsort((every[:, 1], every[:, 0]))]

    def replayed(self, epoch: int, epochs: int, batches: int, short_last: bool = False) -> np.ndarray:
        """Return which stored labels the batches of the run's pass `epoch` replay.

        Args:
            epoch: pass of the run, from 0; may exceed M.
            epochs: as given to `kept`, and so are `batches` and `short_last`.
            batches: label batches of a pass.
            short_last: whether the last batch of a pass holds fewer images than the others.

        Returns:
            int64 (batches, 2): stored epoch and batch, each of them among the kept; epoch mod M and the batch
            itself where `keep` is 1 and `visit` is cycle.
        """
        if self.unit == "epoch":
            chosen = self._chosen(epochs, "epochs")
            stored = np.broadcast_to(chosen[self._visits(epoch, 1, len(chosen), "epochs")], batches)
            return np.stack([stored, np.arange(batches)], -1)
        parts = []
        for columns in _kinds(batches, short_last):
            pool = self._kept_batches(epochs, columns)
            parts.append(pool[self._visits(epoch, len(columns), len(pool), f"batches from {columns[0]}")])
        return np.concatenate(parts)

    def _kept_batches(self, epochs: int, columns: np.ndarray) -> np.ndarray:
        """Kept (epoch, batch) among the given batches of every epoch, sorted: int64 (n, 2)."""
        place = self._chosen(epochs * len(columns), f"batches from {columns[0]}")
        return np.stack([place // len(columns), columns[place % len(columns)]], -1)

    def _chosen(self, count: int, what: str) -> np.ndarray:
        """Sorted positions of those of `count` that are kept."""
        number = max(1, round(self.keep * count))
        return np.sort(generator(self.seed, f"prune {what}").permutation(count)[:number])

    def _visits(self, epoch: int, slots: int, count: int, what: str) -> np.ndarray:
        """Positions among `count` kept ones that the pass's `slots` replay: int64 (slots,)."""
        if self.visit == "random":
            return generator(self.seed, f"visit {what}", epoch).integers(count, size=slots)
        return (epoch * slots + np.arange(slots)) % count


def _kinds(batches: int, short_last: bool) -> list[np.ndarray]:
    """Batch numbers of a pass, grouped by size."""
    numbers = np.arange(batches)
    return [numbers[:-1], numbers[-1:]] if short_last and batches > 1 else [numbers]

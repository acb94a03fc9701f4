"""Batches of a condensed set for one whole run, in process, resumable at any batch.

One Lightning epoch is the whole run: the loader knows its true length, nothing is set up per pass, and a saved
position is a number. A global batch is cut into `ranks * accumulate` parts, so what an optimiser step sees does not
depend on how many ranks or micro-batches share the work.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddlight.core.randomness import generator
from ddlight.data.table import DatasetInfo


@dataclass(frozen=True)
class Batch:
    """One rank's part of a global batch.

    Args:
        ids: int64 (B,): positions in the condensed set of the whole global batch.
        rows: the first and one past the last row of `ids` that this rank trains on; empty only where the batch has
            fewer images than parts, in which case the row is a stand-in with weight 0.
        weight: factor that makes the mean over ranks and micro-batches the mean over the global batch.
        epoch: pass over the set, from 0.
        index: batch within the pass, from 0.
        images: the set's images, a tensor (N, C, H, W) on the training device or one of `pixels`, attached by the data
            module.
        labels: the set's labels, (N,) or (N, K).
        crops: (rows, C, H, W), cut ahead: of this rank's rows and, unless these are the whole batch, of their partners.
    """

    ids: Tensor
    rows: tuple[int, int]
    weight: float
    epoch: int
    index: int
    images: Any = None
    labels: Tensor | None = None
    crops: tuple[Tensor, ...] = ()

    def attach(self, images: Any, labels: Tensor) -> "Batch":
        """Return this batch with the set's tensors."""
        return replace(self, images=images, labels=labels)

    @property
    def own(self) -> Tensor:
        """Positions in the set of this rank's rows."""
        return self.ids[slice(*self.rows)]


def order(seed: int, epoch: int, images: int) -> np.ndarray:
    """Order in which pass `epoch` visits the images: int64 (images,)."""
    return generator(seed, "order", epoch).permutation(images)


def rows_of_part(count: int, part: int, parts: int) -> tuple[int, int]:
    """First row and row after the last of one of `parts` nearly equal parts of a batch of `count` images."""
    return part * count // parts, (part + 1) * count // parts


class Resumable:
    """Something that hands out batches, and of which a checkpoint holds how many."""

    handed_out = 0

    def state_dict(self) -> dict[str, int]:
        """Position: batches handed out, not those that workers are ahead."""
        return {"handed_out": self.handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after `state`."""
        self.handed_out = state["handed_out"]


@dataclass(eq=False)
class RunLoader(Resumable):
    """Yields the batches of a whole run.

    >>> [(batch.epoch, batch.index, len(batch.ids)) for batch in RunLoader(images=5, batch=2, steps=4, seed=0)]
    [(0, 0, 2), (0, 1, 2), (0, 2, 1), (1, 0, 2)]

    Args:
        images: size of the set.
        batch: global batch; the last batch of a pass is shorter.
        steps: optimiser steps of the run.
        seed: of the order.
        accumulate: micro-batches per optimiser step.
        rank: this process.
        ranks: number of processes.
        replay: int64 (P, 2): pass and batch within it that the steps visit, over and over; None visits all in order.
        batches: int64 (T, B): positions of the images of each step, over and over; None draws them.
    """

    images: int
    batch: int
    steps: int
    seed: int
    accumulate: int = 1
    rank: int = 0
    ranks: int = 1
    replay: np.ndarray | None = None
    batches: np.ndarray | None = None

    @property
    def per_pass(self) -> int:
        """Optimiser steps of one pass."""
        return ceil(self.images / self.batch)

    def __len__(self) -> int:
        return self.steps * self.accumulate

    def __iter__(self) -> Iterator[Batch]:
        epoch, visit = -1, np.empty(0, np.int64)
        if self.handed_out >= len(self):
            self.handed_out = 0
        while self.handed_out < len(self):
            step, micro = divmod(self.handed_out, self.accumulate)
            if self.replay is None:
                number, index = divmod(step, self.per_pass)
            else:
                number, index = self.replay[step % len(self.replay)].tolist()
            if number != epoch:
                epoch, visit = number, order(self.seed, number, self.images)
            self.handed_out += 1
            ids = visit[index * self.batch : (index + 1) * self.batch]
            yield self._part(
                ids if self.batches is None else self.batches[step % len(self.batches)], epoch, index, micro
            )

    def _part(self, ids: np.ndarray, epoch: int, index: int, micro: int) -> Batch:
        parts = self.ranks * self.accumulate
        start, stop = rows_of_part(len(ids), micro * self.ranks + self.rank, parts)
        weight = (stop - start) * parts / len(ids)
        if stop == start:
            start, stop = 0, 1
        return Batch(torch.from_numpy(ids), (start, stop), weight, epoch, index)


def eval_batch(info: DatasetInfo) -> int:
    """Images that are evaluated at once: 500, and fewer of large ones, whose activations would fill the memory."""
    return max(1, min(500, 2**24 // (info.channels * info.size**2)))


@dataclass(eq=False)
class EvalLoader:
    """Yields a real split once, each image on exactly one rank, without padding.

    Args:
        take: gives images uint8 (n, C, H, W) of rows int64 (n,), such as a dataset's `take` of the split.
        labels: int64 (N,).
        batch: images per batch.
        rank: this process.
        ranks: number of processes.
    """

    take: Callable[[np.ndarray], np.ndarray]
    labels: np.ndarray
    batch: int = 500
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        self.mine = np.arange(self.rank, len(self.labels), self.ranks)

    def __len__(self) -> int:
        return ceil(len(self.mine) / self.batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.mine), self.batch):
            rows = self.mine[start : start + self.batch]
            yield torch.from_numpy(self.take(rows)), torch.from_numpy(self.labels[rows])

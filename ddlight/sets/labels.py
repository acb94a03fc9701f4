"""Stored labels: a teacher's logits for every view of some passes over a set, written once, mapped from disk when read.

One file a pass, rows in the order in which the pass visits them, so that a batch is one contiguous read. The views
themselves are not stored: they follow from the seed, the pass and the batch, which the store is named by. Pruning
(LPLD, arXiv 2410.15919) keeps a random share of the batches; training then goes round what was kept.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ddlight.core.artefact import Artefact, Unit, Workspace
from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator

Storage = Literal["fp16", "fp32"]
VERSION = 2
"""Raised by hand when other labels come from the same plan."""
DTYPES = {"fp16": np.float16, "fp32": np.float32}


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
    return np.stack(np.divmod(drawn(epochs * batches, keep, seed), batches), 1)


def drawn(count: int, keep: float, seed: int) -> np.ndarray:
    """Which of so many batches are kept, as in `kept`: int64 (P,), in order."""
    if not 0 < keep <= 1:
        raise UsageError(f"keep is the share of the labels that is kept, above 0 and not above 1; {keep} was given.")
    return np.sort(generator(seed, "prune").permutation(count)[: max(1, round(keep * count))])


@dataclass(frozen=True)
class LabelPlan:
    """Which labels are stored.

    Args:
        images: size of the set.
        batch: images per batch; the last batch of a pass is shorter.
        classes: logits per view.
        passes: passes over the set whose views are labelled: labels per image.
        keep: share of the batches whose labels are kept, in (0, 1].
        storage: "fp16" or "fp32".
        seed: of order and views.
        names: what else the labels depend on, as JSON: set, teachers, augmentation.
    """

    images: int
    batch: int
    classes: int
    passes: int
    keep: float
    storage: Storage
    seed: int
    names: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.passes < 1 or not 0 < self.keep <= 1:
            raise UsageError(
                "labels_per_image is at least 1 and keep lies above 0 and not above 1; "
                f"given: labels_per_image {self.passes}, keep {self.keep}."
            )

    @property
    def per_pass(self) -> int:
        """Batches of one pass."""
        return -(-self.images // self.batch)

    def kept(self) -> np.ndarray:
        """Pass and batch of all labels that are kept, in order: int64 (P, 2), P at least 1."""
        return kept(self.passes, self.per_pass, self.keep, self.seed)

    def rows(self, index: np.ndarray | int) -> np.ndarray:
        """Images in batch `index` of a pass."""
        return np.minimum(self.batch, self.images - np.asarray(index) * self.batch)

    @property
    def views(self) -> int:
        """Views that are labelled."""
        return int(self.rows(self.kept()[:, 1]).sum())

    @property
    def size(self) -> int:
        """Bytes of the labels, about 100 a file of headers left out."""
        return self.views * self.classes * np.dtype(DTYPES[self.storage]).itemsize


class LabelStore(Artefact):
    """Stored labels on disk. A unit is a pass over the set.

    Args:
        place: folder of all stored labels.
        plan: which they are.
    """

    kind = "folder of stored labels"
    suffix = ".npy"

    def __init__(self, place: Path, plan: LabelPlan) -> None:
        super().__init__(place)
        self.plan, self.pool = plan, plan.kept()
        self._label: Callable[[np.ndarray], np.ndarray] | None = None
        self._open: tuple[int, np.ndarray] | None = None

    def identity(self) -> dict[str, Any]:
        """The plan."""
        shape = {name: value for name, value in vars(self.plan).items() if name != "names"}
        return {"version": VERSION, **shape, **self.plan.names}

    def write(self, label: Callable[[np.ndarray], np.ndarray], begin: float = 0.0) -> None:
        """Write whatever passes are missing, together with any other process that does the same, and seal.

        Args:
            label: gives the logits, float32 (rows, classes), of batches (n, 2): pass and batch within it, in order.
            begin: fraction of the passes that this process skips at first.
        """
        self._label = label
        self.ensure(begin)

    def units(self) -> list[Unit]:
        """The passes of which something is kept."""
        return [Unit(m) for m in np.unique(self.pool[:, 0]).tolist()]

    def make_unit(self, work: Workspace, unit: Unit) -> None:
        """Label the views of one pass."""
        assert self._label is not None
        logits, buffer = self._label(self.pool[self.pool[:, 0] == unit.number]), io.BytesIO()
        np.save(buffer, logits.astype(DTYPES[self.plan.storage]), allow_pickle=False)
        work.write(unit, buffer.getvalue())

    def collect(self, place: Path, work: Workspace) -> dict[str, Any]:
        """Put the passes into the sealed folder."""
        for unit in self.units():
            work.link(unit, place)
        return {"bytes_labels": self._bytes(place)}

    def verify(self) -> int:
        """Check every file and return their bytes. Raises DataError as `verified`."""
        self.verified()
        return self._bytes(self.folder)

    def _bytes(self, folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.glob(f"*{self.suffix}"))

    def read(self, epoch: int, index: int) -> np.ndarray:
        """Logits of a stored batch, (rows, classes), as they are on disk and not in memory until used.

        Args:
            epoch: stored pass.
            index: batch within it, one of those kept.
        """
        batches = self.pool[self.pool[:, 0] == epoch, 1]
        start = int(self.plan.rows(batches[batches < index]).sum())
        return self._pass(epoch)[start : start + int(self.plan.rows(index))]

    def _pass(self, epoch: int) -> np.ndarray:
        if self._open is None or self._open[0] != epoch:
            self._open = epoch, np.load(self.folder / f"{epoch:06d}{self.suffix}", mmap_mode="r")
        return self._open[1]

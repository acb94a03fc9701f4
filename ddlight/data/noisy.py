"""NoisyLabels: a dataset some of whose training labels are wrong on purpose, to try what should find or bear that."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.data.base import ImageSet, Index, RealDataset, Split
from ddlight.data.table import DatasetInfo


class NoisyLabels(RealDataset):
    """Another dataset with a share of its training labels flipped to other classes; the other splits stay right.

    >>> from ddlight.data import Digits
    >>> noisy = NoisyLabels(Digits(size=8), share=0.5)
    >>> int(noisy.flipped.sum()), len(noisy.index("train"))
    (719, 1438)

    Args:
        dataset: the dataset.
        share: of each class's training images, to be given one of the other classes, drawn uniformly.
        seed: of the draw.
    """

    name = "NoisyLabels"

    def __init__(self, dataset: RealDataset, share: float = 0.2, seed: int = 0) -> None:
        if not 0 <= share <= 1:
            raise UsageError(f"share is the part of the labels that is flipped, 0 to 1; given: {share}.")
        super().__init__(dataset.root, dataset.held_out)
        self.dataset, self.share, self.seed = dataset, share, seed
        self.full_size = dataset.full_size

    @property
    def info(self) -> DatasetInfo:
        """The dataset's row, under a name that says how much is wrong."""
        return replace(self.dataset.info, name=f"{self.dataset.info.name}-noise{round(100 * self.share)}")

    @cached_property
    def labels(self) -> np.ndarray:
        """Training labels, some of them flipped: int64 (N,)."""
        true, classes = self.dataset.index("train").labels, self.dataset.num_classes
        draw, labels = generator(self.seed, "label_noise"), self.dataset.index("train").labels.copy()
        for c in range(classes):
            rows = np.flatnonzero(true == c)
            flipped = draw.permutation(rows)[: round(self.share * len(rows))]
            labels[flipped] = (c + draw.integers(1, classes, len(flipped))) % classes
        labels.setflags(write=False)
        return labels

    @property
    def flipped(self) -> np.ndarray:
        """Which training labels are wrong: bool (N,)."""
        return np.asarray(self.labels != self.dataset.index("train").labels)

    def index(self, name: Split) -> Index:
        """Return labels and ids of a split, as `RealDataset.index`."""
        index = self.dataset.index(name)
        return replace(index, labels=self.labels) if name == "train" else index

    def take(self, name: Split, rows: np.ndarray) -> np.ndarray:
        """Return some images of a split, as `RealDataset.take`."""
        return self.dataset.take(name, rows)

    def encoded(self, name: Split) -> Sequence[Path]:
        """Return the image files of a split, as `RealDataset.encoded`."""
        return self.dataset.encoded(name)

    def read(self, path: Path) -> np.ndarray:
        """Decode one image file, where the dataset has any: uint8 (C, size, size)."""
        image: np.ndarray = self.dataset.read(path)  # type: ignore[attr-defined]
        return image

    def identity(self) -> dict[str, object]:
        """Return what names this data, as JSON: the dataset, and which labels are flipped."""
        return {"name": self.name, "share": self.share, "seed": self.seed, "dataset": self.dataset.identity()}

    def _read(self, name: Split) -> dict[Split, ImageSet]:
        split = self.dataset.split(name)
        return {name: replace(split, labels=self.labels) if name == "train" else split}

    def _contents(self) -> object:
        return self.dataset.contents

"""InMemory: images and labels that a program holds, as a dataset."""

import hashlib
from collections.abc import Sequence

import numpy as np

from ddlight.core.errors import UsageError
from ddlight.data.base import ImageSet, RealDataset, Split, array_ids, draw_held_out
from ddlight.data.table import DatasetInfo


class InMemory(RealDataset):
    """Images and labels in memory, all of them training images.

    >>> import numpy as np
    >>> data = InMemory(np.zeros((6, 1, 8, 8), np.uint8), [0, 1, 2, 0, 1, 2])
    >>> data.num_classes, data.info.train
    (3, 6)

    Args:
        images: uint8 (N, C, H, W), square, grey or RGB.
        labels: int (N,), from 0 to K - 1, each class at least once.
        classes: names of the K classes; their numbers by default.
        held_out: images per class kept back from training, to choose settings on.
    """

    name = "InMemory"

    def __init__(
        self, images: np.ndarray, labels: Sequence[int] | np.ndarray, classes: Sequence[str] = (), held_out: int = 0
    ) -> None:
        super().__init__(None, held_out)
        self.images, self.labels = images, np.asarray(labels)
        if (
            images.dtype != np.uint8
            or images.ndim != 4
            or images.shape[1] not in (1, 3)
            or len(set(images.shape[2:])) > 1
        ):
            raise UsageError(
                "Images are a uint8 array of shape N x C x H x W, square, with 1 or 3 channels; "
                f"given: {images.dtype} {images.shape}."
            )
        present = np.unique(self.labels)
        if self.labels.shape != (len(images),) or present.tolist() != list(range(len(present))):
            raise UsageError(
                f"Labels are {len(images)} whole numbers from 0, of which each class has one; given: "
                f"{len(self.labels)} labels of {len(present)} classes, {present[:10].tolist()}."
            )
        self.classes = tuple(classes) or tuple(map(str, present.tolist()))
        pixels = images.astype(np.float64) / 255
        self._mean, self._std = pixels.mean((0, 2, 3)), np.maximum(pixels.std((0, 2, 3)), 1e-3)

    @property
    def info(self) -> DatasetInfo:
        """What the arrays say; images are normalised by their own mean and standard deviation."""
        held_out = self.held_out * len(self.classes)
        return DatasetInfo(
            name=self.name,
            classes=self.classes,
            channels=self.images.shape[1],
            size=self.images.shape[2],
            mean=tuple(self._mean.tolist()),
            std=tuple(self._std.tolist()),
            train=len(self.images) - held_out,
            held_out=held_out,
            get="",
            licence="",
        )

    def _read(self, name: Split) -> dict[Split, ImageSet]:
        labels, ids = self.labels.astype(np.int64), array_ids("train", np.arange(len(self.labels)))
        everything = ImageSet(self.images.copy(), labels, ids)
        kept = draw_held_out(labels, self.held_out, self.classes)
        train = everything.take(~kept) if self.held_out else everything
        return {"train": train, "held_out": everything.take(kept), "test": everything.take(np.zeros(0, np.int64))}

    def _contents(self) -> object:
        digest = hashlib.sha256(np.ascontiguousarray(self.images).tobytes() + self.labels.astype("<i8").tobytes())
        return [list(self.images.shape), list(self.classes), digest.hexdigest()]

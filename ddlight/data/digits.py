"""Digits: the 1,797 handwritten digits that come with scikit-learn, for examples and tests."""

import zlib
from dataclasses import replace

import numpy as np

from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.data.base import ImageSet, RealDataset, Split, array_ids, draw_held_out, draw_per_class
from ddlight.data.table import DatasetInfo

TEST_FRACTION = 0.2


class Digits(RealDataset):
    """Handwritten digits of scikit-learn's `load_digits`: grey, 8x8 with values 0 to 16, enlarged here.

    Values become round(v · 255 / 16) and every pixel a square of size/8 pixels, which leaves mean and std as they
    are at any size. A fifth of each class, drawn with a fixed seed, is the test split. A sample id carries the
    image's position in `load_digits`.

    Source: Optical Recognition of Handwritten Digits, UCI (its test images).

    Args:
        held_out: images per class kept back from the training split, to choose settings on.
        size: side of the images in pixels, a multiple of 8.
    """

    name = "Digits"

    def __init__(self, held_out: int = 0, size: int = 32) -> None:
        super().__init__(None, held_out)
        if size < 8 or size % 8:
            below = max(8, size // 8 * 8)
            raise UsageError(
                f"Digits have 8x8 pixels: size must be a multiple of 8; {size} was given. Try size: {below}"
            )
        self.size = size

    @property
    def info(self) -> DatasetInfo:
        """The row of the table, with the size asked for and the counts that `held_out` leaves."""
        return replace(super().info, size=self.size)

    def identity(self) -> dict[str, object]:
        """Return what names this data, as JSON: the checksum of scikit-learn's images, size and held-out count."""
        return {**super().identity(), "size": self.size}

    def _read(self, name: Split) -> dict[Split, ImageSet]:
        images, labels = _load()
        counts = np.rint(np.bincount(labels) * TEST_FRACTION).astype(int)
        is_test = draw_per_class(labels, counts, generator(0, "test"))
        train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
        kept = draw_held_out(labels[train], self.held_out, self.info.classes)
        images = np.kron(images, np.ones((self.size // 8, self.size // 8), dtype=np.uint8))[:, None]
        return {
            "train": ImageSet(images[train[~kept]], labels[train[~kept]], array_ids("train", train[~kept])),
            "held_out": ImageSet(images[train[kept]], labels[train[kept]], array_ids("train", train[kept])),
            "test": ImageSet(images[test], labels[test], array_ids("test", test)),
        }

    def _contents(self) -> object:
        images, labels = _load()
        return [["sklearn/digits", images.size, zlib.crc32(images.tobytes() + labels.tobytes())]]


def _load() -> tuple[np.ndarray, np.ndarray]:
    """Return images as uint8 (1797, 8, 8) and labels as int64 (1797,)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target.astype(np.int64)

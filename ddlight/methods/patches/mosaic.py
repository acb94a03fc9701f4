"""Mosaics of f x f pieces of real images, one class at a time."""

import numpy as np

from ddlight.core.artefact import Unit
from ddlight.core.errors import UsageError
from ddlight.methods.base import Synthesiser, smallest_class
from ddlight.sets.store import Synthesis
from ddlight.views.crop import tile_sides

MOSAIC_SIDE = 96
"""From this many pixels on, images are mosaics of 2 x 2 unless something else is asked for."""


class MosaicLayout:
    """How many pieces a class has and how large they are; each comes from an image of its own.

    Args:
        data: the set of mosaics.
        factor: f, pieces per side of a mosaic; None takes 2 from 96 pixels on and 1 below.
    """

    def __init__(self, data: Synthesiser, factor: int | None) -> None:
        if factor is not None and factor < 1:
            raise UsageError(f"factor is at least 1; given: {factor}.")
        size = data.dataset.info.size
        self.dataset, self.ipc, self.size = data.dataset, data.ipc, size
        self.factor = factor or (2 if size >= MOSAIC_SIDE else 1)
        self.pieces, self.side = self.ipc * self.factor**2, size // self.factor  # m f^2 of s x s pixels

    def stitched(self, unit: Unit, pieces: np.ndarray) -> Synthesis:
        """The mosaics of a class from pieces uint8 (m f^2, C, s, s) in the order that `mosaics` takes."""
        images = mosaics(pieces, self.factor, self.size)
        return Synthesis(images, np.full(self.ipc, unit.classes[0], np.int64), self.pieces)

    def require(self) -> None:
        """Raise UsageError where a class has fewer images than there are pieces, or a piece would have no pixels."""
        info = self.dataset.info
        if self.side < 1:
            raise UsageError(
                f"factor {self.factor} cuts images of {info.size} pixels into pieces without one. "
                f"Use --data.factor={info.size} or less."
            )
        label, count = smallest_class(self.dataset)
        self.require_pieces(count, f"class '{info.classes[label]}' has {count}")

    def require_pieces(self, count: int, reason: str) -> None:
        """Raise UsageError, saying why there are no more, where `count` images do not fill the mosaics of a class."""
        if count >= self.pieces:
            return
        f = self.factor
        way_out = f"--data.ipc={count // f**2} or less" if count >= f**2 else "--data.factor=1"
        raise UsageError(
            f"ipc={self.ipc}{f' mosaics of {f} x {f}' * (f > 1)} takes {self.pieces} different images of each class; "
            f"{reason}. Use {way_out}."
        )


def of_class(data: Synthesiser, unit: Unit) -> np.ndarray:
    """All images of a unit's class: ascending positions in the training split, int64 (N,)."""
    return np.flatnonzero(data.dataset.index("train").labels == unit.classes[0])


def mosaics(pieces: np.ndarray, factor: int, size: int) -> np.ndarray:
    """Stitch m f^2 pieces into m mosaics: the k-th block of m pieces fills place k, row by row (RDED's layout).

    Where `factor` does not divide `size`, the first strips are a pixel wider and their pieces stretched, as in RDED's
    code (`mix_images`).

    Args:
        pieces: (m f^2, C, s, s).
        factor: f, pieces per side.
        size: side of a mosaic in pixels.

    Returns:
        (m, C, size, size).
    """
    sides, side = tile_sides(size, factor), pieces.shape[-1]
    nearest = {length: np.arange(length) * side // length for length in sides}
    places = iter(np.split(pieces, factor**2))
    rows = [
        np.concatenate([next(places)[..., nearest[high][:, None], nearest[wide]] for wide in sides], -1)
        for high in sides
    ]
    return np.concatenate(rows, -2)

"""MosaicSynthesiser: what methods share whose images are mosaics of f x f pieces of real ones."""

from abc import abstractmethod

import numpy as np

from ddlight.core.artefact import Unit
from ddlight.core.errors import UsageError
from ddlight.data.base import RealDataset
from ddlight.methods.base import Synthesiser, smallest_class
from ddlight.sets.store import Synthesis
from ddlight.views.crop import tile_sides

MOSAIC_SIDE = 96
"""From this many pixels on, images are mosaics of 2 x 2 unless something else is asked for."""


class MosaicSynthesiser(Synthesiser):
    """Makes mosaics, each of whose pieces comes from an image of its own.

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of every draw.
        cache: folder of condensed sets.
        factor: pieces per side of a mosaic; null takes 2 from 96 pixels on and 1 below.
    """

    def __init__(
        self,
        dataset: RealDataset,
        ipc: int = 10,
        seed: int = 0,
        cache: str | None = None,
        factor: int | None = None,
    ) -> None:
        super().__init__(dataset, ipc, seed, cache)
        if factor is not None and factor < 1:
            raise UsageError(f"factor is at least 1; given: {factor}.")
        self.factor = factor

    @abstractmethod
    def make(self, unit: Unit) -> Synthesis:
        """Make the mosaics of one unit."""

    @property
    def tile_factor(self) -> int:  # type: ignore[override]
        """f, pieces per side."""
        return self.factor or (2 if self.dataset.info.size >= MOSAIC_SIDE else 1)

    @property
    def pieces(self) -> int:
        """Pieces of a class: m f^2."""
        return self.ipc * self.tile_factor**2

    @property
    def side(self) -> int:
        """s, of a piece in pixels."""
        return self.dataset.info.size // self.tile_factor

    def candidates(self, unit: Unit) -> np.ndarray:
        """All images of the unit's class: ascending positions in the training split, int64 (N,)."""
        return np.flatnonzero(self.dataset.index("train").labels == unit.classes[0])

    def stitched(self, unit: Unit, pieces: np.ndarray) -> Synthesis:
        """The unit's mosaics of pieces uint8 (m f^2, C, s, s) in the order that `mosaics` takes."""
        images = mosaics(pieces, self.tile_factor, self.dataset.info.size)
        return Synthesis(images, np.full(self.ipc, unit.classes[0], np.int64), self.pieces)

    def prepare(self) -> None:
        """Look at the classes before anything costly begins.

        Raises:
            UsageError: a class has fewer images than there are pieces, or a piece would have no pixels.
        """
        info = self.dataset.info
        if self.side < 1:
            raise UsageError(
                f"factor {self.factor} cuts images of {info.size} pixels into pieces without one. "
                f"Use --data.factor={info.size} or less."
            )
        label, there = smallest_class(self.dataset)
        self.require_pieces(there, f"class '{info.classes[label]}' has {there}")

    def require_pieces(self, there: int, found: str) -> None:
        """Raise UsageError, saying what was found, where `there` images do not fill the mosaics of a class."""
        if there >= self.pieces:
            return
        f = self.tile_factor
        way_out = f"--data.ipc={there // f**2} or less" if there >= f**2 else "--data.factor=1"
        raise UsageError(
            f"ipc={self.ipc}{f' mosaics of {f} x {f}' * (f > 1)} takes {self.pieces} different images of each class; "
            f"{found}. Use {way_out}."
        )


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
    sides = tile_sides(size, factor)
    places = iter(np.split(pieces, factor**2))
    rows = [np.concatenate([_stretched(next(places), high, wide) for wide in sides], -1) for high in sides]
    return np.concatenate(rows, -2)


def _stretched(pieces: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pieces (m, C, s, s) at another size, nearest pixels."""
    side = pieces.shape[-1]
    return pieces[..., (np.arange(height) * side // height)[:, None], np.arange(width) * side // width]

"""PCA (prune, combine, augment): the easiest images of each class, whole, tiled into mosaics, for hard labels.

prune      the m f^2 images of each class with the lowest EL2N of a network trained on the full data
combine    each whole image resized to s = S / f pixels, f x f of them to a mosaic
augment    in training, a random crop of one tile per image and pass: `tiles` of the protocol `pca`
"""

from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ddlight.core.artefact import Unit
from ddlight.core.randomness import generator
from ddlight.data.base import RealDataset
from ddlight.data.decoded import read_full
from ddlight.methods.patches.mosaic import MosaicSynthesiser
from ddlight.methods.patches.pruned import PrunedSynthesiser
from ddlight.methods.scores.el2n import EL2N, Signal
from ddlight.methods.scores.selector import Keep
from ddlight.methods.scoring.run import Scoring
from ddlight.sets.store import Synthesis
from ddlight.views.crop import resize_each


class PCA(PrunedSynthesiser, MosaicSynthesiser):
    """Mosaics of the easiest images of each class, resized as a whole.

    Paper: arXiv 2502.06434. Known of it: pruning is balanced over classes and keeps the lowest EL2N, whole resized
    images are tiled, training crops stay inside one tile, labels are hard. Guesses, and so options: tiles per side,
    how a picture becomes square, the order of the tiles, when EL2N is read.

    Args:
        dataset: the real dataset; tiles are made of its whole pictures where it consists of files.
        ipc: images per class.
        seed: of the scoring run, where that has none of its own, and of ties and the order.
        cache: folder of condensed sets.
        factor: tiles per side of a mosaic (guess); null takes 2 from 96 pixels on and 1 below.
        square: how a picture becomes a square tile (guess): "squash" resizes it as a whole whatever its shape, "crop"
            takes the dataset's central square.
        stitch_order: "rank": mosaic j holds the images of rank j, m + j, ..., as RDED does; "shuffled": drawn (guess).
        keep: "easy" as published, or "hard".
        scoring: how the network that scores is trained.
        signal: of EL2N: "clean" images at `at`, or the mean over early "train" views.
        at: of EL2N: fraction of the run at which the images are read.
    """

    tiny: ClassVar[dict[str, Any]] = EL2N.tiny

    def __init__(
        self,
        dataset: RealDataset,
        ipc: int = 10,
        seed: int = 0,
        cache: str | None = None,
        factor: int | None = None,
        square: Literal["squash", "crop"] = "squash",
        stitch_order: Literal["rank", "shuffled"] = "rank",
        keep: Keep = "easy",
        scoring: Scoring = Scoring(),
        signal: Signal = "clean",
        at: float = 0.1,
    ) -> None:
        super().__init__(dataset, ipc, seed, cache, factor)
        self.square, self.stitch_order, self.keep = square, stitch_order, keep
        self.scoring, self.signal, self.at = scoring, signal, at

    @cached_property
    def pruner(self) -> EL2N:  # type: ignore[override]
        """EL2N over as many images of each class as there are tiles."""
        own = (self.dataset, self.pieces, self.seed, self.cache)
        return EL2N(*own, scoring=self.scoring, keep=self.keep, signal=self.signal, at=self.at)

    def make(self, unit: Unit) -> Synthesis:
        """Prune and combine one class."""
        kept = self.pruner.select(unit, self.candidates(unit))
        if self.stitch_order == "shuffled":
            kept = generator(self.seed, "stitch", unit.number).permutation(kept)
        return self.stitched(unit, self.tiles(kept).numpy())

    def tiles(self, rows: np.ndarray) -> Tensor:
        """Whole training images (n,), each resized to a tile: uint8 (n, C, s, s)."""
        info, files = self.dataset.info, self.dataset.encoded("train")
        out = torch.empty((len(rows), info.channels, *[self.side] * 2), dtype=torch.uint8)
        if files and self.square == "squash":
            return resize_each(lambda k: torch.from_numpy(read_full(files[rows[k]]).copy())[None], out)
        squares = torch.from_numpy(self.dataset.take("train", rows))
        return resize_each(lambda k: squares[k : k + 1], out)

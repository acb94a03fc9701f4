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
from ddlight.data.decoded import read_full
from ddlight.methods.base import Synthesiser
from ddlight.methods.patches.mosaic import MosaicLayout, of_class
from ddlight.methods.scores.el2n import EL2N, Signal
from ddlight.methods.scores.selector import Keep
from ddlight.methods.scoring.run import Scoring, ScoringRun
from ddlight.sets.store import Synthesis
from ddlight.views.crop import resize_each


class PCA(Synthesiser):
    """Mosaics of the easiest images of each class, resized as a whole.

    Paper: arXiv 2502.06434. Known of it: pruning is balanced over classes and keeps the lowest EL2N, whole resized
    images are tiled, training crops stay inside one tile, labels are hard. Guesses, and so options: tiles per side,
    how a picture becomes square, the order of the tiles, when EL2N is read.
    Tiles are made of a dataset's whole pictures where it consists of files.

    Args:
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
        *args: Any,
        factor: int | None = None,
        square: Literal["squash", "crop"] = "squash",
        stitch_order: Literal["rank", "shuffled"] = "rank",
        keep: Keep = "easy",
        scoring: Scoring = Scoring(),
        signal: Signal = "clean",
        at: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.factor, self.layout = factor, MosaicLayout(self, factor)
        self.square, self.stitch_order, self.keep = square, stitch_order, keep
        self.scoring, self.signal, self.at = scoring, signal, at

    @property
    def tile_factor(self) -> int:  # type: ignore[override]
        """f, tiles per side."""
        return self.layout.factor

    @cached_property
    def pruner(self) -> EL2N:
        """EL2N over as many images of each class as there are tiles."""
        options = {name: getattr(self, name) for name in ("scoring", "keep", "signal", "at")}
        return EL2N(self.dataset, self.layout.pieces, self.seed, self.cache, **options)

    def make(self, unit: Unit) -> Synthesis:
        """Prune and combine one class."""
        kept = self.pruner.select(unit, of_class(self, unit))
        if self.stitch_order == "shuffled":
            kept = generator(self.seed, "stitch", unit.number).permutation(kept)
        return self.layout.stitched(unit, self.tiles(kept).numpy())

    def tiles(self, rows: np.ndarray) -> Tensor:
        """Whole training images (n,), each resized to a tile: uint8 (n, C, s, s)."""
        info, files = self.dataset.info, self.dataset.encoded("train")
        out = torch.empty((len(rows), info.channels, *[self.layout.side] * 2), dtype=torch.uint8)
        if files and self.square == "squash":
            return resize_each(lambda k: torch.from_numpy(read_full(files[rows[k]]).copy())[None], out)
        squares = torch.from_numpy(self.dataset.take("train", rows))
        return resize_each(lambda k: squares[k : k + 1], out)

    # --- the scoring run ---

    @property
    def scoring_runs(self) -> list[ScoringRun]:
        """Everything that `ddlight score` trains for this method."""
        return self.pruner.scoring_runs

    def prepare(self) -> None:
        """Look at the classes, then make the scoring run. Raises UsageError where a class does not fill the mosaics."""
        self.layout.require()
        self.pruner.prepare()

    def estimate_seconds(self) -> float:
        """Time of the scoring run, where it is missing."""
        return self.pruner.estimate_seconds()

    def facts(self) -> dict[str, Any]:
        """What the selector adds to the manifest."""
        return self.pruner.facts()

"""A dataset's whitening: fitted once to its training images, kept on disk with checksums."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from ddlight.core import files
from ddlight.core.artefact import Artefact, Unit, Workspace
from ddlight.core.errors import UsageError
from ddlight.data.base import RealDataset, Split
from ddlight.data.table import TABLE
from ddlight.views.whiten import WHITENINGS, Whitening, WhiteningKind, fit_whitening

log = logging.getLogger("ddlight")

FILE = "whitening.safetensors"
VERSION = 1
"""Raised by hand when the same recipe and data begin to give another whitening."""
MOST = 3 * 64 * 64
"""Numbers per image that can be whitened: a covariance of these takes 1.2 GB in float64."""
FREPO_STD = {"CIFAR10": (0.2470, 0.2435, 0.2616), "TinyImageNet": (0.2763, 0.2687, 0.2813)}
"""Standard deviations of FRePo where they are not the dataset's own (lib/dataset/dataloader.py)."""


def dataset_whitening(dataset: RealDataset, recipe: WhiteningKind, cache: Path) -> Whitening:
    """Read a dataset's whitening, after fitting it where it was never fitted: seconds for grey images of 28 pixels,
    minutes for CIFAR's, much longer for 64 pixels.

    It is fitted to all training images, those that are held out among them where they were cut out of the training
    split: the makers of a published set saw them too, and no label is looked at.

    Args:
        dataset: the real dataset.
        recipe: see `views.whiten`.
        cache: folder of condensed sets; whitenings lie in `whitening/` in it.

    Raises:
        UsageError: images are too large.
        DataError: the file on disk was changed, or the data are missing.
    """
    info = dataset.info
    size = info.channels * info.size**2
    if size > MOST:
        raise UsageError(
            f"Whitening {info.name} at {info.size} pixels needs a covariance of {size:,} x {size:,} numbers; images of "
            f"{MOST:,} numbers (3 x 64 x 64) or fewer can be whitened. Take a set in another space than {recipe}."
        )
    fitted = FittedWhitening(dataset, recipe, cache)
    fitted.ensure()
    fitted.verified()
    arrays = load_file(fitted.folder / FILE)
    return Whitening(arrays["mean"], arrays["forward"], arrays.get("back"))


class FittedWhitening(Artefact):
    """A dataset's whitening on disk. The arguments are those of `dataset_whitening`."""

    kind = "whitening"

    def __init__(self, dataset: RealDataset, recipe: WhiteningKind, cache: Path) -> None:
        super().__init__(cache / "whitening" / dataset.info.name)
        self.dataset, self.recipe = dataset, recipe

    def identity(self) -> dict[str, Any]:
        """Recipe, data and size."""
        identity, size = self.dataset.identity(), self.dataset.info.size
        return {"recipe": self.recipe, "version": VERSION, "dataset_identity": identity, "size": size}

    def units(self) -> list[Unit]:
        """None: fitting is one piece of work, and its file is small."""
        return []

    def collect(self, place: Path, work: Workspace) -> dict[str, Any]:
        """Fit it."""
        info = self.dataset.info
        log.info("fitting the whitening %s to the training images of %s", self.recipe, info.name)
        fit = fit_whitening(_batches(self.dataset), self.recipe, FREPO_STD.get(self.dataset.name, info.std))
        back = {} if fit.back is None else {"back": fit.back}
        files.write_bytes(place / FILE, save({"mean": fit.mean, "forward": fit.forward, **back}))
        return {}


def set_whitening(space: str, dataset: RealDataset, cache: Path) -> Whitening | None:
    """The whitening of a set that lies in `space`; None where that is none. The rest is as `dataset_whitening`."""
    recipe = next((recipe for recipe in WHITENINGS if recipe == space), None)
    return None if recipe is None else dataset_whitening(dataset, recipe, cache)


def _batches(dataset: RealDataset, batch: int = 1000) -> Iterator[Tensor]:
    """All training images, uint8 (B, C, H, W)."""
    row = TABLE.get(dataset.name)
    apart = row is not None and row.train == dataset.info.train  # nothing was cut out of the training split
    splits: tuple[Split, ...] = ("train",) if apart else ("train", "held_out")
    for split in splits:
        count = len(dataset.index(split))
        for start in range(0, count, batch):
            yield torch.from_numpy(dataset.take(split, np.arange(start, min(start + batch, count))))

"""Analysis: everything that is said of a set, in one row; what is real is gathered once for all sets of a dataset."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddlight.analyze import coverage, duplicates
from ddlight.analyze.cost import Cost, cost
from ddlight.analyze.coverage import Spread
from ddlight.analyze.distances import Distance
from ddlight.analyze.duplicates import Pair
from ddlight.analyze.pixels import embedded, set_images
from ddlight.analyze.real import Real
from ddlight.analyze.sets import Asked
from ddlight.analyze.stored_labels import label_entropy
from ddlight.core import naming
from ddlight.core.errors import DataError, DDLightError
from ddlight.core.files import cache_folder
from ddlight.data.base import RealDataset
from ddlight.networks.device import current_device
from ddlight.networks.teachers import Teacher
from ddlight.sets import store
from ddlight.sets.opened import open_dataset, root_of
from ddlight.sets.store import StoredSet
from ddlight.sets.whitening import set_whitening
from ddlight.views import pixels
from ddlight.views.whiten import Whitening


@dataclass(frozen=True)
class Measured:
    """What a set's own images are, whoever asks: computed once where several runs trained on it.

    Attributes:
        within: representativeness and diversity, mean over classes; None without a network.
        pooled: likewise, over all classes together.
        distance: FID and KID; None without a network.
        pairs: images that are in the test split, or nearly so.
        near: images whose nearest test image is as near as the threshold; None without a network.
        exact: images whose pixels are those of a test image.
        notes: what a reader must know of these numbers.
    """

    within: Spread | None
    pooled: Spread | None
    distance: Distance | None
    pairs: list[Pair]
    near: int | None
    exact: int
    notes: list[str]


@dataclass(frozen=True)
class Analysis:
    """What is said of one set.

    Attributes:
        asked: the set, and the run whose labels were asked about.
        manifest: of the set.
        measured: of its images.
        entropy: of its labels, in bits; None where there are none to speak of.
        cost: of making it.
        bytes_pixels: of its images decoded: the same measure for indices, pictures and floats.
        notes: what a reader must know.
    """

    asked: Asked
    manifest: Mapping[str, Any]
    measured: Measured
    entropy: float | None
    cost: Cost
    bytes_pixels: int
    notes: list[str] = field(default_factory=list)


class Analyst:
    """Analyses sets, one after the other.

    Args:
        network: whose features are taken; None for none.
        fid_network: likewise, for FID and KID.
        root: folder of the real data, where they are not at the usual place.
        threshold: cosine from which a test image counts as a near duplicate.
    """

    def __init__(
        self, network: Teacher | None, fid_network: Teacher | None, root: str | None, threshold: float
    ) -> None:
        self.network, self.fid_network, self.root, self.threshold = network, fid_network, root, threshold
        self.reals: dict[str, Real] = {}
        self.measured: dict[str, Measured] = {}

    def analyse(self, asked: Asked) -> Analysis:
        """Say everything of one set.

        Raises:
            DataError: it is damaged, empty, or of data that are not here; weights or labels are missing.
            UsageError: a network does not take its images, or its whitening cannot be undone.
        """
        manifest = asked.manifest()
        if not manifest["images"]:
            raise DataError(f"{asked.folder} holds no images: there is nothing to analyse.")
        real = self.real(manifest, asked.run)
        selected = manifest["kind"] == "indices"
        stored = store.load(asked.folder, real.dataset if selected else None, pixels.memory_limit())
        whitening = set_whitening(manifest["space"], real.dataset, cache_folder(None))
        key = str(asked.folder.resolve())
        if key not in self.measured:
            self.measured[key] = self._measure(stored, real, whitening)
        entropy, why = _labels(asked, stored, real.dataset, whitening)
        made, measured = cost(manifest), self.measured[key]
        notes = [*measured.notes, *([f"label entropy: {why}"] if why else []), *made.notes, *_data_notes(stored, real)]
        return Analysis(asked, manifest, measured, entropy, made, _bytes_pixels(stored), notes)

    def real(self, manifest: Mapping[str, Any], run: Path | None = None) -> Real:
        """The real images of a set's dataset, where `run` read them if no root is given.

        Raises:
            DataError: its classes are not those of the set.
        """
        key = naming.digest(manifest["dataset_identity"])
        if key not in self.reals:
            dataset = open_dataset(manifest, self.root or root_of(run))
            self.reals[key] = Real(dataset, self.network, self.fid_network)
        info = self.reals[key].dataset.info
        if list(info.classes) != list(manifest["classes"]):
            raise DataError(
                f"The set is of {len(manifest['classes'])} classes ({', '.join(manifest['classes'][:3])}, ...); "
                f"{info.name} here has {info.num_classes} ({', '.join(info.classes[:3])}, ...), in this order. "
                "Is its data elsewhere? Name the folder: --root FOLDER"
            )
        return self.reals[key]

    def _measure(self, stored: StoredSet, real: Real, whitening: Whitening | None) -> Measured:
        info, labels = real.dataset.info, hard(stored.labels)
        own = [h for part in set_images(stored, info, whitening) for h in duplicates.digests(part)]
        exact = duplicates.exact_pairs(own, real.hashes)
        images = len({image for image, _ in exact})
        distance, notes = self._distance(stored, real, whitening)
        if self.network is None:
            return Measured(None, None, distance, duplicates.merge(exact, {}), None, images, notes)
        features = torch.cat([*embedded(self.network, set_images(stored, info, whitening, self.network))])
        features = coverage.unit_length(features).to(current_device())
        real_labels = real.dataset.index("test").labels
        within = coverage.average(coverage.per_class(features, labels, real.test, real_labels))
        found = coverage.nearest(features, real.test)
        near = duplicates.near_pairs(found, self.threshold)
        pooled, pairs = coverage.spread(features, found), duplicates.merge(exact, near)
        notes = [*_class_notes(labels, real_labels, info.num_classes), *notes]
        return Measured(within, pooled, distance, pairs, len(near), images, notes)

    def _distance(
        self, stored: StoredSet, real: Real, whitening: Whitening | None
    ) -> tuple[Distance | None, list[str]]:
        """FID and KID, and what a reader must know of them."""
        if self.fid_network is None:
            return None, []
        images = set_images(stored, real.dataset.info, whitening, self.fid_network)
        features = torch.cat([*embedded(self.fid_network, images)])
        found, width = real.distances.to(features), features.shape[1]
        if found.images < 2:
            return found, ["FID and KID of one image are undefined"]
        if found.images <= width:
            return found, [
                f"FID of {found.images:,} images in {width:,} features: compare at equal n only, or take KID"
            ]
        return found, []


def hard(labels: np.ndarray) -> np.ndarray:
    """Classes (N,) of labels (N,) or (N, K)."""
    return labels if labels.ndim == 1 else labels.argmax(1)


def _labels(
    asked: Asked, stored: StoredSet, dataset: RealDataset, whitening: Whitening | None
) -> tuple[float | None, str]:
    """Entropy of labels; where a run's teacher or labels are gone, none, and why: all else can still be said."""
    try:
        return label_entropy(asked, stored, dataset, whitening)
    except DDLightError as error:
        return None, " ".join(str(error).rstrip(".").split())


def _class_notes(labels: np.ndarray, real_labels: np.ndarray, classes: int) -> list[str]:
    """Which classes the means over classes leave out."""
    own, theirs = (np.bincount(x, minlength=classes) for x in (labels, real_labels))
    lines = {
        "no image in the set": int((own == 0).sum()),
        "no test image": int((theirs == 0).sum()),
        "one image, of which diversity is undefined": int((own == 1).sum()),
    }
    return [f"{count:,} of {classes:,} classes have {what}" for what, count in lines.items() if count]


def _data_notes(stored: StoredSet, real: Real) -> list[str]:
    """Whether made images came from data whose files are others here; indices are checked by their ids."""
    same = real.dataset.identity() == stored.manifest["dataset_identity"]
    return [] if same else [f"was made from other files of {stored.manifest['dataset']} than lie here"]


def _bytes_pixels(stored: StoredSet) -> int:
    dtype = getattr(stored.images, "dtype", np.dtype(np.uint8))
    return math.prod(stored.images.shape) * dtype.itemsize

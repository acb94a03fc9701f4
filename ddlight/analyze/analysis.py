"""Analysis: everything that is said of a set, in one row; what is real is gathered once for all sets of a dataset."""

import json
import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddlight.analyze import coverage, duplicates
from ddlight.analyze.cost import cost
from ddlight.analyze.coverage import Spread
from ddlight.analyze.distances import Distance
from ddlight.analyze.duplicates import Pair
from ddlight.analyze.images import Real, embedded, set_images
from ddlight.analyze.labels import label_entropy
from ddlight.analyze.sets import LabelledSet
from ddlight.core import naming
from ddlight.core.errors import DataError, DDLightError
from ddlight.core.files import cache_folder
from ddlight.networks.device import current_device
from ddlight.networks.teachers import Teacher
from ddlight.sets import store
from ddlight.sets.opened import hard_classes, open_dataset, root_of
from ddlight.sets.store import StoredSet
from ddlight.sets.whitening import set_whitening
from ddlight.views import pixels
from ddlight.views.whiten import Whitening

UNKNOWN = "unknown"
"""A cost that nobody recorded. Cells of what was not computed are empty; what is undefined is nan."""


@dataclass(frozen=True)
class Measures:
    """What the images of a set are, whichever run trained on it: computed once for several runs."""

    within: Spread | None  # representativeness and diversity, mean over classes; None without a network
    pooled: Spread | None  # likewise, over all classes together
    distance: Distance | None  # FID and KID; None without a network
    pairs: list[Pair]  # images that are in the test split, or nearly so
    near: int | None  # images whose nearest test image is as near as the threshold; None without a network
    exact: int  # images whose pixels are those of a test image
    notes: list[str]  # what a reader must know of these numbers


@dataclass(frozen=True)
class Analysis:
    """What is said of one set."""

    row: dict[str, Any]  # its line of the CSV file, by column; None where a network would have been needed
    pairs: list[dict[str, Any]]  # its lines of the file of duplicates


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
        self.measured: dict[str, Measures] = {}

    def analyse(self, subject: LabelledSet) -> Analysis:
        """Say everything of one set.

        Raises:
            DataError: it is damaged, empty, or of data that are not here; weights or labels are missing.
            UsageError: a network does not take its images, or its whitening cannot be undone.
        """
        manifest = subject.manifest()
        if not manifest["images"]:
            raise DataError(f"{subject.folder} holds no images: there is nothing to analyse.")
        real = self._real(manifest, subject.run)
        selected = manifest["kind"] == "indices"
        stored = store.load(subject.folder, real.dataset if selected else None, pixels.memory_limit())
        whitening = set_whitening(manifest["space"], real.dataset, cache_folder(None))
        key = str(subject.folder.resolve())
        if key not in self.measured:
            self.measured[key] = self._measure(stored, real, whitening)
        measures = self.measured[key]
        try:
            entropy, why = label_entropy(subject, stored, real.dataset, whitening)
        except DDLightError as error:  # a run's teacher or labels are gone: all else can still be said
            entropy, why = None, " ".join(str(error).rstrip(".").split())
        notes = [*measures.notes, *([f"label entropy: {why}"] if why else []), *cost(manifest).notes]
        if real.dataset.identity() != manifest["dataset_identity"]:  # only of made images: ids of others were checked
            notes.append(f"was made from other files of {manifest['dataset']} than lie here")
        row = self._row(subject, stored, measures, entropy, notes)
        ids = real.dataset.index("test").ids
        images = store.read_selection(subject.folder)[1] if selected else np.arange(manifest["images"])
        head = {name: manifest[name] for name in ("dataset", "method", "ipc", "seed")}
        pairs = [
            {**head, "image": str(images[p.image]), "test_id": str(ids[p.real]), "cosine": p.cosine, "exact": p.exact}
            for p in measures.pairs
        ]
        return Analysis(row, pairs)

    def _row(
        self, subject: LabelledSet, stored: StoredSet, measures: Measures, entropy: float | None, notes: list[str]
    ) -> dict[str, Any]:
        m, result = stored.manifest, subject.result
        spreads = {"": measures.within, "_pooled": measures.pooled}
        distances = astuple(measures.distance) if measures.distance else [None] * 5
        costs = {name: value for name, value in vars(cost(m)).items() if name != "notes"}
        dtype = getattr(stored.images, "dtype", np.dtype(np.uint8))
        return {
            "dataset": m["dataset"],
            "method": m["method"],
            "args": json.dumps(m["args"], sort_keys=True),
            "ipc": m["ipc"],
            "seed": m["seed"],
            "regime": result.regime if result else "",
            "n_images": m["images"],
            "split": "test",
            "features": self.network.name if self.network else "",
            **{
                f"{part.name}{suffix}": getattr(spread, part.name) if spread else None
                for suffix, spread in spreads.items()
                for part in fields(Spread)
            },
            **dict(zip(("fid", "kid", "kid_std", "fid_n", "fid_real_n"), distances, strict=True)),
            "fid_features": self.fid_network.name if self.fid_network else "",
            "label_entropy": entropy,
            "near_duplicates": measures.near,
            "exact_duplicates": measures.exact,
            "bytes_images": m["bytes_images"],
            "bytes_pixels": math.prod(stored.images.shape) * dtype.itemsize,
            "bytes_labels": result.set.bytes_labels if result else m["bytes_labels"],
            **{name: UNKNOWN if value is None else value for name, value in costs.items()},
            "notes": notes,
            "path": str(subject.run or subject.folder),
        }

    def _real(self, manifest: Mapping[str, Any], run: Path | None) -> Real:
        """The real images of a set's dataset, where `run` read them if no root is given."""
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

    def _measure(self, stored: StoredSet, real: Real, whitening: Whitening | None) -> Measures:
        info, labels = real.dataset.info, hard_classes(stored.labels)
        hashes = [h for part in set_images(stored, info, whitening) for h in duplicates.digests(part)]
        exact = duplicates.exact_pairs(hashes, real.hashes)
        count = len({image for image, _ in exact})
        distance, notes = None, []
        if self.fid_network is not None:
            images = set_images(stored, info, whitening, self.fid_network)
            features = torch.cat([*embedded(self.fid_network, images)])
            distance, width = real.distances.to(features), features.shape[1]
            if distance.images < 2:
                notes = ["FID and KID of one image are undefined"]
            elif distance.images <= width:
                n = f"{distance.images:,} images in {width:,} features"
                notes = [f"FID of {n}: compare at equal n only, or take KID"]
        if self.network is None:
            return Measures(None, None, distance, duplicates.merge(exact, {}), None, count, notes)
        features = torch.cat([*embedded(self.network, set_images(stored, info, whitening, self.network))])
        features = coverage.unit_length(features).to(current_device())
        real_labels = real.dataset.index("test").labels
        within = coverage.average(coverage.per_class(features, labels, real.test, real_labels))
        nearest = coverage.nearest(features, real.test)
        near = duplicates.near_pairs(nearest, self.threshold)
        pooled, pairs = coverage.spread(features, nearest), duplicates.merge(exact, near)
        notes = [*_class_notes(labels, real_labels, info.num_classes), *notes]
        return Measures(within, pooled, distance, pairs, len(near), count, notes)


def _class_notes(labels: np.ndarray, real_labels: np.ndarray, classes: int) -> list[str]:
    """Which classes the means over classes leave out."""
    images, real = (np.bincount(x, minlength=classes) for x in (labels, real_labels))
    lines = {
        "no image in the set": int((images == 0).sum()),
        "no test image": int((real == 0).sum()),
        "one image, of which diversity is undefined": int((images == 1).sum()),
    }
    return [f"{count:,} of {classes:,} classes have {what}" for what, count in lines.items() if count]

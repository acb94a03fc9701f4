"""Images in parts, as networks and hashes take them, and the real ones that the sets of a dataset are compared with."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ddlight.analyze.coverage import unit_length
from ddlight.analyze.distances import Distances
from ddlight.analyze.duplicates import digests, places
from ddlight.core.errors import DataError
from ddlight.data.base import RealDataset, Split
from ddlight.data.table import DatasetInfo
from ddlight.networks.device import current_device
from ddlight.networks.export import read_card
from ddlight.networks.teachers import RunTeacher, Teacher
from ddlight.sets.store import StoredSet
from ddlight.views.loader import eval_batch
from ddlight.views.view import to_unit
from ddlight.views.whiten import Whitening


def parts_of(count: int, info: DatasetInfo, teacher: Teacher | None) -> Iterator[np.ndarray]:
    """Positions of `count` images in parts that a network may take, or that may be decoded where there is none."""
    seen = info if teacher is None else replace(info, channels=3, size=max(info.size, teacher.input.size))
    size = eval_batch(seen)
    return (np.arange(start, min(start + size, count)) for start in range(0, count, size))


def real_images(dataset: RealDataset, split: Split, teacher: Teacher | None = None) -> Iterator[Tensor]:
    """A split's images in parts: uint8 (n, C, H, W)."""
    rows = parts_of(len(dataset.index(split)), dataset.info, teacher)
    return (torch.from_numpy(dataset.take(split, part)) for part in rows)


def set_images(
    stored: StoredSet, info: DatasetInfo, whitening: Whitening | None, teacher: Teacher | None = None
) -> Iterator[Tensor]:
    """A set's images in parts: float32 in [0, 1], (n, C, H, W); floats of other spaces than pixels may leave it.

    Raises:
        UsageError: they are whitened in a way that cannot be undone.
    """
    images = torch.from_numpy(stored.images) if isinstance(stored.images, np.ndarray) else stored.images
    for rows in parts_of(len(images), info, teacher):
        yield to_unit(images[torch.from_numpy(rows)], info, stored.manifest["space"], whitening)


def embedded(teacher: Teacher, parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """Features of images as they are: float32 (n, D) on the CPU, part by part.

    Args:
        teacher: a loaded network.
        parts: uint8, or float32, 0 to 1 for what pictures hold; (n, C, H, W).

    Raises:
        DataError: the network gives numbers that are not finite.
    """
    device = current_device()
    for part in parts:
        images = part.to(device)
        unit = images.float() / 255 if images.dtype == torch.uint8 else images
        features = teacher.features(unit)[0].cpu()
        if not features.isfinite().all():
            raise DataError(
                f"{teacher.name} gives features that are not finite: it did not train, or its weights are damaged. "
                "Take another network: --features FOLDER_OF_A_RUN"
            )
        yield features


class Real:
    """A dataset's test split in features and in hashes, and its training split as FID and KID take it.

    The papers call it the validation set: it is the split that students are tested on. FID is to the training split,
    of which the set was made.

    Args:
        dataset: the real dataset.
        network: whose features are taken; None for none.
        fid_network: likewise, for FID and KID.

    Raises:
        UsageError: a network takes images of other channels.
        DataError: weights are missing.
    """

    def __init__(self, dataset: RealDataset, network: Teacher | None, fid_network: Teacher | None) -> None:
        self.dataset, self.network, self.fid_network = dataset, network, fid_network
        for teacher in filter(None, (network, fid_network)):
            teacher.load(None, dataset.info.channels, dataset.info.size)

    @cached_property
    def hashes(self) -> dict[bytes, list[int]]:
        """Positions in the test split of each image's pixels."""
        return places(content for part in real_images(self.dataset, "test") for content in digests(part))

    @cached_property
    def test(self) -> Tensor:
        """Features of the test split, of length 1: float32 (m, D), on this process's device."""
        assert self.network is not None
        parts = embedded(self.network, real_images(self.dataset, "test", self.network))
        return torch.cat([unit_length(part) for part in parts]).to(current_device())

    @cached_property
    def distances(self) -> Distances:
        """The training split as FID and KID take it."""
        assert self.fid_network is not None
        parts = embedded(self.fid_network, real_images(self.dataset, "train", self.fid_network))
        first = next(parts)
        distances = Distances(first.shape[1], len(self.dataset.index("train")))
        for part in itertools.chain([first], parts):
            distances.add(part)
        return distances

    def lines(self) -> list[str]:
        """What numbers are relative to."""
        info = self.dataset.info
        lines = [f"{info.name}: {len(self.dataset.index('test')):,} test images"]
        if self.network is not None:
            measures = "Representativeness, diversity and near duplicates"
            lines.append(f"{measures}: features of {_described(self.network, info)}")
        if self.fid_network is not None:
            train = f"{len(self.dataset.index('train')):,} training images"
            lines.append(f"FID and KID to the {train}: features of {_described(self.fid_network, info)}")
        return lines


def _described(teacher: Teacher, info: DatasetInfo) -> str:
    """A network by name and weights, and in what it is a stranger to the dataset."""
    facts = [f"weights {teacher.fingerprint()[:12]}"]
    if teacher.input.size != info.size:
        facts.append(f"images resized from {info.size} to {teacher.input.size} pixels")
    trained = read_card(teacher.run).classes if isinstance(teacher, RunTeacher) else ()
    if (trained and trained != tuple(info.classes)) or teacher.num_classes != info.num_classes:
        facts.append(f"trained on {teacher.num_classes:,} other classes")
    return f"{teacher.name} ({', '.join(facts)})"

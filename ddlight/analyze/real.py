"""The real images that the sets of one dataset are compared with, each looked at once."""

import itertools
from functools import cached_property

import torch
from torch import Tensor

from ddlight.analyze.coverage import unit_length
from ddlight.analyze.distances import Distances
from ddlight.analyze.duplicates import digests, places
from ddlight.analyze.images import embedded, real_images
from ddlight.data.base import RealDataset
from ddlight.data.table import DatasetInfo
from ddlight.networks.device import current_device
from ddlight.networks.export import read_card
from ddlight.networks.teachers import RunTeacher, Teacher


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

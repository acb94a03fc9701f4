"""Images in parts, as networks and hashes take them, and what a network makes of them."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ddlight.core.errors import DataError
from ddlight.data.base import RealDataset, Split
from ddlight.data.table import DatasetInfo
from ddlight.networks.device import current_device
from ddlight.networks.teachers import Teacher
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

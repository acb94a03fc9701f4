"""Where a condensed set's images are when they are no dense array: in their files, or in memory at their full size.

A dense array is the rule (images of one size, decoded once). `Encoded` images stay in their files, for sets that do
not fit into memory; a `WorkerLoader` decodes them ahead in worker processes. `FullSize` images keep every pixel of the
source, for protocols that crop before they resize; they are decoded once too where they fit.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ddlight.core.errors import UsageError
from ddlight.core.system import total_memory
from ddlight.data.decoded import decode_files, image_size
from ddlight.views.crop import crop_boxes, resize_each
from ddlight.views.loader import Batch, Resumable, RunLoader

LIMIT_VARIABLE = "DDLIGHT_SET_GB"
WORKERS = 8
"""Largest number of processes that decode ahead."""


def memory_limit() -> float:
    """Bytes that a set's images may take: $DDLIGHT_SET_GB gigabytes, else half of this machine's memory."""
    limit = os.environ.get(LIMIT_VARIABLE)
    if limit is None:
        return 0.5 * total_memory()
    try:
        return float(limit) * 1e9
    except ValueError:
        raise UsageError(f"{LIMIT_VARIABLE} is a number of gigabytes, such as 4; given: {limit!r}.") from None


class Encoded:
    """Images of one size that stay in their files and are decoded when they are taken.

    Args:
        files: one per image, in order.
        read: decodes a file into uint8 `shape`.
        shape: (C, H, W).
    """

    device = torch.device("cpu")

    def __init__(self, files: Sequence[Path], read: Callable[[Path], np.ndarray], shape: tuple[int, ...]) -> None:
        self.files, self.read, self.shape = files, read, (len(files), *shape)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Decode some images: uint8 (n, C, H, W)."""
        chosen = [self.files[row] for row in rows.tolist()]
        return torch.from_numpy(decode_files(chosen, self.read, self.shape[1:], torch.get_num_threads()))


@dataclass(eq=False)
class FullSize:
    """Images of any size, which are cropped before they are resized.

    Args:
        files: one per image, in order.
        read: decodes a file into uint8 (C, h, w).
        squares: gives the dataset's squares uint8 (n, C, S, S) of positions int64 (n,), as an evaluation sees them.
        size: S, in pixels.
        limit: bytes that the decoded images may take; beyond it they are decoded at every crop.
    """

    files: Sequence[Path]
    read: Callable[[Path], np.ndarray]
    squares: Callable[[np.ndarray], np.ndarray]
    size: int
    limit: float
    device = torch.device("cpu")

    def __post_init__(self) -> None:
        self.shape = (len(self.files), 3, self.size, self.size)
        self.sizes = np.array([image_size(path)[::-1] for path in self.files])
        self.images: list[Tensor] | None = None
        if 3 * self.sizes.prod(1).sum() <= self.limit:
            with ThreadPoolExecutor() as pool:
                self.images = list(pool.map(self._image, self.files))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Squares of some images: uint8 (n, C, S, S)."""
        return torch.from_numpy(self.squares(rows.numpy(force=True)))

    def _image(self, path: Path) -> Tensor:
        return torch.from_numpy(np.array(self.read(path)))[None]

    def cut(
        self,
        rows: np.ndarray,
        u: np.ndarray,
        scale: tuple[float, float],
        ratio: tuple[float, float],
        mirrored: np.ndarray | None = None,
    ) -> Tensor:
        """Crop images at random and resize the crops, bilinear with antialiasing, in threads.

        Args:
            rows: int64 (n,).
            u: uniform numbers (n, CROP_UNIFORMS) of `crop_boxes`.
            scale: area of the crops, as fractions of each image's own area.
            ratio: width / height of the crops.
            mirrored: booleans (n,): which crops are turned left to right.

        Returns:
            uint8 (n, C, S, S), within one grey level of PIL on the same boxes.
        """
        chosen, boxes = rows.tolist(), crop_boxes(u, self.sizes[rows], scale, ratio).tolist()

        def crop(i: int) -> Tensor:
            top, left, height, width = boxes[i]
            image = self._image(self.files[chosen[i]]) if self.images is None else self.images[chosen[i]]
            return image[..., top : top + height, left : left + width]

        return resize_each(crop, torch.empty((len(rows), *self.shape[1:]), dtype=torch.uint8), mirrored=mirrored)


Pixels = Tensor | Encoded | FullSize


def decodes(images: object) -> bool:
    """Whether images are decoded during training, so that workers should do it ahead."""
    return isinstance(images, Encoded) or (isinstance(images, FullSize) and images.images is None)


class _Cut(Dataset[Batch]):
    """Turns a batch, as a DataLoader's worker gets it, into one with decoded crops."""

    def __init__(self, cut: Callable[[Batch], Batch]) -> None:
        self.cut = cut

    def __getitem__(self, batch: Any) -> Batch:
        return self.cut(batch)


class WorkerLoader(Resumable):
    """A run's batches with their images decoded and cropped ahead, in worker processes that last the whole run.

    Args:
        loader: gives the batches.
        cut: returns a batch with its crops (`Viewer.precut`); draws depend on the batch alone, so that a view is the
            same whoever cut it.
        workers: processes; by default one per CPU core, at most `WORKERS`.
    """

    def __init__(self, loader: RunLoader, cut: Callable[[Batch], Batch], workers: int | None = None) -> None:
        self.loader, self.cut = loader, cut
        self.workers = min(WORKERS, os.cpu_count() or 1) if workers is None else workers

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        if self.handed_out >= len(self):
            self.handed_out = 0
        self.loader.handed_out = self.handed_out
        for batch in DataLoader(_Cut(self.cut), None, sampler=self.loader, num_workers=self.workers):  # type: ignore[arg-type]
            self.handed_out += 1
            yield batch


def moved(batch: Batch, device: torch.device) -> Batch:
    """A batch with its crops on `device`."""
    return replace(batch, crops=tuple(crops.to(device, non_blocking=True) for crops in batch.crops))

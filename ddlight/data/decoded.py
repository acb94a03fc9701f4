"""Decoding image files in threads; a large split's pixels in one file, so that only the first reading decodes."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ddlight.core.errors import DataError

CHUNK = 256
"""Images that are decoded before they are written."""


def channels_first(pixels: np.ndarray) -> np.ndarray:
    """A picture as Pillow gives it, (H, W) or (H, W, C), as (C, H, W)."""
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def decode_files(
    files: Sequence[Path], read: Callable[[Path], np.ndarray], shape: tuple[int, ...], threads: int | None = None
) -> np.ndarray:
    """Decode images in threads, straight into one array: uint8 (len(files), *shape).

    `read` decodes one file into uint8 `shape`, (C, H, W). In memory the channels of a pixel lie together, from which
    crops are resized faster. Raises DataError where some cannot be read; they are named.
    """
    channels, height, width = shape
    images = np.empty((len(files), height, width, channels), dtype=np.uint8).transpose(0, 3, 1, 2)

    def decode(row: int) -> str | None:
        try:
            images[row] = read(files[row])
        except Exception as error:  # a damaged file makes Pillow raise almost anything
            return f"{files[row]}: {error}"
        return None

    with ThreadPoolExecutor(threads) as pool:
        bad = [message for message in pool.map(decode, range(len(files))) if message]
    if bad:
        more = f"\n  and {len(bad) - 5} more" * (len(bad) > 5)
        lines = "\n  ".join(bad[:5])
        raise DataError(f"{len(bad)} of {len(files):,} images cannot be read; replace or remove:\n  {lines}{more}")
    return images


def read_full(path: Path) -> np.ndarray:
    """Decode an image at its full size: uint8 (3, h, w), RGB. Raises ValueError where pixels have more than 8 bits."""
    return np.asarray(open_rgb(path)).transpose(2, 0, 1)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file, from its header. Raises DataError where it is none."""
    try:
        with Image.open(path) as image:
            return image.size
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        raise DataError(f"{path} cannot be read: {error}. Replace or remove it.") from error


def open_rgb(path: Path) -> Image.Image:
    """Open an image as RGB. Raises ValueError where pixels have more than 8 bits."""
    with Image.open(path) as image:
        if image.mode[0] in "IF":
            raise ValueError(f"pixels of mode {image.mode} do not fit 8 bits; save it as an 8-bit image")
        return image.convert("RGB")


@dataclass(frozen=True)
class DecodedFile:
    """Pixels of all images of a split, written when first read.

    They are read by position and not mapped, so that they take no memory of this process. The file is named by what
    it was decoded from; one of another length is written again.

    Args:
        path: of the file.
        sources: image files, in order.
        shape: (C, H, W) of each.
        decode: gives uint8 (n, C, H, W) of n files.
    """

    path: Path
    sources: Sequence[Path]
    shape: tuple[int, int, int]
    decode: Callable[[Sequence[Path]], np.ndarray]

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read images by position: uint8 (len(rows), C, H, W)."""
        size = int(np.prod(self.shape))
        if not self.path.exists() or self.path.stat().st_size != size * len(self.sources):
            self._write()
        images = np.empty((len(rows), *self.shape), np.uint8)
        with self.path.open("rb") as file:
            for image, row in zip(images, rows.tolist(), strict=True):
                if os.preadv(file.fileno(), [image.reshape(-1).data], row * size) != size:
                    raise DataError(f"{self.path} was shortened while it was read. Run the same command again.")
        return images

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                for start in range(0, len(self.sources), CHUNK):
                    file.write(self.decode(self.sources[start : start + CHUNK]).tobytes())
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)

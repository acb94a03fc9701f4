"""Decoding image files in threads; a split's pixels in one file, so that only the first reading decodes."""

import logging
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image

from ddlight.core.errors import DataError

CHUNK = 256
"""Images that are decoded before they are written."""
TOGETHER = 8
"""Images that a thread decodes before it asks for more."""
MANY = 2000
"""Images from which a bar shows how many are decoded."""

log = logging.getLogger("ddlight")
T = TypeVar("T")


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

    def decode(start: int) -> list[str]:
        bad = []
        for row in range(start, min(start + TOGETHER, len(files))):
            try:
                images[row] = read(files[row])
            except Exception as error:  # a damaged file makes Pillow raise almost anything
                bad.append(f"{files[row]}: {error}")
        return bad

    starts = range(0, len(files), TOGETHER)
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        bad = [line for some in _watched(pool.map(decode, starts), len(starts), len(files)) for line in some]
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
    return open_picture(path, 3)


def open_picture(source: Path | BinaryIO, channels: int) -> Image.Image:
    """Open an image, the first frame of one that moves, as RGB or, with one channel, as grey.

    Raises:
        ValueError: pixels have more than 8 bits, which Pillow would cut off.
        Exception: whatever Pillow raises where it is damaged.
    """
    with Image.open(source) as image:
        if image.mode[0] in "IF":
            raise ValueError(f"pixels of mode {image.mode} do not fit 8 bits; save it as an 8-bit image")
        return image.convert("L" if channels == 1 else "RGB")


@dataclass(frozen=True)
class DecodedFile:
    """Pixels of all images of a split, written when first read; each image is followed by its CRC-32.

    They are read by position and not mapped, so that they take no memory of this process. The file is named by what
    it was decoded from; one of another length, or with a damaged image among those that are read, is written again.

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

    @property
    def written(self) -> bool:
        """Whether the file is there, at its full length."""
        return self.path.exists() and self.path.stat().st_size == (int(np.prod(self.shape)) + 4) * len(self.sources)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read images by position: uint8 (len(rows), C, H, W), in memory as `decode_files` has them."""
        images = self._read(rows) if self.written else None
        if images is None:
            try:
                images = self._write(rows)
            except OSError as error:
                log.warning("decoded images are not kept in %s: %s", self.path, error.strerror)
                return self.decode([self.sources[row] for row in rows.tolist()])
        if images is None:
            raise DataError(f"{self.path} was damaged while it was read. Run the same command again.")
        return images.transpose(0, 3, 1, 2)

    def _read(self, rows: np.ndarray) -> np.ndarray | None:
        """Images, uint8 (len(rows), H, W, C); None where one is damaged."""
        channels, height, width = self.shape
        images = np.empty((len(rows), height, width, channels), np.uint8)
        size, crc = images[:1].nbytes, bytearray(4)
        with self.path.open("rb") as file:
            for image, row in zip(images, rows.tolist(), strict=True):
                pixels = image.reshape(-1).data
                got = os.preadv(file.fileno(), [pixels, crc], row * (size + 4))
                if got != size + 4 or zlib.crc32(pixels) != int.from_bytes(crc, "little"):
                    return None
        return images

    def _write(self, rows: np.ndarray) -> np.ndarray | None:
        """Decode and write all images; return those that `_read` would, without reading where they are all in order."""
        channels, height, width = self.shape
        whole = np.array_equal(rows, np.arange(len(self.sources)))
        images = np.empty((len(rows) if whole else 0, height, width, channels), np.uint8)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        starts = range(0, len(self.sources), CHUNK)
        try:
            with part.open("wb") as file:
                for start in _watched(starts, len(starts), len(self.sources)):
                    decoded = self.decode(self.sources[start : start + CHUNK]).transpose(0, 2, 3, 1)
                    if whole:
                        images[start : start + CHUNK] = decoded
                    for image in decoded:
                        pixels = np.ascontiguousarray(image).data
                        file.write(pixels)
                        file.write(zlib.crc32(pixels).to_bytes(4, "little"))
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)
        return images if whole else self._read(rows)


def _watched(items: Iterable[T], total: int, images: int) -> Iterable[T]:
    """The items, with a bar of them where the images are many and a person watches."""
    if images < MANY or not sys.stderr.isatty() or not log.isEnabledFor(logging.INFO):
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, f"decoding {images:,} images", total, console=Console(stderr=True), transient=True)

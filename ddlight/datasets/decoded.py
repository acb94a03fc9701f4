"""Decoded images of a large split in one file, so that only the first evaluation decodes them."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ddlight.errors import DataError

CHUNK = 256
"""Images that are decoded before they are written."""


def decoded_folder() -> Path:
    """Folder of decoded images: beside the condensed sets, in $DDLIGHT_CACHE or ~/.cache/ddlight/condensed."""
    return Path(os.environ.get("DDLIGHT_CACHE") or "~/.cache/ddlight/condensed").expanduser() / "decoded"


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

    def __init__(
        self,
        path: Path,
        sources: Sequence[Path],
        shape: tuple[int, int, int],
        decode: Callable[[Sequence[Path]], np.ndarray],
    ) -> None:
        self.path, self.sources, self.shape, self.decode = path, sources, shape, decode

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

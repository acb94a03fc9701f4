"""Images of a set as one picture, a class a row."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ddlight.core.errors import UsageError

if TYPE_CHECKING:
    from ddlight.sets.store import StoredSet

TILE = 56
"""Images smaller than this many pixels are enlarged by a whole factor."""
GAP = 2
"""Pixels between two images of a grid."""


def grid(
    images: np.ndarray, rows: Sequence[tuple[str, np.ndarray]], mean: Sequence[float], std: Sequence[float]
) -> np.ndarray:
    """Draw classes as rows, their names at the left, as uint8 (height, width, 3).

    Args:
        images: uint8, or float32 of which (image * std + mean) lies in [0, 1]; (N, C, H, W), C = 1 or 3.
        rows: name of each class and the positions of its images, int (n,).
        mean: per channel; 0 where images are not normalised.
        std: per channel; 1 where images are not normalised.

    Raises:
        UsageError: the images have another number of channels.
    """
    height, width = images.shape[2:]
    scale = max(1, TILE // max(height, width))
    names = _names([name for name, _ in rows], height * scale)
    columns = max((len(chosen) for _, chosen in rows), default=0)
    down, right = height * scale + GAP, width * scale + GAP
    canvas = np.full((len(rows) * down, names.shape[2] + columns * right, 3), 255, np.uint8)
    for row, (_, chosen) in enumerate(rows):
        drawn = tiles(images[chosen], mean, std).repeat(scale, axis=1).repeat(scale, axis=2)
        y, x = row * down, names.shape[2]
        canvas[y : y + height * scale, :x] = names[row][..., None]
        for column, pixels in enumerate(drawn):
            left = x + column * right
            canvas[y : y + height * scale, left : left + width * scale] = pixels
    return canvas


def tiles(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Turn images as `grid` takes them into pixels: uint8 (N, H, W, 3). Raises UsageError as it does."""
    channels = images.shape[1]
    if channels not in (1, 3):
        raise UsageError(f"Images of {channels} channels cannot be drawn: --grid takes sets with 1 or 3.")
    return np.array([_pixels(image, mean, std) for image in images]).reshape(-1, *images.shape[2:], 3)


def _pixels(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Turn one image (C, H, W) into uint8 (H, W, 3)."""
    if image.dtype != np.uint8:
        shown = image * np.reshape(std, (-1, 1, 1)) + np.reshape(mean, (-1, 1, 1))
        image = np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8)
    return np.broadcast_to(image.transpose(1, 2, 0), (*image.shape[1:], 3))


def _names(names: Sequence[str], height: int) -> np.ndarray:
    """Draw names black on white, all equally wide, as uint8 (number, height, width)."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default()
    short = [name if len(name) <= 24 else f"{name[:23]}." for name in names]
    short = [name.encode("ascii", "replace").decode() for name in short]  # what the built-in font can draw
    width = max((int(font.getlength(name)) for name in short), default=0) + 8
    drawn = np.empty((len(short), height, width), np.uint8)
    for row, name in enumerate(short):
        image = Image.new("L", (width, height), 255)
        ImageDraw.Draw(image).text((4, height // 2), name, fill=0, font=font, anchor="lm")
        drawn[row] = np.asarray(image)
    return drawn


def stretch(stored: "StoredSet") -> tuple[list[float], list[float]]:
    """Mean and std that bring a set's floats to [0, 1]; whitened ones, which have no fixed range, to 0.5 +- 0.2.

    Source of the latter: how FRePo shows its images (lib/datadistillation/utils.py).
    """
    space = stored.manifest["space"]
    if space == "pixel":
        return [0.0], [1.0]
    if space == "normalised":
        return stored.manifest["mean"], stored.manifest["std"]
    return [0.5], [0.2 / max(float(np.std(stored.images)), 1e-12)]

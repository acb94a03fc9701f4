"""What a network sees of the images at one iteration: one crop, one flip and one roll for the whole batch.

Crop, resize, flip and roll are linear in the pixels and separate into rows and columns, so that a view is two matrix
products: R X C^T. That is differentiable, takes the same time for every box, and adds in the same order at every run,
which the backward passes of grid sampling and interpolation on a GPU do not.
"""

import numpy as np
import torch
from torch import Tensor

from ddlight.views.crop import CROP_UNIFORMS, crop_boxes, triangle_weights

VIEW_UNIFORMS = CROP_UNIFORMS + 3
"""Uniform numbers of one iteration: its box, its coin, its two shifts."""


def view_matrices(
    box: np.ndarray, flipped: bool, shift: tuple[int, int], source: int, size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Matrices R and C, (size, source) each, of a view R X C^T: crop, bilinear resize, flip, roll, in that order.

    Args:
        box: int64 (4,): top, left, height, width in pixels.
        flipped: mirror left to right.
        shift: pixels of the view that it is rolled by, down and to the right, wrapping around.
        source: side of the images in pixels.
        size: side of the view in pixels.
        device: of the matrices; nothing waits for it.
    """
    top, left, height, width = (torch.full((1,), float(place), device=device) for place in box.tolist())
    rows = triangle_weights(top, height, source, size)[0]
    columns = triangle_weights(left, width, source, size)[0]
    columns = columns.flip(0) if flipped else columns
    return rows.roll(shift[0], 0), columns.roll(shift[1], 0)


class Views:
    """The views of every iteration, drawn at once; a view of given images depends on its iteration alone.

    Args:
        rng: generator of the block.
        floors: smallest area of a crop at each iteration, as a fraction of the image, (T,); None takes whole images.
        iterations: T.
        roll: lowest and highest shift in pixels, both included.
        flip: whether views are mirrored with probability 1/2.
    """

    def __init__(
        self, rng: np.random.Generator, floors: np.ndarray | None, iterations: int, roll: tuple[int, int], flip: bool
    ) -> None:
        u = rng.random((iterations, VIEW_UNIFORMS))
        self._boxes, self._floors = u[:, :CROP_UNIFORMS], floors
        self.flipped = (u[:, CROP_UNIFORMS] < 0.5) & flip
        self.shifts = np.floor(roll[0] + (roll[1] - roll[0] + 1) * u[:, -2:]).astype(int)

    def box(self, iteration: int, source: int) -> np.ndarray:
        """The crop of images of side `source`: int64 (4,), as torchvision's RandomResizedCrop draws it."""
        if self._floors is None:
            return np.array([0, 0, source, source])
        return crop_boxes(self._boxes[iteration], source, (float(self._floors[iteration]), 1.0))

    def __call__(self, images: Tensor, iteration: int, size: int | None = None) -> Tensor:
        """View of images (B, C, S, S) at an iteration: (B, C, size, size), S where no size is given; differentiable."""
        source = images.shape[-1]
        down, right = self.shifts[iteration].tolist()
        box, flipped = self.box(iteration, source), bool(self.flipped[iteration])
        rows, columns = view_matrices(box, flipped, (down, right), source, size or source, images.device)
        return rows @ (images @ columns.T)

"""Differentiable Siamese augmentation (DSA): one operation per mini-batch, its parameters per image or shared.

Source: arXiv 2102.08259, with the semantics of its repository (VICO-UoE/DatasetCondensation): `Strategy` names the
operations, `draw` turns uniform numbers into one of them and its parameters, `apply` is a differentiable function of
the images. Applying one drawn operation to the real and to the synthetic batch is the Siamese use.

Images are normalised, so what comes in from outside an image is 0, the dataset's mean colour.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ddlight.core.errors import UsageError, nearest
from ddlight.views._tensors import beside, inside_boxes, needs_float, per_image
from ddlight.views.crop import flip

DSA_UNIFORMS = 3
"""Uniform numbers that `draw` takes per image; an operation that needs fewer leaves the last ones."""

CROP_PAD = 0.125
CUTOUT = 0.5
SCALE = 1.2
ROTATE = 15.0


@dataclass(frozen=True)
class Strategy:
    """The operations that DSA chooses from.

    >>> Strategy("color_crop_flip").ops
    ('color', 'crop', 'flip')

    Args:
        name: operations joined by "_", from color, crop, cutout, flip, scale, rotate; "none" augments nothing.
            Published: "color_crop_cutout_flip_scale_rotate", and without flip for digits (MNIST and SVHN).

    Raises:
        UsageError: an operation is unknown.
    """

    name: str = "color_crop_cutout_flip_scale_rotate"

    def __post_init__(self) -> None:
        """Check the name."""
        for op in self.ops:
            if op not in _OPERATIONS:
                raise UsageError(
                    f"Unknown operation {op!r} in the DSA strategy {self.name!r}.{nearest(op, _OPERATIONS)} "
                    f"Known: {', '.join(_OPERATIONS)}; write for example dsa: color_crop_cutout_scale_rotate."
                )

    @property
    def ops(self) -> tuple[str, ...]:
        """The operations in the order of the name; ("none",) when there are none."""
        return tuple(self.name.lower().split("_"))


def draw(strategy: Strategy, u_op: float, u: np.ndarray, size: int) -> tuple[str, np.ndarray]:
    """Turn uniform numbers into the operation of one mini-batch, and its parameters as `parameters` describes them.

    Args:
        strategy: the operations to choose from, each equally likely.
        u_op: one uniform number in [0, 1): which operation.
        u: (B, `DSA_UNIFORMS`) uniform numbers in [0, 1), one row per image.
        size: side of the images in pixels.
    """
    op = strategy.ops[int(u_op * len(strategy.ops))]
    return op, parameters(op, u, size)


def parameters(op: str, u: np.ndarray, size: int) -> np.ndarray:
    """Compute the parameters of one operation from uniform numbers (B, `DSA_UNIFORMS`): float64 (B, k).

    With u1, u2, u3 the columns of `u` and S = `size`, the side of the images in pixels:

    * color: brightness offset u1 - 0.5, saturation factor 2 u2, contrast factor u3 + 0.5;
    * crop: rows and columns to shift by, whole numbers uniform in [-p, p], p = floor(S / 8 + 0.5);
    * cutout: first and end row, first and end column of a box of side c = floor(S / 2 + 0.5) around a centre that
      is uniform in 0..S for even c and 0..S-1 for odd c, clipped at the border;
    * flip: 1 where u1 < 0.5, otherwise 0;
    * scale: factors of the sampling grid along x and y, uniform in [1/1.2, 1.2); above 1 zooms out;
    * rotate: angle in radians, uniform in [-15, 15) degrees;
    * none: nothing, k = 0.
    """
    return _OPERATIONS[op][0](u, size)


def apply(images: Tensor, op: str, params: np.ndarray) -> Tensor:
    """Apply one operation with its parameters, (B, k) or (1, k), to normalised floating-point images (B, C, S, S).

    Gradients flow to the images. In float32, scale and rotate agree with `affine_grid` and `grid_sample` to 1e-5, and
    are the identity at factor 1 and angle 0 to 1e-6; crop, cutout and flip move pixels without changing them. Raises
    TypeError where the images are not floating point.
    """
    needs_float(images, "DSA")
    return _OPERATIONS[op][1](images, params)


def _color(images: Tensor, params: np.ndarray) -> Tensor:
    """Brightness, then saturation about each pixel's mean channel, then contrast about the image's mean."""
    brightness, saturation, contrast = (per_image(column, images) for column in params.T)
    images = images + brightness
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * saturation + grey
    level = images.mean((1, 2, 3), keepdim=True)
    return (images - level) * contrast + level


def _scale(images: Tensor, params: np.ndarray) -> Tensor:
    zero = np.zeros(len(params))
    return _sample(images, params[:, 0], zero, zero, params[:, 1])


def _rotate(images: Tensor, params: np.ndarray) -> Tensor:
    cos, sin = np.cos(params[:, 0]), np.sin(params[:, 0])
    return _sample(images, cos, -sin, sin, cos)


def _crop_parameters(u: np.ndarray, size: int) -> np.ndarray:
    most = int(size * CROP_PAD + 0.5)
    return np.floor(u[:, :2] * (2 * most + 1)) - most


def _crop(images: Tensor, params: np.ndarray) -> Tensor:
    """Take pixel (i + dy, j + dx) to (i, j), from a frame of zeros around the image."""
    batch, channels, height, width = images.shape
    dy, dx = beside(params.T, images, torch.long)
    rows = (torch.arange(height, device=images.device) + dy[:, None] + 1).clamp(0, height + 1)
    columns = (torch.arange(width, device=images.device) + dx[:, None] + 1).clamp(0, width + 1)
    places = (rows[:, :, None] * (width + 2) + columns[:, None, :]).flatten(1)
    framed = functional.pad(images, (1, 1, 1, 1)).flatten(2)
    return framed.gather(2, places[:, None].expand(batch, channels, -1)).view_as(images)


def _cutout_parameters(u: np.ndarray, size: int) -> np.ndarray:
    side = int(size * CUTOUT + 0.5)
    first = np.floor(u[:, :2] * (size + 1 - side % 2)) - side // 2
    return np.clip(np.stack([first, first + side], 2), 0, size).reshape(-1, 4)


def _sample(images: Tensor, *matrix: np.ndarray) -> Tensor:
    """Sample bilinearly at (xx x + xy y, yx x + yy y), about the centre, zero outside, in float32 or wider.

    The grid is `affine_grid`'s with `align_corners=False`, without its matrix product, which would lose bits under
    TF32 or autocast.
    """
    batch, _, height, width = images.shape
    wide = torch.promote_types(images.dtype, torch.float32)
    y = beside((2 * np.arange(height) + 1) / height - 1, images, wide)[:, None]
    x = beside((2 * np.arange(width) + 1) / width - 1, images, wide)
    xx, xy, yx, yy = beside(np.stack(matrix), images, wide)[:, :, None, None]
    grid = torch.stack([xx * x + xy * y, yx * x + yy * y], -1).expand(batch, -1, -1, -1)
    sampled = functional.grid_sample(images.to(wide), grid, padding_mode="zeros", align_corners=False)
    return sampled.to(images.dtype)


_OPERATIONS: dict[str, tuple[Callable[[np.ndarray, int], np.ndarray], Callable[[Tensor, np.ndarray], Tensor]]] = {
    "color": (lambda u, size: np.stack([u[:, 0] - 0.5, 2 * u[:, 1], u[:, 2] + 0.5], 1), _color),
    "crop": (_crop_parameters, _crop),
    "cutout": (_cutout_parameters, lambda images, params: images.masked_fill(inside_boxes(params, images), 0.0)),
    "flip": (lambda u, size: (u[:, :1] < 0.5).astype(float), lambda images, params: flip(images, params[:, 0] > 0)),
    "scale": (lambda u, size: 1 / SCALE + (SCALE - 1 / SCALE) * u[:, :2], _scale),
    "rotate": (lambda u, size: np.deg2rad(ROTATE) * (2 * u[:, :1] - 1), _rotate),
    "none": (lambda u, size: np.empty((len(u), 0)), lambda images, params: images),
}

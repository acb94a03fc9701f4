"""Colour jitter and PCA lighting as in the code of IDC, one draw per image, on images in [0, 1]."""

from itertools import permutations

import numpy as np
from torch import Tensor

from ddlight.core.errors import UsageError
from ddlight.views._tensors import beside, needs_float, per_image

JITTER_UNIFORMS = 4
"""Uniform numbers that `jitter` takes per image."""

_ORDERS = np.array(list(permutations(range(3))))
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
_EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


def jitter_weights(u: np.ndarray, strength: float = 0.4) -> np.ndarray:
    """What colour jitter does to an image, from uniform numbers (..., `JITTER_UNIFORMS`): float64 (..., 3) of p, q, r.

    Brightness, contrast and saturation move the image towards zero, towards its mean grey level and towards its grey
    image, each by its own share a ~ U(-strength, strength), in random order (x <- x + a (target - x)). Each of the
    three maps p x + q g + r m, for the original image x, its grey image g and the mean m of g, to the same form: so any
    order of them is three numbers. Raises UsageError where `strength` is outside [0, 1].
    """
    if not 0 <= strength <= 1:
        raise UsageError(f"strength of the colour jitter is {strength}; it must lie in [0, 1], for example 0.4.")
    share = strength * (2 * u[..., :3] - 1)
    order = _ORDERS[np.floor(u[..., 3] * len(_ORDERS)).astype(int)]
    p, q, r = np.ones(u.shape[:-1]), np.zeros(u.shape[:-1]), np.zeros(u.shape[:-1])
    for turn in range(3):
        step = order[..., turn]
        brightness, contrast, saturation = (np.where(step == i, share[..., i], 0.0) for i in range(3))
        rest = 1 - brightness - contrast - saturation
        p, q, r = rest * p, rest * q + saturation * (p + q), rest * r + contrast * (p + q + r) + saturation * r
    return np.stack([p, q, r], -1)


def jitter(images: Tensor, u: np.ndarray, strength: float = 0.4) -> Tensor:
    """Jitter brightness, contrast and saturation of each image, in random order, without clamping.

    Source: the colour jitter of IDC (arXiv 2205.14959, repository snu-mllab/Efficient-Dataset-Condensation), which
    the hard-label protocol of Minimax Diffusion (arXiv 2311.15529) and its successors inherit. Grey is
    0.299 R + 0.587 G + 0.114 B. An image of one channel is its own grey image: contrast and brightness act on it,
    saturation does nothing. Agrees with the three steps one after another to 1e-6.

    Args:
        images: (B, C, H, W) floating point in [0, 1], C = 3 or 1; else UsageError or TypeError is raised.
        u: (B, `JITTER_UNIFORMS`) uniform numbers in [0, 1).
        strength: largest change; UsageError outside [0, 1].
    """
    needs_float(images, "Colour jitter")
    p, q, r = (per_image(weight, images) for weight in jitter_weights(u, strength).T)
    channels = images.shape[1]
    if channels not in (1, 3):
        raise UsageError(
            f"Colour jitter needs images of 1 or 3 channels, and these have {channels}; "
            "leave jitter out of the augmentation of this dataset."
        )
    grey = images
    if channels == 3:
        red, green, blue = images.split(1, 1)
        grey = 0.299 * red + 0.587 * green + 0.114 * blue
    return images * p + (grey * q + grey.mean((2, 3), keepdim=True) * r)


def lighting(images: Tensor, normals: np.ndarray, std: float = 0.1) -> Tensor:
    """Add one random colour to each image, along the principal components of ImageNet's pixels, without clamping.

    Source: AlexNet (Krizhevsky et al., 2012, section 4.1), in the [0, 1] scale of IDC's code.

    Args:
        images: (B, 3, H, W) floating point in [0, 1]; else UsageError or TypeError is raised.
        normals: (B, 3) standard normal numbers, one per component.
        std: standard deviation of the components' weights.
    """
    needs_float(images, "PCA lighting")
    if images.shape[1] != 3:
        raise UsageError(
            f"PCA lighting needs colour images of 3 channels, and these have {images.shape[1]}; "
            "leave lighting out of the augmentation of this dataset."
        )
    shift = (std * normals * _EIGENVALUES) @ _EIGENVECTORS.T
    return images + beside(shift, images)[:, :, None, None]

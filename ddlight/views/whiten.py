"""ZCA whitening: bring images from pixel values to the decorrelated space that some distilled sets live in, and back.

W = U diag(s)^(-1/2) U^T with U, s the eigenvectors and eigenvalues of the training pixels' covariance, regularised.
Three kinds were published with sets, and they give other images:

| kind | before W | covariance | s |
|---|---|---|---|
| `zca` | x - mean | 1 / (N - 1) | eigenvalues + 0.1 |
| `zca_frepo` | x / channel's std, minus the mean | 1 / N | eigenvalues + 0.1 tr / d |
| `zca_kip` | x minus its mean, at norm 1 | 1 / N, about zero | eigenvalues + 0.1 tr / d |
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ddlight.core.errors import UsageError

WhiteningKind = Literal["zca", "zca_frepo", "zca_kip"]
WHITENINGS: tuple[WhiteningKind, ...] = get_args(WhiteningKind)
REGULARISATION = 0.1
"""Added to the eigenvalues, as a number (`zca`) or as a share of their mean (the others)."""


@dataclass
class Whitening:
    """A fitted whitening. It is moved to the images' device when it is used there.

    Args:
        mean: float32 (d,), subtracted from flattened images in [0, 1]; zeros where each image's own mean is.
        forward: float32 (d, d), by which the difference is multiplied from the right.
        back: float32 (d, d), the inverse of `forward`; None where images are brought to norm 1 first, which no matrix
            undoes.
    """

    mean: Tensor
    forward: Tensor
    back: Tensor | None

    def apply(self, images: Tensor) -> Tensor:
        """Whiten images (B, C, H, W), C H W = d, uint8 or in [0, 1]: a new float32 batch; gradients flow to floats."""
        self._move(images.device)
        flat = flattened(images)
        return self._times(centred(flat) if self.back is None else flat - self.mean, self.forward).view(images.shape)

    def undo(self, images: Tensor) -> Tensor:
        """Turn whitened images (B, C, H, W) into pixels, which real ones have in [0, 1]; not clamped.

        Raises UsageError where the whitening forgets each image's brightness and contrast.
        """
        self._move(images.device)
        if self.back is None:
            raise UsageError(
                "This set is whitened as KIP does, which forgets each image's brightness and contrast, so its images "
                "have no pixels to show a teacher or to colour. Use --model=HardLabel and a protocol without jitter."
            )
        return (self._times(images.float().flatten(1), self.back) + self.mean).view(images.shape)

    @staticmethod
    def _times(rows: Tensor, matrix: Tensor) -> Tensor:
        """rows @ matrix, in float32 in a run of mixed precision too: rounded to bfloat16, small directions drown."""
        with torch.autocast(rows.device.type, enabled=False):
            return rows @ matrix

    def _move(self, device: torch.device) -> None:
        if self.mean.device != device:
            with torch.inference_mode(False):
                self.mean, self.forward = self.mean.to(device), self.forward.to(device)
                self.back = None if self.back is None else self.back.to(device)


def flattened(images: Tensor) -> Tensor:
    """Images (B, C, H, W), uint8 or in [0, 1], as float32 rows in [0, 1]: (B, d)."""
    rows = images.flatten(1)
    return rows.float() / 255 if images.dtype == torch.uint8 else rows.float()


def centred(rows: Tensor) -> Tensor:
    """Each row minus its mean, at Euclidean norm 1 (a constant row becomes zeros): (B, d)."""
    difference = rows - rows.mean(1, keepdim=True)
    return difference / difference.norm(dim=1, keepdim=True).clamp_min(1e-12)


def fit_whitening(batches: Iterable[Tensor], kind: WhiteningKind, std: Sequence[float]) -> Whitening:
    """Fit a whitening to training images (B, C, H, W), uint8 or in [0, 1], once through.

    Sources: `zca`, kornia's ZCAWhitening(eps=0.1, compute_inv=True), as MTT, TESLA and DATM fit it to pixels in [0, 1];
    `zca_frepo`, yongchaoz/FRePo; `zca_kip`, as justincui03/dc_benchmark loads KIP's sets.
    Deviation: covariances are added up and taken apart in float64, which the sources do in float32; and where there are
    fewer images than numbers in one, which no published set has at 64 pixels or fewer, FRePo sets the eigenvalues
    beyond the N-th to 1, in directions that rounding chooses, and ddlight leaves them.

    Args:
        batches: of the images.
        kind: see the module.
        std: per channel, of images in [0, 1]; only `zca_frepo` divides by it.
    """
    rows = map(flattened, batches)
    count, mean, cov = _moments(map(centred, rows) if kind == "zca_kip" else rows)
    scale = torch.ones_like(mean)
    if kind == "zca":
        cov = cov * (count / max(count - 1, 1))
    elif kind == "zca_frepo":
        scale = torch.tensor(std, dtype=cov.dtype).repeat_interleave(len(mean) // len(std))
        cov = cov / torch.outer(scale, scale)
    else:
        cov = cov + torch.outer(mean, mean)
    values, vectors = torch.linalg.eigh(cov)
    values = values.clamp_min(0)
    values = values + (REGULARISATION if kind == "zca" else REGULARISATION * values.mean())
    forward = (vectors * values**-0.5) @ vectors.T / scale[:, None]
    if kind == "zca_kip":
        return Whitening(torch.zeros(len(mean)), forward.float(), None)
    back = (vectors * values**0.5) @ vectors.T * scale
    return Whitening(mean.float(), forward.float(), back.float())


def _moments(batches: Iterable[Tensor]) -> tuple[int, Tensor, Tensor]:
    """Number of rows, their mean (d,) and covariance by 1 / N (d, d), in float64; products of a batch in float32.

    Everything is taken about the first batch's mean, so that nothing is lost in the difference at the end.
    """
    count, about, total, products = 0, None, torch.zeros(()), torch.zeros(())
    for rows in batches:
        about = rows.mean(0) if about is None else about
        near = rows - about
        count, total, products = count + len(rows), total + near.double().sum(0), products + (near.T @ near).double()
    assert about is not None
    mean = total / count
    return count, mean + about, products / count - torch.outer(mean, mean)

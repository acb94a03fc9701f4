"""Losses that several regimes share."""

from torch import Tensor
from torch.nn import functional as F

from ddlight.datasets.table import DatasetInfo
from ddlight.transforms.normalise import denormalise


def kl_divergence(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """KL(targets || softmax(logits / T)), mean over images, without the factor T**2 (as RDED and SRe2L).

    Args:
        logits: (B, K) of the student.
        targets: (B, K) probabilities, already softened.
        temperature: T.
    """
    return F.kl_div(F.log_softmax(logits.float() / temperature, dim=1), targets, reduction="batchmean")


def unit_images(images: Tensor, info: DatasetInfo) -> Tensor:
    """Images as a teacher takes them, in [0, 1], from images as the student takes them (B, C, H, W)."""
    return denormalise(images, info.mean, info.std)

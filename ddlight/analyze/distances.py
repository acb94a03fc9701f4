"""FID and KID of sets to real images, in the features of any network: torchmetrics computes, nothing is downloaded.

FID (arXiv 1706.08500, eq. 6) compares the Gaussians of two clouds of features. A cloud of n points has a covariance of
rank n - 1 at most, so that for a condensed set FID is dominated by n and the number of features: compare sets of the
same size, in the same features, and look at KID (arXiv 1801.01401, eq. 4), whose estimate is unbiased at any n.
Deviation: published FIDs are in features of TensorFlow's Inception, which torchmetrics would download; here they are in
those of whatever network is given, so that numbers compare only where the network is the same.
"""

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from ddlight.core.randomness import generator, torch_seeded

SUBSETS, SUBSET_SIZE = 100, 1000
"""Draws of KID, and images of each, as in arXiv 1801.01401; a smaller set is taken whole in every draw."""
KID_IMAGES = 10_000
"""Real images that KID draws from: a uniform sample where there are more, which would fill the memory."""


@dataclass(frozen=True)
class Distance:
    """How far a set is from the real images; numbers of fewer than two images are nan.

    KID is below 0 where the set is closer to the real images than a random draw of them is, as sets with the same
    number of images in each class are.
    """

    fid: float  # Fréchet distance, at least 0
    kid: float  # squared maximum mean discrepancy under the kernel (x.y / D + 1)^3, mean over draws
    kid_std: float  # its standard deviation over draws
    images: int  # of the set
    real: int  # real images that FID compares with


class PassThrough(nn.Identity):
    """A feature extractor for torchmetrics that is handed features: (n, D) in, (n, D) out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width


class Distances:
    """The real images' side, gathered once in D x D numbers and a sample, and any number of sets compared with it.

    Args:
        width: D, numbers of a feature vector.
        real: real images that will be added.
    """

    def __init__(self, width: int, real: int) -> None:
        self.fid = FrechetInceptionDistance(PassThrough(width), reset_real_features=False)
        self.sampled = torch.zeros(real, dtype=torch.bool)
        self.sampled[torch.from_numpy(generator(0, "kid sample").permutation(real)[:KID_IMAGES])] = True
        self.sample: list[Tensor] = []
        self.added = 0

    def add(self, features: Tensor) -> None:
        """Add features of the next real images, (n, D)."""
        features = features.double()
        self.fid.update(features, real=True)
        self.sample.append(features[self.sampled[self.added : self.added + len(features)]])
        self.added += len(features)

    def to(self, features: Tensor) -> Distance:
        """Compare a set's features (n, D) with all that were added."""
        features = features.double()
        if min(len(features), self.added) < 2:
            return Distance(math.nan, math.nan, math.nan, len(features), self.added)
        self.fid.reset()
        self.fid.update(features, real=False)
        mean, std = kid(torch.cat(self.sample), features)
        return Distance(max(0.0, float(self.fid.compute())), mean, std, len(features), self.added)


def kid(real: Tensor, features: Tensor) -> tuple[float, float]:
    """KID of features (n, D) to real ones (m, D), n and m at least 2: mean and std over seeded draws."""
    with warnings.catch_warnings(), torch_seeded(0):
        warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance`")
        size = min(SUBSET_SIZE, len(real), len(features))
        metric = KernelInceptionDistance(PassThrough(features.shape[1]), subsets=SUBSETS, subset_size=size)
        metric.update(real, real=True)
        metric.update(features, real=False)
        mean, std = metric.compute()
    return float(mean), float(std)

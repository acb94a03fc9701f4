"""CRAIG: images whose gradients are near to those of all others of their class."""

import numpy as np

from ddlight.methods.geometry.facility_location import facility_location
from ddlight.methods.geometry.selector import GeometrySelector
from ddlight.methods.scoring.features import Features
from ddlight.methods.scoring.vectors import Gradients


def craig(gradients: Gradients, count: int) -> np.ndarray:
    """Exact greedy maximum of F(S) = L({s0}) - L(S + {s0}), L(S) = sum over i of min over j in S of |g_i - g_j|.

    The auxiliary s0 is as far from every image as the two farthest are from each other, which makes F facility
    location on what each distance leaves of the largest. All are divided by that one, so that the order does not depend
    on how small the gradients of a trained network are.

    Returns positions, int64 (count,), of which a smaller count gives a prefix.
    """
    closeness = gradients.distances()
    closeness /= -max(closeness.max(), np.finfo(np.float64).tiny)
    closeness += 1
    return facility_location(closeness, count)


class CRAIG(GeometrySelector):
    """Images of each class such that every gradient of it is near to one of theirs.

    Paper: arXiv 1906.01827, Algorithm 1, on the last layer, within each class.
    Deviation: one subset from one trained network, as in DeepCore (arXiv 2204.08499); the paper selects anew during
    training. Gradients are those in weights and biases of the last layer, as there; the paper's bound takes those in
    its input.
    Deviation: the paper weighs each image by the number of those whose gradient it is nearest to. Sets have one weight
    for all, as those of every other method that they are compared with, so no weights are computed.
    """

    def order(self, images: Features, count: int, rng: np.random.Generator) -> np.ndarray:
        """Lazy greedy order. Raises UsageError where the class has too many images for their distances."""
        self.require_table(images)
        return craig(Gradients.of(images), count)

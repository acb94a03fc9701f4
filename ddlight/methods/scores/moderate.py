"""Moderate: images whose distance to the centre of their class is the median one."""

from typing import Any, Literal

import numpy as np

from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring import samplers
from ddlight.networks.teachers import Teacher

Centre = Literal["median", "mean"]


def distance_to_centre(points: np.ndarray, centre: Centre) -> np.ndarray:
    """Euclidean distance of each of one class's points (n, D) to their median in each dimension, or mean: (n,)."""
    wide = points.astype(np.float64)
    return np.linalg.norm(wide - (np.median(wide, 0) if centre == "median" else wide.mean(0)), axis=1)


def middle(difficulty: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """The `count` images around the median of the order, from the median outwards: int64 (count,).

    Where an odd number is left out, one more of the easy is; sets of even sizes nest, and so do those of odd sizes.
    """
    chosen = samplers.window(difficulty, count, (len(difficulty) - count) // 2, rng)
    return chosen[np.argsort(np.abs(np.arange(count) - (count - 1) / 2), kind="stable")]


class Moderate(ScoreSelector):
    """The images of each class that are neither near its centre nor far from it: those around the median distance.

    Paper: Xia et al., Moderate coreset, ICLR 2023.

    Deviation: the authors' code sorts all classes' distances together, which is balance "none" here, and takes
    features with BatchNorm in training mode, which mixes the images of a batch; here the network is in evaluation mode.

    Args:
        network: another network to take features from instead; then nothing is trained.
        centre: of a class: its "median" in each dimension, as the authors' code has it, or its "mean".
    """

    def __init__(self, *args: Any, network: Teacher | None = None, centre: Centre = "median", **kwargs: Any) -> None:
        super().__init__(*args, keep="hard", **kwargs)
        self.network, self.centre = network, centre

    def scores_of(self, rows: np.ndarray) -> np.ndarray:
        """Distance to the centre of the class: (n,)."""
        return self.features.scores(rows, lambda images: distance_to_centre(images.features, self.centre))

    def sample(self, rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Those around the median, from the median outwards."""
        return rows[middle(self.scores_of(rows), count, rng)]

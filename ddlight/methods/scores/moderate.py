"""Moderate: images whose distance to the centre of their class is the median one."""

from typing import Literal

import numpy as np

from ddlight.data.base import RealDataset
from ddlight.methods.scores.feature_scored import FeatureScoredSelector
from ddlight.methods.scoring import samplers
from ddlight.methods.scoring.features import Features
from ddlight.methods.scoring.run import Scoring
from ddlight.methods.scoring.samplers import Balance
from ddlight.networks.teachers import Teacher

Centre = Literal["median", "mean"]


def distance_to_centre(points: np.ndarray, centre: Centre) -> np.ndarray:
    """Euclidean distance of each of one class's points (n, D) to their median in each dimension, or mean: (n,)."""
    wide = points.astype(np.float64)
    return np.linalg.norm(wide - (np.median(wide, 0) if centre == "median" else wide.mean(0)), axis=1)


class Moderate(FeatureScoredSelector):
    """The images of each class that are neither near its centre nor far from it: those around the median distance.

    Paper: Xia et al., Moderate coreset, ICLR 2023.

    Deviation: the authors' code sorts all classes' distances together, which is balance "none" here, and takes
    features with BatchNorm in training mode, which mixes the images of a batch; here the network is in evaluation mode.

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of the scoring run, where that has none of its own, and of every draw.
        cache: folder of condensed sets.
        scoring: how the network is trained whose features are taken.
        balance: "ipc" takes exactly ipc images of each class; "proportional", "floor" (half of an even share for each
            class, the rest over all) and "none" take ipc x classes images in all.
        network: another network to take features from instead; then nothing is trained.
        centre: of a class: its "median" in each dimension, as the authors' code has it, or its "mean".
    """

    def __init__(
        self,
        dataset: RealDataset,
        ipc: int = 10,
        seed: int = 0,
        cache: str | None = None,
        scoring: Scoring = Scoring(),  # noqa: B008  frozen
        balance: Balance = "ipc",
        network: Teacher | None = None,
        centre: Centre = "median",
    ) -> None:
        super().__init__(dataset, ipc, seed, cache, scoring, balance, network=network)
        self.centre = centre

    def score(self, found: Features) -> np.ndarray:
        """Distance to the centre of the class: (n,)."""
        return distance_to_centre(found.features, self.centre)

    def sample(self, rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Those around the median, from the median outwards."""
        return rows[samplers.middle(self.scores_of(rows), count, rng)]

"""FeatureScoredSelector: what every coreset that scores images by their features shares."""

from abc import abstractmethod

import numpy as np

from ddlight.data.base import RealDataset
from ddlight.methods.scores.selector import Keep, RankedSelector
from ddlight.methods.scoring.features import Features, FeatureSource
from ddlight.methods.scoring.run import Scoring
from ddlight.methods.scoring.samplers import Balance
from ddlight.networks.teachers import Teacher


class FeatureScoredSelector(RankedSelector, FeatureSource):
    """Chooses by a score of each image's features: `score` gives it, class by class and only where it is asked for.

    Features are those of the images as they are, in evaluation mode: no crop is drawn, no batch is normalised.

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of the scoring run, where that has none of its own, and of every draw.
        cache: folder of condensed sets.
        scoring: how the network is trained whose features are taken.
        balance: "ipc" takes exactly ipc images of each class; "proportional", "floor" (half of an even share for each
            class, the rest over all) and "none" take ipc x classes images in all.
        keep: "hard" or "easy" end of the ranking.
        network: another network to take features from instead; then nothing is trained.
    """

    def __init__(
        self,
        dataset: RealDataset,
        ipc: int = 10,
        seed: int = 0,
        cache: str | None = None,
        scoring: Scoring = Scoring(),  # noqa: B008  frozen
        balance: Balance = "ipc",
        keep: Keep = "hard",
        network: Teacher | None = None,
    ) -> None:
        super().__init__(dataset, ipc, seed, cache, scoring, balance, keep)
        self.network = network
        self._of_class: dict[int, np.ndarray] = {}

    @abstractmethod
    def score(self, found: Features) -> np.ndarray:
        """Score of each image of one class, larger is harder: (n,)."""

    def scores_of(self, rows: np.ndarray) -> np.ndarray:
        """Scores of some training images; each class of theirs is looked at once, and no other."""
        labels, found = self.dataset.index("train").labels, np.empty(len(rows))
        for number in np.unique(labels[rows]).tolist():
            whole, mine = np.flatnonzero(labels == number), labels[rows] == number
            if number not in self._of_class:
                self._of_class[number] = self.score(self.finite_features(whole, number))
            found[mine] = self._of_class[number][np.searchsorted(whole, rows[mine])]
        return found

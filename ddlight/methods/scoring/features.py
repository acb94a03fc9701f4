"""FeatureSource: whoever looks at features of a network. FeatureSelector: what coresets by their geometry share."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ddlight.core.artefact import Unit
from ddlight.core.errors import DataError
from ddlight.data.base import RealDataset, Split
from ddlight.methods.scoring.run import Scoring, ScoringRun
from ddlight.methods.scoring.selector import ScoringSelector
from ddlight.networks.device import own_device
from ddlight.networks.teachers import RunTeacher, Teacher
from ddlight.views.loader import eval_batch


@dataclass(frozen=True)
class Features:
    """What a network says of some images as they are, in evaluation mode.

    Attributes:
        features: float32 (n, D), what enters its last layer.
        logits: float32 (n, C).
        labels: int64 (n,).
    """

    features: np.ndarray
    logits: np.ndarray
    labels: np.ndarray


class FeatureSource(ScoringSelector):
    """A selector that looks at features of a network trained on the full data, or of any other.

    `network` is that other one; where it is None, the scoring run's is taken.
    """

    network: Teacher | None

    @abstractmethod
    def select(self, unit: Unit, candidates: np.ndarray) -> np.ndarray:
        """Choose from one class, by `finite_features` of its images."""

    @property
    def scoring_runs(self) -> list[ScoringRun]:
        """The scoring run, unless another network is given."""
        return [] if self.network is not None else [self.run]

    @cached_property
    def teacher(self) -> Teacher:
        """The network whose features are taken, loaded."""
        return self._load([self.network or RunTeacher(str(self.run.folder))])[0]

    @property
    def all_teachers(self) -> list[Teacher]:
        """The other network, where one is given."""
        return [] if self.network is None else [self.network]

    def finite_features(self, rows: np.ndarray, number: int, split: Split = "train") -> Features:
        """Features and logits of a split's images of class `number`. Raises DataError where some are not finite."""
        found = self.features(rows, split)
        if not (np.isfinite(found.features).all() and np.isfinite(found.logits).all()):
            name = self.dataset.info.classes[number]
            raise DataError(
                f"Features or logits of class '{name}' hold numbers that are not finite: "
                "the network that gives them did not train. Lower its learning rate, or give another --data.network."
            )
        return found

    def features(self, rows: np.ndarray, split: Split = "train") -> Features:
        """Features and logits of images of a split, by their positions in it."""
        parts = [self._answer(part, split) for part in _parts(rows, eval_batch(self.dataset.info))]
        features, logits = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
        return Features(features, logits, self.dataset.index(split).labels[rows])

    def _answer(self, rows: np.ndarray, split: Split) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(self.dataset.take(split, rows)).to(own_device()).float() / 255
        features, logits = self.teacher.features(images)
        return features.cpu(), logits.cpu()


class FeatureSelector(FeatureSource):
    """Chooses by features of a network trained on the full data, or of any other; class by class, in bounded memory.

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of the scoring run, where that has none of its own, and of every draw.
        cache: folder of condensed sets.
        scoring: how the network is trained whose features are taken.
        network: another network to take features from instead; then nothing is trained.
    """

    def __init__(
        self,
        dataset: RealDataset,
        ipc: int = 10,
        seed: int = 0,
        cache: str | None = None,
        scoring: Scoring = Scoring(),  # noqa: B008  frozen
        network: Teacher | None = None,
    ) -> None:
        super().__init__(dataset, ipc, seed, cache)
        self.scoring, self.network = scoring, network

    @abstractmethod
    def pick(self, found: Features, count: int, unit: Unit) -> np.ndarray:
        """Choose `count` of the unit's images: distinct positions in `found`, int64 (count,), best first."""

    def select(self, unit: Unit, candidates: np.ndarray) -> np.ndarray:
        """Choose ipc of one class's images by their features."""
        return candidates[self.pick(self.finite_features(candidates, unit.classes[0]), self.ipc, unit)]


def _parts(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (rows[start : start + size] for start in range(0, len(rows), size))

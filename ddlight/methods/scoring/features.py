"""Features: what a network says of images as they are, class by class and in bounded memory."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ddlight.core.errors import DataError
from ddlight.data.base import RealDataset, Split
from ddlight.networks.device import current_device
from ddlight.networks.teachers import Teacher
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


class FeatureSource:
    """Features of a dataset's images: no crop is drawn, and no batch is normalised by its own numbers.

    Args:
        dataset: the real dataset.
        network: whose features are taken; it is loaded when they are first asked for.
    """

    def __init__(self, dataset: RealDataset, network: Teacher) -> None:
        self.dataset, self.network = dataset, network
        self._scores: dict[int, np.ndarray] = {}

    @cached_property
    def teacher(self) -> Teacher:
        """The network, loaded."""
        self.network.load(self.dataset.num_classes, self.dataset.info.channels, self.dataset.info.size)
        return self.network

    def of(self, rows: np.ndarray, split: Split = "train") -> Features:
        """Features and logits of images of a split, by their positions in it."""
        size = eval_batch(self.dataset.info)
        answers = []
        for part in (rows[start : start + size] for start in range(0, len(rows), size)):
            images = torch.from_numpy(self.dataset.take(split, part)).to(current_device()).float() / 255
            answers.append([answer.cpu() for answer in self.teacher.features(images)])
        features, logits = (torch.cat(part).numpy() for part in zip(*answers, strict=True))
        return Features(features, logits, self.dataset.index(split).labels[rows])

    def of_class(self, rows: np.ndarray, number: int, split: Split = "train") -> Features:
        """Those of images of class `number`. Raises DataError where some are not finite."""
        images = self.of(rows, split)
        if not (np.isfinite(images.features).all() and np.isfinite(images.logits).all()):
            name = self.dataset.info.classes[number]
            raise DataError(
                f"Features or logits of class '{name}' hold numbers that are not finite: "
                "the network that gives them did not train. Lower its learning rate, or give another --data.network."
            )
        return images

    def scores(self, rows: np.ndarray, score: Callable[[Features], np.ndarray]) -> np.ndarray:
        """Scores of some training images: (len(rows),). Each class of theirs is looked at once, and no other.

        Args:
            rows: their positions.
            score: gives (n,) of one class's images; one function for all calls.
        """
        labels, scores = self.dataset.index("train").labels, np.empty(len(rows))
        for number in np.unique(labels[rows]).tolist():
            whole, mine = np.flatnonzero(labels == number), labels[rows] == number
            if number not in self._scores:
                self._scores[number] = score(self.of_class(whole, number))
            scores[mine] = self._scores[number][np.searchsorted(whole, rows[mine])]
        return scores

"""GraNd: images whose loss has the largest gradient in the last layer."""

from typing import Any

import numpy as np

from ddlight.core.errors import UsageError
from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring.vectors import output_gradients
from ddlight.networks.teachers import Teacher


def grand(features: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Length of the cross-entropy's gradient in weights and biases of the last layer, |softmax - one-hot| |[h, 1]|.

    It is of each image's own loss: no mean over a batch, and so no batch size, is in it.

    Args:
        features: (n, D), the layer's input h.
        logits: (n, C), its output.
        labels: int64 (n,).

    Returns:
        float64 (n,).
    """
    squares = np.square(features.astype(np.float64)).sum(1)
    return np.linalg.norm(output_gradients(logits, labels), axis=1) * np.sqrt(1 + squares)


class GraNd(ScoreSelector):
    """The hardest (or easiest) images of each class by the length of their gradient in the last layer.

    Paper: arXiv 2107.07075; in the last layer alone, at the end of the scoring run, as DeepCore (arXiv 2204.08499).
    Deviation: the paper takes the gradient in all weights, early in training, and averages ten networks; a short
    `scoring.budget` reads it early. At initialisation, where it was published first and did not reproduce (arXiv
    2303.14753), it is refused. DeepCore's gradients of a short last batch are too long by batch / its size: not here.

    Args:
        network: another network to take features from instead; then nothing is trained.
    """

    def __init__(self, *args: Any, network: Teacher | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.network = network

    def prepare(self) -> None:
        """Refuse a scoring run of less than a pass, whose network is near its initialisation. Raises UsageError."""
        if self.network is None and self.run.passes < 1:
            raise UsageError(
                f"GraNd needs a network that has seen every image once; the scoring run sees {self.run.images:,} of "
                f"{self.dataset.info.train:,}. Give it at least --data.scoring.budget.epochs=1."
            )
        super().prepare()

    def scores_of(self, rows: np.ndarray) -> np.ndarray:
        """GraNd: (n,)."""
        return self.features.scores(rows, lambda images: grand(images.features, images.logits, images.labels))

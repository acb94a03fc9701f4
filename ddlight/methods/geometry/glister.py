"""GLISTER: images whose gradient step lowers the loss on held-out images most."""

import logging
from typing import Any, ClassVar

import numpy as np

from ddlight.core.errors import UsageError
from ddlight.methods.geometry.selector import GeometrySelector
from ddlight.methods.scoring.features import Features
from ddlight.methods.scoring.vectors import TIE, Gradients, largest

log = logging.getLogger("ddlight")


def glister(images: Features, validation: Features, count: int, eta: float | None) -> np.ndarray:
    """Greedy order by the first-order gain in validation loss of one more gradient step, from where the last one led.

    The gain of i is eta <G, g_i>, with G the mean gradient of the validation images. After each pick j the last layer
    is moved by -eta g_j, which moves the logits of validation image v by -eta <[h_v, 1], [h_j, 1]> d_j, and G is
    computed anew.

    Args:
        images: what the network says of those to choose from, n.
        validation: what it says of the images whose loss counts.
        count: at most n; filled up where gains are negative.
        eta: length of the step; None takes 1 / mean |[h, 1]|^2 of the images.

    Returns:
        int64 (count,): positions; a smaller count gives a prefix.
    """
    gradients, logits, order = Gradients.of(images), validation.logits.astype(np.float64), list[int]()
    eta = 1 / float(np.square(gradients.right).sum(1).mean()) if eta is None else eta
    longest, free = np.sqrt(gradients.squares().max()), np.ones(len(images.labels), bool)
    for _ in range(count):
        ahead = Gradients.of(Features(validation.features, logits, validation.labels))
        towards = ahead.mean()
        gains = np.where(free, gradients.along(towards), -np.inf)
        order.append(largest(gains, TIE * longest * float(np.linalg.norm(towards))))
        free[order[-1]] = False
        logits -= eta * np.outer(ahead.right @ gradients.right[order[-1]], gradients.left[order[-1]])
    return np.array(order, np.int64)


class GLISTER(GeometrySelector):
    """Images of each class on which a step of training lowers the loss on held-out images of the class most.

    Paper: arXiv 2012.10630, GreedyDSS with the Taylor approximation, on the last layer, within each class.
    The held-out images are those that the dataset keeps back (--data.dataset.held_out). Where it keeps none, the
    class's own training images take their place, as in DeepCore (arXiv 2204.08499), and the manifest says so.
    Deviation: one subset from one trained network; the paper selects anew during training.

    Args:
        eta: length of the step that is taken for each pick; the learning rate in the paper. null takes 1 / the mean
            squared length of [h, 1] over the class's images, so that a pick moves the logits of an image like it by its
            own gradient in them, whatever the size of the features h. With 0.1 and features of a trained network the
            validation loss is 0 after a few picks, and rounding chooses the rest. With 0 the validation gradient is
            never updated, as by mistake in DeepCore's code.
    """

    recipe_version: ClassVar[int] = 2

    def __init__(self, *args: Any, eta: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if eta is not None and not 0 <= eta < float("inf"):
            raise UsageError(f"eta is {eta}; allowed: 0 or more, and finite.")
        self.eta = eta

    @property
    def selected_on(self) -> str:  # type: ignore[override]
        """Held-out data, where the dataset has any."""
        return "held_out" if len(self.dataset.index("held_out")) else "none"

    def prepare(self) -> None:
        """As any selector's; say so where nothing is held out."""
        super().prepare()
        if self.selected_on == "none":
            log.info(
                "%s holds nothing out: GLISTER takes training images for validation (--data.dataset.held_out=N "
                "keeps N per class back)",
                self.dataset.info.name,
            )

    def facts(self) -> dict[str, Any]:
        """Which split the validation loss is of."""
        return {**super().facts(), "validation": "train" if self.selected_on == "none" else "held_out"}

    def order(self, images: Features, count: int, rng: np.random.Generator) -> np.ndarray:
        """Greedy order."""
        return glister(images, self.validation(images), count, self.eta)

    def validation(self, images: Features) -> Features:
        """What the network says of the class's held-out images; of its training images where there are none."""
        rows = np.flatnonzero(self.dataset.index("held_out").labels == images.labels[0])
        if len(rows) == 0:
            return images
        return self.features.of_class(rows, int(images.labels[0]), "held_out")

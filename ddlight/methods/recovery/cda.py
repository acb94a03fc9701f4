"""CDA: SRe2L with a curriculum of crops, from whole images to small parts of them.

The smallest crop falls from the whole image to 8 % of its area over the first M T of T iterations:

    s_min(t) = 0.08 + 0.92 (1 + cos(pi t / (M T))) / 2 for t < M T, and 0.08 after

so that images get their global shape first and their details last.
"""

from typing import Any, Literal

import numpy as np

from ddlight.core.errors import UsageError
from ddlight.methods.recovery.engine import STARTS, Init, RecoveredSynthesiser, Recovery, Teachers
from ddlight.methods.scoring.run import Scoring
from ddlight.networks.teachers import Teacher

Mode = Literal["cosine", "linear", "step"]


def smallest_crop(x: np.ndarray, mode: Mode, last: float) -> np.ndarray:
    """s_min at progress x >= 0 of the curriculum, which ends at 1: from 1 to `last`, fractions of the image's area."""
    begun = {"cosine": (1 + np.cos(np.pi * x)) / 2, "linear": 1 - x, "step": np.ones_like(x)}[mode]
    return np.where(x < 1, np.minimum(last + (1 - last) * begun, 1.0), last)


class CDA(RecoveredSynthesiser):
    """SRe2L whose crops shrink while it recovers, from whole images to small parts.

    Paper: arXiv 2311.18838; numbers from its code (github.com/VILA-Lab/SRe2L, CDA), images up to 64 pixels as its
    Tiny-ImageNet script has them. That code leaves the curriculum out unless it is given a milestone.

    Args:
        teacher: a trained network with BatchNorm layers; null takes torchvision's ResNet-18 (IMAGENET1K_V1) for
            ImageNet-1K and trains one on any other dataset.
        squeeze: how the teacher is trained where none is given; a null student takes a ResNet-18.
        init: images begin as noise, as published, or as random real ones.
        mode: how crops shrink to `recovery.min_crop`: cosine, linear, or step (whole images until the milestone).
        milestone: M, the fraction of the iterations that the curriculum takes, above 0 and at most 1.
    """

    def __init__(
        self,
        *args: Any,
        teacher: Teacher | None = None,
        squeeze: Scoring = Scoring(clean=0),
        init: Init = "noise",
        mode: Mode = "cosine",
        milestone: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if not 0 < milestone <= 1:
            raise UsageError(f"milestone is {milestone}; allowed: above 0, at most 1. SRe2L has no curriculum.")
        self.teacher, self.squeeze, self.init, self.mode, self.milestone = teacher, squeeze, init, mode, milestone
        self.networks, self.start = Teachers(self, [teacher], [squeeze]), STARTS[init](self)

    def published(self) -> Recovery:
        """4,000 iterations; Tiny-ImageNet's numbers for small images."""
        if self.dataset.info.size <= 64:
            return Recovery(4000, lr=0.4, stat_weight=0.05, roll=4)
        return Recovery(4000, lr=0.25)

    def crop_floors(self) -> np.ndarray | None:
        """s_min(t)."""
        numbers = self.numbers
        x = np.arange(numbers.iterations) / (self.milestone * numbers.iterations)
        return smallest_crop(x, self.mode, numbers.min_crop) if numbers.min_crop else None

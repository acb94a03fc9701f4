"""PatchedSynthesiser: what recovered methods share whose images begin as patches of real ones."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ddlight.core.artefact import Unit
from ddlight.data.base import RealDataset
from ddlight.methods.patches.real_patches import Difficulty, RealPatches
from ddlight.methods.recovery.engine.options import Recovery, RecoveryOverride
from ddlight.methods.recovery.engine.recovered import Init, RecoveredSynthesiser
from ddlight.methods.scoring.run import Scoring
from ddlight.networks.teachers import Teacher

Start = Difficulty | Literal["whole"]


class PatchedSynthesiser(RecoveredSynthesiser):
    """Recovers images that begin as a set of `RealPatches`, or as whole real images.

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of every draw.
        cache: folder of condensed sets.
        teachers: networks that were trained before; the first of them scores the patches.
        squeezes: how teachers are trained where none are given.
        recovery: numbers that replace the published ones.
        patches: difficulty of the patches; "whole" takes random whole images.
    """

    tiny: ClassVar[dict[str, Any]] = {**RecoveredSynthesiser.tiny, "patches": "whole"}
    init: Init = "real"
    view_area: float = 1.0
    """Mean area of the views over the iterations, as a fraction of the images'."""

    def __init__(
        self,
        dataset: RealDataset,
        ipc: int,
        seed: int,
        cache: str | None,
        teachers: Sequence[Teacher],
        squeezes: Sequence[Scoring],
        recovery: RecoveryOverride,
        patches: Start,
    ) -> None:
        super().__init__(dataset, ipc, seed, cache, teachers, squeezes, recovery)
        self.patches = patches

    @abstractmethod
    def published(self) -> Recovery:
        """The paper's numbers for this dataset and ipc."""

    def patch_set(self, teacher: Teacher | None) -> RealPatches | None:
        """The set of patches that images begin with, scored by a teacher; None where they begin as whole images."""
        if self.patches == "whole":
            return None
        return RealPatches(self.dataset, self.ipc, self.seed, self.cache, teacher, self.patches)

    def prepare(self) -> None:
        """Train the teachers that are missing, try all of them, and make the patches."""
        super().prepare()
        if patches := self.patch_set(self.loaded_teachers[0]):
            patches.condense()

    @cached_property
    def _begun(self) -> Any:
        """Images of the set of patches, class by class."""
        patches = self.patch_set(self.loaded_teachers[0])
        if patches is None:
            return None
        patches.condense()
        return patches.read().images

    def initial(self, block: Unit) -> Tensor:
        """Patches of a block, or whole real images, normalised float32 (B, C, S, S)."""
        if self._begun is None:
            return super().initial(block)
        rows = np.array([c * self.ipc + k for c in block.classes for k in block.images])
        chosen = self._begun[rows if isinstance(self._begun, np.ndarray) else torch.from_numpy(rows)]
        return self.pixels.enter(np.asarray(chosen), self.device)

    def _operations(self) -> float:
        """Floating-point operations of the recovery and of the patches' scores."""
        patches = self.patch_set(None)
        scores = patches.scored_crops * self._forwards()[0] if patches else 0.0
        return self.view_area * super()._operations() + scores

    def facts(self) -> dict[str, Any]:
        """Numbers, teachers, cost, and the patches that the images began with."""
        patches = self.patch_set(self.loaded_teachers[0])
        return {**super().facts(), "patch_set": patches.fingerprint if patches else None}

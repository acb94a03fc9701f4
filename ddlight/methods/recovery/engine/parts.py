"""What a recovery has besides teachers and numbers: where its images begin, and statistics of the real images."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from ddlight.core.errors import UsageError
from ddlight.core.files import cache_folder
from ddlight.core.randomness import generator
from ddlight.methods.base import Synthesiser, require_images
from ddlight.methods.patches.rded import PatchSynthesiser
from ddlight.methods.patches.real_patches import Difficulty, RealPatches
from ddlight.methods.recovery.engine.gathered import RealStatistics
from ddlight.methods.recovery.engine.teachers import Teachers, photographs

Init = Literal["noise", "real"]
Patches: TypeAlias = Difficulty | Literal["whole"]


class Part:
    """A part of the set `data`: checked first, made before the first block, and counted."""

    def __init__(self, data: Synthesiser) -> None:
        self.data = data

    def check(self) -> None:
        """Look at the arguments before anything costly begins. Raises UsageError."""

    def make(self) -> None:
        """Make what all blocks need; the teachers are loaded."""

    def operations(self, forwards: Sequence[float]) -> float:
        """Floating-point operations that it takes, from those of a pass through each teacher."""
        return 0.0

    def facts(self) -> dict[str, Any]:
        """What it adds to the manifest."""
        return {}


class Start(Part):
    """Where images begin; as such, noise of N(0, 1), drawn for each block."""

    sources: int = 0
    """Real images that go into one."""

    def __call__(self, number: int, places: np.ndarray) -> np.ndarray:
        """First images of block `number`: (B, C, S, S), uint8, or float32 that is normalised already.

        Args:
            number: of the block.
            places: int64 (B,): of its images in the set; image k of class c has place c ipc + k.
        """
        info, rng = self.data.dataset.info, generator(self.data.seed, "recovery noise", number)
        return rng.standard_normal((len(places), info.channels, info.size, info.size), np.float32)


class RealImages(Start):
    """Real images: image k of a class is the k-th of the class's own random order."""

    sources = 1

    def check(self) -> None:
        """Raise UsageError where a class has fewer images than ipc."""
        require_images(self.data.dataset, self.data.ipc)

    def rows(self, places: np.ndarray) -> np.ndarray:
        """Positions of the images in the training split: int64 (B,)."""
        labels, ipc, seed = self.data.dataset.index("train").labels, self.data.ipc, self.data.seed
        classes = np.unique(places // ipc).tolist()
        orders = {c: generator(seed, "recovery real", c).permutation(np.flatnonzero(labels == c)) for c in classes}
        return np.array([orders[place // ipc][place % ipc] for place in places.tolist()])

    def __call__(self, number: int, places: np.ndarray) -> np.ndarray:
        """The images, uint8."""
        return self.data.dataset.take("train", self.rows(places))


STARTS: dict[Init, type[Start]] = {"noise": Start, "real": RealImages}


class PatchImages(RealImages):
    """Images of a set of patches that the first teacher scores, as a rule of `RealPatches`; or whole real images.

    Args:
        data: the set that begins with them.
        teachers: of that set.
        kind: difficulty of the patches; "whole" takes whole images.
    """

    fact = "patch_set"
    """What the manifest calls the set of patches."""

    def __init__(self, data: Synthesiser, teachers: Teachers, kind: str) -> None:
        super().__init__(data)
        self.teachers, self.kind = teachers, kind

    def options(self) -> tuple[type[PatchSynthesiser], dict[str, Any]] | None:
        """Method and options of the set of patches; None where there is none."""
        return None if self.kind == "whole" else (RealPatches, {"difficulty": self.kind})

    @cached_property
    def patches(self) -> PatchSynthesiser | None:
        """The set of patches, in which images lie class after class as they do in `data`."""
        if (chosen := self.options()) is None:
            return None
        data, (method, options) = self.data, chosen
        return method(data.dataset, data.ipc, data.seed, data.cache, teacher=self.teachers.all[0], **options)

    def make(self) -> None:
        """Make the patches."""
        if self.patches:
            self.patches.condense()

    @cached_property
    def _images(self) -> Any:
        assert self.patches is not None
        images = self.patches.read().images
        return torch.from_numpy(images) if isinstance(images, np.ndarray) else images

    def taken(self, rows: np.ndarray) -> np.ndarray:
        """Images of the set of patches, or of the training split, by their positions: uint8 (n, C, S, S)."""
        if self.patches is None:
            return self.data.dataset.take("train", rows)
        return self._images[torch.from_numpy(rows)].numpy()

    def __call__(self, number: int, places: np.ndarray) -> np.ndarray:
        """The patches or whole images, uint8."""
        return self.taken(places if self.patches else self.rows(places))

    def operations(self, forwards: Sequence[float]) -> float:
        """Those of the patches' scores."""
        return self.patches.scored_crops * forwards[0] if self.patches else 0.0

    def facts(self) -> dict[str, Any]:
        """The patches that images began with."""
        return {self.fact: self.patches.fingerprint if self.patches else None}


class GatheredStatistics(Part):
    """What the real images give in the layers of each of G-VBSM's and EDC's teachers, gathered before the first block.

    Args:
        data: the set that is matched with them.
        momentum: of the running means of statistics; None where the published one is taken.
    """

    def __init__(self, data: Synthesiser, momentum: float | None) -> None:
        super().__init__(data)
        if momentum is not None and not 0 <= momentum < 1:
            raise UsageError(f"momentum is {momentum}; allowed: 0 (the images at hand alone) or more, below 1.")

    @property
    def patch(self) -> int:
        """Side of a patch in pixels of a layer's maps: 16 for photographs and 4 for small images, as in the codes."""
        return 16 if photographs(self.data.dataset) else 4

    @cached_property
    def real(self) -> list[RealStatistics]:
        """Of each teacher."""
        data, cache = self.data, cache_folder(self.data.cache)
        return [RealStatistics(teacher, data.dataset, cache, self.patch) for teacher in data.loaded_teachers]

    def make(self) -> None:
        """Pass over the training split with each teacher whose statistics are missing."""
        for real in self.real:
            real.ensure()

    def operations(self, forwards: Sequence[float]) -> float:
        """One pass of each teacher over the real images."""
        return self.data.dataset.info.train * sum(forwards)

    def facts(self) -> dict[str, Any]:
        """The statistics that were matched."""
        return {"statistics": [real.fingerprint for real in self.real]}

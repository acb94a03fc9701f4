"""What a recovery has besides teachers and numbers: where its images begin, and statistics of the real images."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal

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
Patches = Difficulty | Literal["whole"]


class Part:
    """What a recovery has besides teachers and numbers: checked first, made before the first block, and counted.

    Args:
        data: the set that it is a part of.
    """

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
    """Where images begin."""

    sources: int = 0
    """Real images that go into one."""

    def __call__(self, number: int, places: np.ndarray) -> np.ndarray:
        """First images of block `number`: (B, C, S, S), uint8, or float32 that is normalised already.

        Args:
            number: of the block.
            places: int64 (B,): of its images in the set; image k of class c has place c ipc + k.
        """
        raise NotImplementedError


class Noise(Start):
    """Noise of N(0, 1), drawn for each block."""

    def __call__(self, number: int, places: np.ndarray) -> np.ndarray:
        """Normalised float32 noise."""
        info, rng = self.data.dataset.info, generator(self.data.seed, "recovery noise", number)
        return rng.standard_normal((len(places), info.channels, info.size, info.size), np.float32)


class RealImages(Start):
    """Real images in the random order of `real_rows`."""

    sources = 1

    def check(self) -> None:
        """Raise UsageError where a class has fewer images than ipc."""
        require_images(self.data.dataset, self.data.ipc)

    def __call__(self, number: int, places: np.ndarray) -> np.ndarray:
        """The images, uint8."""
        return self.data.dataset.take("train", real_rows(self.data, places))


def real_rows(data: Synthesiser, places: np.ndarray) -> np.ndarray:
    """Positions of real images in the training split: image k of a class is the k-th of the class's own random order.

    Args:
        data: the set that begins with them.
        places: int64 (B,): of the images in that set; image k of class c has place c ipc + k.
    """
    labels = data.dataset.index("train").labels
    orders = {
        c: generator(data.seed, "recovery real", c).permutation(np.flatnonzero(labels == c))
        for c in np.unique(places // data.ipc).tolist()
    }
    return np.array([orders[place // data.ipc][place % data.ipc] for place in places.tolist()])


STARTS: dict[Init, type[Start]] = {"noise": Noise, "real": RealImages}


class FromPatches(Start):
    """Images of a set of patches that the first teacher scores, or real images.

    Args:
        data: the set that begins with them.
        build: gives the set of patches, once the teachers are known; None where images begin as real ones.
        fact: what the manifest calls the set.
    """

    def __init__(self, data: Synthesiser, build: Callable[[], PatchSynthesiser | None], fact: str) -> None:
        super().__init__(data)
        self.build, self.fact = build, fact

    @cached_property
    def patches(self) -> PatchSynthesiser | None:
        """The set of patches, in which images lie class after class as they do in `data`."""
        return self.build()

    @property
    def sources(self) -> int:  # type: ignore[override]
        """As many as an image has patches."""
        return self.patches.tile_factor**2 if self.patches else 1

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

    def operations(self, forwards: Sequence[float]) -> float:
        """Those of the patches' scores."""
        return self.patches.scored_crops * forwards[0] if self.patches else 0.0

    def facts(self) -> dict[str, Any]:
        """The patches that images began with."""
        return {self.fact: self.patches.fingerprint if self.patches else None}


class PatchImages(FromPatches):
    """A set of `RealPatches`, or whole real images.

    Args:
        data: the set that begins with them.
        teachers: of that set.
        difficulty: of the patches; "whole" takes whole images.
    """

    def __init__(self, data: Synthesiser, teachers: Teachers, difficulty: Patches) -> None:
        def build() -> RealPatches | None:
            if difficulty == "whole":
                return None
            first = teachers.all[0]
            return RealPatches(data.dataset, data.ipc, data.seed, data.cache, teacher=first, difficulty=difficulty)

        super().__init__(data, build, "patch_set")

    def check(self) -> None:
        """Raise UsageError where a class has fewer images than ipc."""
        require_images(self.data.dataset, self.data.ipc)

    def __call__(self, number: int, places: np.ndarray) -> np.ndarray:
        """The patches or whole images, uint8."""
        return self.taken(places if self.patches else real_rows(self.data, places))


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

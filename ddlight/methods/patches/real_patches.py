"""Real patches: one random crop of a real image for each image of the set, easy, of medium difficulty, or hard.

What SRe2L++ and FADRM begin with. For every class, RDED's patches of factor 1: from each of 300 random images the crop
of lowest l(x) = CE(teacher(x), y); these in ascending order of l are

    easy      taken from the first, as RDED takes them
    medium    taken from the middle outwards
    hard      taken from the last
"""

from typing import Literal

import numpy as np

from ddlight.data.base import RealDataset
from ddlight.methods.patches.rded import RDED, Patches, PoolSize
from ddlight.networks.teachers import Teacher

Difficulty = Literal["easy", "medium", "hard"]


class RealPatches(RDED):
    """One patch of a real image for each image, easy, medium or hard as one teacher sees it.

    Paper: arXiv 2501.07575 and arXiv 2506.24125 begin with patches that their codes call easy, medium and hard and do
    not make: they come as a download, laid out as RDED's sets are. That they are RDED's patches of factor 1 by rank of
    their loss is a guess, and so is each of the three ranks.

    Args:
        dataset: the real dataset; crops are cut from its whole pictures where it consists of files.
        ipc: images per class; while the pool stays the same, a smaller set is a prefix of a larger one.
        seed: of the pool and the crops.
        cache: folder of condensed sets.
        teacher: scores the patches; it must know the dataset's classes, in its order.
        difficulty: easy, medium or hard.
        crops: random crops of each image.
        crop_scale: area of a crop, as a fraction of its image's.
        pool_size: images of each class that crops are taken from, as in RDED.
    """

    def __init__(
        self,
        dataset: RealDataset,
        ipc: int = 10,
        seed: int = 0,
        cache: str | None = None,
        teacher: Teacher | None = None,
        difficulty: Difficulty = "medium",
        crops: int = 5,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        pool_size: PoolSize = "rded",
    ) -> None:
        super().__init__(dataset, ipc, seed, cache, teacher, 1, crops, crop_scale, pool_size)
        self.difficulty = difficulty

    def rank(self, best: Patches, pool: np.ndarray) -> np.ndarray:
        """Order the patches: positions in `best`."""
        ascending = super().rank(best, pool)
        if self.difficulty == "medium":
            middle = (len(ascending) - 1) / 2
            return ascending[np.argsort(np.abs(np.arange(len(ascending)) - middle), kind="stable")]
        return ascending if self.difficulty == "easy" else ascending[::-1]

"""Real patches: one random crop of a real image for each image of the set, easy, of medium difficulty, or hard.

What SRe2L++ and FADRM begin with. For every class, RDED's patches of factor 1: from each of 300 random images the crop
of lowest l(x) = CE(teacher(x), y); these in ascending order of l are

    easy      taken from the first, as RDED takes them
    medium    taken from the middle outwards
    hard      taken from the last
"""

from typing import Any, Literal

import numpy as np

from ddlight.methods.patches.rded import BestCrops, PatchSynthesiser

Difficulty = Literal["easy", "medium", "hard"]


class RealPatches(PatchSynthesiser):
    """One patch of a real image for each image, easy, medium or hard as one teacher sees it.

    Paper: arXiv 2501.07575 and arXiv 2506.24125 begin with patches that their codes call easy, medium and hard and do
    not make: they come as a download, laid out as RDED's sets are. That they are RDED's patches of factor 1 by rank of
    their loss is a guess, and so is each of the three ranks.
    While the pool stays the same, a smaller set is a prefix of a larger one.

    Args:
        difficulty: easy, medium or hard.
    """

    def __init__(self, *args: Any, difficulty: Difficulty = "medium", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.difficulty = difficulty

    def rank(self, best: BestCrops, pool: np.ndarray) -> np.ndarray:
        """Order the patches by difficulty."""
        ascending = np.argsort(best.losses, kind="stable")
        if self.difficulty == "medium":
            middle = (len(ascending) - 1) / 2
            return ascending[np.argsort(np.abs(np.arange(len(ascending)) - middle), kind="stable")]
        return ascending if self.difficulty == "easy" else ascending[::-1]

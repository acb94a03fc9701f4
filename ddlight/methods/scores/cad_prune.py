"""CAD-Prune: images that are still being learned at the end of a run as long as the student's own.

The scoring network is trained for the student's compute: K |D| = E ipc C images. With S_k(x) the score of image x at
reading k,

    U_k(x) = std of S_k ... S_(k+J-1)  (ddof 1)        CAD(x) = mean of U_k over k = K-J-W ... K-J-1

and the ipc images of each class with the largest CAD are kept.
"""

from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from ddlight.core.errors import UsageError
from ddlight.methods.scores.dyn_unc import window_std
from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring import samplers
from ddlight.methods.scoring.cost import TINY_SCORING
from ddlight.methods.scoring.run import Scoring
from ddlight.methods.scoring.table import ScoreTable
from ddlight.recipes.budget import Budget, images_seen
from ddlight.recipes.plan import Setting
from ddlight.recipes.table import resolve

CadScore = Literal["el2n", "prob_true"]


def cad(history: np.ndarray, window: int, last: int, include_last: bool = False) -> np.ndarray:
    """CAD: mean of the last W windows' standard deviations, the K-th reading not used, as in Dyn-Unc's code: (N,).

    Args:
        history: (K, N): the score of each image at K readings.
        window: J.
        last: W.
        include_last: shift the windows by one, so that the last reading is used.

    Raises:
        UsageError: K is less than J + W.
    """
    spreads = window_std(history if include_last else history[:-1], window)
    if not 1 <= last <= len(spreads):
        raise UsageError(
            f"J = {window} and W = {last} need {window + last + (not include_last) - 1} readings; there are "
            f"{len(history)}."
        )
    return np.asarray(spreads[-last:].mean(0))


class CADPrune(ScoreSelector):
    """The images of each class whose score moves most over the last readings of a compute-matched run.

    Paper: arXiv 2604.18811, Equations 1 and 2.
    What the paper leaves open are options: which score S is, how K readings follow from the budget, how J follows from
    K, and that the largest values are kept (inherited from Dyn-Unc, arXiv 2306.05175).

    Args:
        scoring: the scoring network, which should be the student, and its recipe; its length and number of clean passes
            follow from `budget` and `k_mode`.
        budget: the student's length, in epochs, steps or images of the condensed set or in full_epochs; null takes that
            of `scoring.protocol`.
        score: S: "el2n" or "prob_true", of the images as they are.
        k_mode: "ticks": J + W + 1 readings (or `k`) equally spaced over the run, one more than the indices need;
            "exact": K = one reading per full epoch of the run, at least 3, J and W shrunk to fit; "floor": the same,
            the run lengthened to J + W epochs where it is shorter; "fixed": `k` full epochs whatever the budget.
        k: "ticks": readings, null for J + W + 1; "fixed": K.
        j_mode: "paper" takes J as given; "span" makes it K - W, so that the windows reach back to the beginning.
        j: J, readings in a window.
        w: W, windows that are averaged.
        exclude_top: share of a class with the largest CAD that is passed over, a guard against wrong labels.
        include_last_epoch: use the last reading too, which the paper's indices leave out.
    """

    recipe_version: ClassVar[int] = 2
    tiny: ClassVar[dict[str, Any]] = {
        "scoring": TINY_SCORING,
        "budget": {"steps": None, "epochs": None, "images": None, "full_epochs": 2},
        "j": 2,
        "w": 2,
    }

    def __init__(
        self,
        *args: Any,
        scoring: Scoring = Scoring(protocol="ht_small_hard"),
        budget: Budget | None = None,
        score: CadScore = "el2n",
        k_mode: Literal["ticks", "exact", "floor", "fixed"] = "ticks",
        k: int | None = None,
        j_mode: Literal["paper", "span"] = "paper",
        j: int = 6,
        w: int = 2,
        exclude_top: float = 0.0,
        include_last_epoch: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, scoring=scoring, keep="hard", **kwargs)
        if not 0 <= exclude_top < 1:
            raise UsageError(f"exclude_top is a share of a class, 0 or more and below 1; given: {exclude_top}.")
        if j < 2 or w < 1:
            raise UsageError(f"J is at least 2 and W at least 1; given: j={j}, w={w}.")
        if k_mode == "fixed" and k is None:
            raise UsageError("k_mode: fixed needs k, the full epochs of the scoring run: --data.k=30")
        self.budget, self.score, self.k_mode, self.k = budget, score, k_mode, k
        self.j_mode, self.j, self.w = j_mode, j, w
        self.exclude_top, self.include_last_epoch = exclude_top, include_last_epoch

    # --- the compute-matched run ---

    @cached_property
    def student_images(self) -> int:
        """Images that the student will see: E ipc C."""
        info, images = self.dataset.info, self.expected_images
        setting = Setting(info.num_classes, self.ipc, info.channels, info.flip, size=info.size)
        plan = resolve(self.scoring.protocol, setting, self.scoring.recipe, self.budget or self.scoring.budget)
        batch = min(plan.recipe.batch, images)
        return images_seen(plan.budget.total_steps(images, batch, info.train), images, batch)

    @property
    def readings(self) -> int:
        """K."""
        if self.k_mode in ("ticks", "fixed"):
            return self.k or self.j + self.w + 1
        epochs = round(self.student_images / self.dataset.info.train)
        return max(epochs, self.j + self.w if self.k_mode == "floor" else 3)

    @property
    def window(self) -> int:
        """J, at most K - W; one more with the last reading."""
        most = max(2, self.readings - self.last + self.include_last_epoch)
        return most if self.j_mode == "span" else min(self.j, most)

    @property
    def last(self) -> int:
        """W, at most K - 2; one more with the last reading."""
        return max(1, min(self.w, self.readings - 2 + self.include_last_epoch))

    @property
    def required_scoring(self) -> Scoring:
        """The configured run, with the student's length and K readings."""
        full, images = self.dataset.info.train, self.student_images
        if self.k_mode == "fixed" or (self.k_mode == "floor" and images < self.readings * full):
            images = self.readings * full
        return replace(self.scoring, budget=Budget(images=images), clean=self.readings)

    def prepare(self) -> None:
        """Make the scoring run. Raises UsageError where it has fewer steps than readings."""
        if self.run.steps < self.readings:
            raise UsageError(
                f"The student sees {self.student_images:,} images, {self.run.steps} steps of the scoring run, too few "
                f"for K = {self.readings} readings. Give a longer --data.budget or a smaller scoring.recipe.batch."
            )
        super().prepare()

    # --- the score and the choice ---

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """CAD: (N,)."""
        return cad(table[f"clean.{self.score}"], self.window, self.last, self.include_last_epoch)

    def sample(self, rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """The largest, after those that `exclude_top` passes over."""
        passed = min(int(self.exclude_top * len(rows)), len(rows) - count)
        return rows[samplers.window(self.scores[rows], count, passed, rng)]

    def facts(self) -> dict[str, Any]:
        """K, J, W and the student's images beside the cost of scoring."""
        chosen = {"K": self.readings, "J": self.window, "W": self.last, "student_images": self.student_images}
        return {**super().facts(), "cad": chosen}

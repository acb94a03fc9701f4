"""CA2D: RDED's patches from images of suitable difficulty instead of random ones.

pool       the `pool_size` images of each class that CAD-Prune ranks highest for the student's budget
patches    crops, scores and mosaics of RDED over that pool
"""

from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from ddlight.core.artefact import Unit
from ddlight.core.randomness import generator
from ddlight.methods.patches.mosaic import MosaicLayout
from ddlight.methods.patches.rded import BestCrops, PatchSynthesiser
from ddlight.methods.scores.cad_prune import CADPrune, CadScore
from ddlight.methods.scoring.run import Scoring, ScoringRun
from ddlight.networks.layers import embed_with_logits
from ddlight.recipes.budget import Budget
from ddlight.views.loader import eval_batch


class CA2D(PatchSynthesiser):
    """Mosaics of the most realistic patches of the images that CAD-Prune keeps for the student's budget.

    Paper: arXiv 2604.18811.
    The paper leaves open the pool, the crops, the teacher and the patches per image; all are options, RDED's values
    the defaults (guess). The pool holds the images of largest CAD; with pool_size "exact" the ranking of patches is
    void. On small classes a pool of 300 is most of them and the result is RDED's: take 4 ipc or less.

    Args:
        factor: patches per side of a mosaic; null takes 2 from 96 pixels on and 1 below.
        patch_score: "ce_true": the patches of lowest loss; "cad_rank": the best patch of each image in the order of
            CAD.
        stitch_order: "rded": by rank; "shuffled": drawn; "diverse": by rank, but each further patch of a rank goes to
            the mosaic whose patches it resembles least, by the teacher's features (ours).
        scoring: CAD-Prune's scoring network, which should be the student, and its recipe.
        budget: the student's length; null takes that of `scoring.protocol`.
        score: of CAD-Prune: "el2n" or "prob_true".
        k_mode: of CAD-Prune: how many readings the scoring run has.
        k: of CAD-Prune: readings, or full epochs.
        j_mode: of CAD-Prune: how J follows from K.
        j: of CAD-Prune: J, readings in a window.
        w: of CAD-Prune: W, windows that are averaged.
        exclude_top: of CAD-Prune: share of a class with the largest CAD that is passed over.
        include_last_epoch: of CAD-Prune: use the last reading too.
    """

    recipe_version: ClassVar[int] = 2
    tiny: ClassVar[dict[str, Any]] = CADPrune.tiny

    def __init__(
        self,
        *args: Any,
        factor: int | None = None,
        patch_score: Literal["ce_true", "cad_rank"] = "ce_true",
        stitch_order: Literal["rded", "shuffled", "diverse"] = "rded",
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
        super().__init__(*args, **kwargs)
        self.factor, self.layout = factor, MosaicLayout(self, factor)
        self.patch_score, self.stitch_order = patch_score, stitch_order
        self.scoring, self.budget, self.score, self.k_mode, self.k, self.j_mode = (
            scoring,
            budget,
            score,
            k_mode,
            k,
            j_mode,
        )
        self.j, self.w, self.exclude_top, self.include_last_epoch = j, w, exclude_top, include_last_epoch

    @cached_property
    def pruner(self) -> CADPrune:
        """CAD-Prune for a student of this set's own size."""
        names = ("scoring", "budget", "score", "k_mode", "k", "j_mode", "j", "w", "exclude_top", "include_last_epoch")
        options = {name: getattr(self, name) for name in names}
        return CADPrune(self.dataset, self.ipc, self.seed, self.cache, **options)

    def pool(self, unit: Unit, candidates: np.ndarray) -> np.ndarray:
        """The images of largest CAD, largest first: positions in the training split."""
        draw = generator(self.seed, "pool", unit.number)
        return self.pruner.sample(candidates, self.pool_count(len(candidates)), draw)

    def rank(self, best: BestCrops, pool: np.ndarray) -> np.ndarray:
        """Order the patches by loss, or as the pool is ordered: positions in `best`."""
        if self.patch_score == "cad_rank":
            return np.searchsorted(best.rows, pool)
        return np.argsort(best.losses, kind="stable")

    def arranged(self, unit: Unit, patches: np.ndarray) -> np.ndarray:
        """Patches in the order that `mosaics` takes."""
        if self.stitch_order == "shuffled":
            return patches[generator(self.seed, "stitch", unit.number).permutation(len(patches))]
        return patches[diverse(self.features(patches), self.ipc)] if self.stitch_order == "diverse" else patches

    @torch.no_grad()
    def features(self, patches: np.ndarray) -> np.ndarray:
        """What enters the teacher's last layer for patches uint8 (n, C, s, s) on their canvases: float32 (n, D)."""
        teacher, parts = self.loaded_teachers[0], torch.from_numpy(patches).split(eval_batch(self.dataset.info))
        views = (teacher.preprocess(self.canvases(part)) for part in parts)
        return torch.cat([embed_with_logits(teacher.network, view)[0].float().cpu() for view in views]).numpy()

    # --- the scoring run ---

    @property
    def scoring_runs(self) -> list[ScoringRun]:
        """Everything that `ddlight score` trains for this method."""
        return self.pruner.scoring_runs

    def prepare(self) -> None:
        """Check and prepare as RDED, then make the scoring run."""
        super().prepare()
        self.pruner.prepare()

    def estimate_seconds(self) -> float:
        """Time of the scoring run, where it is missing, and of the teacher's forward passes."""
        return self.pruner.estimate_seconds() + super().estimate_seconds()

    def facts(self) -> dict[str, Any]:
        """What CAD-Prune and RDED add to the manifest."""
        return {**self.pruner.facts(), **super().facts()}


def diverse(features: np.ndarray, count: int) -> np.ndarray:
    """Give each mosaic one patch of every block of `count` ranks, as unlike those that it has as can be.

    Block by block, the assignment of its patches to the mosaics is the one of least summed cosine similarity.

    Args:
        features: (count * places, D), best patch first.
        count: mosaics.

    Returns:
        int64 (count * places,): positions, the patches of a place together, in the order of the mosaics.
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    first, *blocks = np.split(np.arange(len(unit)), len(unit) // count)
    order, held = [first], unit[first].copy()
    for block in blocks:
        patches, places = linear_sum_assignment(unit[block] @ held.T)
        placed = np.empty_like(block)
        placed[places] = block[patches]
        held += unit[placed]
        order.append(placed)
    return np.concatenate(order)

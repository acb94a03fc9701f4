"""SelMatch: trajectory matching of a part of real images that were selected by their difficulty.

Each class is sorted, hardest first, and a window of ipc images is taken. The harder ones of it stay as they are; the
easier ones, a share alpha, are moved by MTT's iteration, in which the student sees both.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from torch import Tensor

from ddlight.core.errors import UsageError
from ddlight.core.files import cache_folder, sha256
from ddlight.core.randomness import generator
from ddlight.methods.matching.engine import Learned, MatchingSynthesiser, Published
from ddlight.methods.matching.trajectory.experts import ExpertRun, Experts
from ddlight.methods.matching.trajectory.matching import (
    TINY_MATCH,
    Match,
    MatchOverride,
    TrajectoryMatching,
    published_row,
)
from ddlight.methods.scores.forgetting import forgetting
from ddlight.methods.scores.score_file import dataset_scores
from ddlight.methods.scoring import samplers
from ddlight.methods.scoring.cost import TINY_SCORING, scoring_facts, scoring_seconds
from ddlight.methods.scoring.run import Scoring, ScoringRun
from ddlight.recipes.plan import Override
from ddlight.sets.store import Synthesis

Window: TypeAlias = Literal["ipc", "class", "slack"]
PUBLISHED = {  # dataset and ipc: share that is moved, start of the window in units of ipc
    ("CIFAR10", 250): (0.6, 0.5),
    ("CIFAR10", 500): (0.2, 0.3),
    ("CIFAR10", 1000): (0.1, 0.2),
    ("CIFAR10", 1500): (0.1, 0.2),
    ("CIFAR100", 25): (0.8, 0.8),
    ("CIFAR100", 50): (0.6, 0.7),
    ("CIFAR100", 100): (0.3, 0.6),
    ("CIFAR100", 150): (0.2, 0.4),
    ("TinyImageNet", 50): (0.6, 0.8),
    ("TinyImageNet", 100): (0.5, 0.7),
}
MATCH = Match(55, 2, 80, 1e-3, 1e-5, batch=125)


class SelMatch(MatchingSynthesiser):
    """Real images of the difficulty that suits the set's size; the easier ones are matched to experts' trajectories.

    Paper: arXiv 2406.18561; numbers from its code (github.com/Yongalls/SelMatch), whose experts are trained without
    augmentation. Published from 25 images a class on; a smaller set takes the numbers of the smallest.
    Deviation: scores are forgetting counts of a scoring run, as its code has them for Tiny-ImageNet; `path` may name
    C-scores, as it has them for CIFAR; alpha of the inner steps is a softplus, as in `MTT`; its students see moved
    images under DSA and others cropped and mirrored, here all of them as the protocol says.

    Args:
        experts: how the experts are trained.
        match: numbers that replace the published ones.
        scoring: run whose forgetting counts are the difficulty.
        path: file of scores in its place, as `ScoreFile` reads them.
        column: of that file; null takes the only one.
        larger: whether larger scores in the file mean harder or easier (C-scores) images.
        share: of the window that is moved; null takes the published one.
        beta: where the window begins, in units of `window`; null takes the published one.
        window: unit of beta: "ipc" (as the code has it), the images of the "class", or those less ipc ("slack").
    """

    learns_lr = True
    norm = "batch"
    tiny: ClassVar[dict[str, Any]] = {
        **MatchingSynthesiser.tiny,
        **TINY_MATCH,
        "scoring": TINY_SCORING,
        "share": 0.5,
        "path": None,
    }

    def __init__(
        self,
        *args: Any,
        experts: Experts = Experts(epochs=100, recipe=Override(dsa="")),
        match: MatchOverride = MatchOverride(),
        scoring: Scoring = Scoring(),
        path: str | None = None,
        column: str | None = None,
        larger: Literal["harder", "easier"] = "easier",
        share: float | None = None,
        beta: float | None = None,
        window: Window = "ipc",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.experts, self.match, self.scoring = experts, match, scoring
        self.path, self.column, self.larger = path, column, larger
        self.share, self.beta, self.window = share, beta, window
        published = published_row(PUBLISHED, self.dataset.info, self.ipc)
        part, self.begins = (b if a is None else a for a, b in zip((share, beta), published, strict=True))
        self.moved = int(self.ipc * part)
        if not (1 <= self.moved <= self.ipc and 0 <= self.begins <= 1):
            raise UsageError(
                f"share {part:g} of {self.ipc} images moves {self.moved}, and beta is {self.begins:g}; allowed: a "
                "share that moves 1 or more, and not above 1; beta from 0 to 1."
            )
        numbers = MATCH if self.dataset.info.size < 48 else replace(MATCH, steps=20)
        self.matching = TrajectoryMatching(self, experts, numbers, match)

    def published(self) -> Published:
        """10,000 iterations from real images."""
        return Published(10_000, 1e4 if self.dataset.num_classes <= 10 and self.ipc >= 1000 else 1e3, "real")

    @property
    def expert_run(self) -> ExpertRun:
        """The experts."""
        return self.matching.run

    # --- selection ---

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """What was asked for, and the content of a file of scores, not its place."""
        return {**super().arguments, **({"path": sha256(Path(self.path).expanduser())} if self.path else {})}

    @property
    def scoring_runs(self) -> list[ScoringRun]:
        """The run whose counts are the difficulty, where no file is."""
        if self.path is not None:
            return []
        return [ScoringRun(self.scoring, self.dataset, self.ipc, self.seed, cache_folder(self.cache))]

    @cached_property
    def difficulty(self) -> np.ndarray:
        """Of every training image, larger is harder: (N,)."""
        if self.path is None:
            return forgetting(self.scoring_runs[0].table())
        scores = dataset_scores(Path(self.path).expanduser(), self.column, self.dataset)
        return scores if self.larger == "harder" else -scores

    def chosen(self, label: int) -> np.ndarray:
        """Positions of the window's images of a class, hardest first. Raises UsageError where it leaves the class."""
        rows = self.real.rows[label]
        unit = {"ipc": self.ipc, "class": len(rows), "slack": len(rows) - self.ipc}[self.window]
        rng = generator(self.seed, "selmatch", label)
        return rows[samplers.window(self.difficulty[rows], self.ipc, int(unit * self.begins), rng)]

    @cached_property
    def frozen(self) -> Tensor:
        """The harder images of all windows, class after class, which stay as they are."""
        parts = [self.chosen(c)[: self.ipc - self.moved] for c in range(self.dataset.num_classes)]
        return self.real.take(np.concatenate(parts))

    # --- an iteration ---

    def begin(self) -> Learned:
        """The easier images of all windows, class after class, and alpha."""
        parts = [self.chosen(c)[self.ipc - self.moved :] for c in range(self.dataset.num_classes)]
        return self.matching.begin(self.real.take(np.concatenate(parts)))

    def labels(self, images: int) -> np.ndarray:
        """Classes of the moved images, and after them of the others."""
        classes = np.arange(self.dataset.num_classes)
        return np.concatenate([classes.repeat(self.moved), classes.repeat(self.ipc - self.moved)])

    def step(self, learned: Learned, iteration: int) -> Mapping[str, Tensor]:
        """Match one start."""
        return self.matching.step(learned, iteration, self.matching.classes.__getitem__, self.frozen)

    def finish(self, learned: Learned) -> Synthesis:
        """Moved images, then the others; and alpha."""
        images = np.concatenate([learned.images.kept().cpu().numpy(), self.frozen.cpu().numpy()])
        return Synthesis(images, self.labels(len(images)), len(images), self.matching.rate(learned).item())

    # --- what it needs and costs ---

    def prepare(self) -> None:
        """Make scoring run and experts."""
        super().prepare()
        for run in self.scoring_runs:
            run.make(progress=self.progress)

    def graph_images(self) -> float:
        """Those of an inner step."""
        return self.matching.graph_images(self.expected_images)

    def operations(self) -> float:
        """Those of the inner steps."""
        return self.matching.operations(self.expected_images)

    def estimate_seconds(self) -> float:
        """Time of the iterations, and of experts and scoring run that are missing."""
        return super().estimate_seconds() + scoring_seconds(self.scoring_runs)

    def facts(self) -> dict[str, Any]:
        """The numbers that were used, and what experts, scoring run and iterations cost."""
        found, scored = super().facts(), scoring_facts(self.scoring_runs)
        summed = {name: found[name] + scored[name] for name in scored if name in found}
        return {**found, **scored, **summed, "moved": self.moved, "window": self.begins}

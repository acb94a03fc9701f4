"""ScoreFile: coresets from scores that somebody else published."""

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from ddlight.core.artefact import Unit
from ddlight.core.errors import UsageError
from ddlight.core.files import sha256
from ddlight.core.randomness import generator
from ddlight.methods.base import Selector
from ddlight.methods.scores.selector import Keep
from ddlight.methods.scoring import samplers
from ddlight.methods.scoring.table import import_scores

SAMPLE = Path(__file__).parents[2] / "data" / "digits_scores.csv"


class ScoreFile(Selector):
    """The hardest or easiest images of each class, or strata of them, by imported scores.

    Paper: whatever the file comes from: C-scores and memorisation (arXiv 2002.03206, 2008.03703), prototypes (arXiv
    2206.14486), forgetting counts (arXiv 1812.05159), or `ddlight score` elsewhere.

    Args:
        path: CSV or TSV with ids, or .npy/.npz in the dataset's order; it must be given.
        column: which column of the file; null takes the only one.
        larger: whether larger scores mean harder images (forgetting, memorisation) or easier ones (C-scores, margins).
        keep: "hard" or "easy" end of the ranking, or "ccs": strata after the cutoff.
        cutoff: "ccs" only: share of the class that is dropped, hardest first.
    """

    tiny: ClassVar[dict[str, Any]] = {"path": str(SAMPLE), "column": None}

    def __init__(
        self,
        *args: Any,
        path: str = "",
        column: str | None = None,
        larger: Literal["harder", "easier"] = "harder",
        keep: Keep | Literal["ccs"] = "hard",
        cutoff: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.path, self.column, self.larger, self.keep, self.cutoff = path, column, larger, keep, cutoff

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The content of the file, not its place; and what was asked for."""
        return {**super().arguments, "path": sha256(self._file())}

    def _file(self) -> Path:
        if not self.path:
            raise UsageError("ScoreFile needs a file of scores: --data.path=...")
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise UsageError(f"There is no score file {path}. Give another --data.path.")
        return path

    @cached_property
    def scores(self) -> np.ndarray:
        """Difficulty of every training image: (N,)."""
        ids, name = self.dataset.index("train").ids, self.dataset.info.name
        scores = import_scores(self._file(), self.column, ids, name)
        return scores if self.larger == "harder" else -scores

    def select(self, unit: Unit, candidates: np.ndarray) -> np.ndarray:
        """Choose ipc of one class's images."""
        rng, difficulty = generator(self.seed, "score_file", unit.number), self.scores[candidates]
        if self.keep == "ccs":
            return candidates[samplers.ccs(difficulty, self.ipc, rng, self.cutoff)]
        end = samplers.hard if self.keep == "hard" else samplers.easy
        return candidates[end(difficulty, self.ipc, rng)]

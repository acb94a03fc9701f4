"""EL2NBest: the window of EL2N difficulty on which students do best, found by training on every window."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from ddlight.data.base import RealDataset
from ddlight.methods.scores.searched import SearchedSelector
from ddlight.methods.scores.selector import ScoredSelector
from ddlight.methods.scoring import samplers, scores
from ddlight.methods.scoring.run import Scoring
from ddlight.methods.scoring.samplers import Balance
from ddlight.methods.scoring.scores import Signal
from ddlight.methods.scoring.search import Search
from ddlight.methods.scoring.table import ScoreTable


class EL2NBest(SearchedSelector):
    """ipc images in a row of each class's order from hard to easy, beginning where held-out accuracy is highest.

    Paper: arXiv 2604.18811 (EL2N-Best), after the window search of SelMatch (arXiv 2406.18561) and BWS.
    Deviation: the papers choose on the test split; here on images held out from training.

    Args:
        dataset: the real dataset, which must hold images out.
        ipc: images per class.
        seed: of the scoring run, where that has none of its own, of the search and of ties.
        cache: folder of condensed sets.
        scoring: how the network that scores is trained.
        balance: "ipc" takes exactly ipc images of each class; "proportional", "floor" (half of an even share for each
            class, the rest over all) and "none" take ipc x classes images in all.
        signal: of EL2N, "clean" or "train".
        at: of EL2N: the first clean pass at or after this fraction of the run.
        offsets: where windows begin, in `unit`; one alone is taken without a search.
        unit: what an offset of 1 is: "slack", all images of the class but ipc, so that 1 is the easiest window;
            "class", all images of the class; "ipc", as SelMatch's code.
        search: how students are trained on each window.
    """

    tiny: ClassVar[dict[str, Any]] = {**SearchedSelector.tiny, "offsets": [0.0, 1.0]}

    def __init__(
        self,
        dataset: RealDataset,
        ipc: int = 10,
        seed: int = 0,
        cache: str | None = None,
        scoring: Scoring = Scoring(),  # noqa: B008  frozen
        balance: Balance = "ipc",
        signal: Signal = "clean",
        at: float = 0.1,
        offsets: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        unit: Literal["slack", "class", "ipc"] = "slack",
        search: Search = Search(),  # noqa: B008  frozen
    ) -> None:
        super().__init__(dataset, ipc, seed, cache, scoring, balance)
        self.signal, self.at, self.offsets, self.unit, self.search = signal, at, tuple(offsets), unit, search

    @property
    def options(self) -> Sequence[float]:
        """The offsets."""
        return self.offsets

    def variant(self, value: float) -> ScoredSelector:
        """The window that begins there."""
        own = (self.dataset, self.ipc, self.seed, self.cache, self.scoring, self.balance, self.signal, self.at)
        return EL2NBest(*own, offsets=(value,), unit=self.unit)

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """EL2N: (N,)."""
        return scores.el2n(table, self.signal, self.at)

    def sample(self, rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """The window that begins at the chosen offset."""
        whole = {"slack": len(rows) - count, "class": len(rows), "ipc": count}[self.unit]
        begin = int(round(self.chosen * whole, 9))
        return rows[samplers.window(self.scores[rows], count, begin, rng)]

"""EL2NBest: the window of EL2N difficulty on which students do best, found by training on every window."""

from typing import Any, ClassVar, Literal

import numpy as np

from ddlight.methods.scores.el2n import Signal, el2n
from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring import samplers
from ddlight.methods.scoring.search import TINY_SEARCH, Search
from ddlight.methods.scoring.table import ScoreTable


class EL2NBest(ScoreSelector):
    """ipc images in a row of each class's order from hard to easy, beginning where held-out accuracy is highest.

    Paper: arXiv 2604.18811 (EL2N-Best), after the window search of SelMatch (arXiv 2406.18561) and BWS.
    Deviation: the papers choose on the test split; here on images held out from training, which the dataset must have.

    Args:
        signal: of EL2N, "clean" or "train".
        at: of EL2N: the first clean pass at or after this fraction of the run.
        offsets: where windows begin, in `unit`; one alone is taken without a search.
        unit: what an offset of 1 is: "slack", all images of the class but ipc, so that 1 is the easiest window;
            "class", all images of the class; "ipc", as SelMatch's code.
        search: how students are trained on each window.
    """

    tiny: ClassVar[dict[str, Any]] = {**ScoreSelector.tiny, "search": TINY_SEARCH, "offsets": [0.0, 1.0]}
    tried: ClassVar[str] = "offsets"

    def __init__(
        self,
        *args: Any,
        signal: Signal = "clean",
        at: float = 0.1,
        offsets: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        unit: Literal["slack", "class", "ipc"] = "slack",
        search: Search = Search(),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, keep="hard", **kwargs)
        self.signal, self.at, self.offsets, self.unit, self.search = signal, at, tuple(offsets), unit, search

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """EL2N: (N,)."""
        return el2n(table, self.signal, self.at)

    def sample(self, rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """The window that begins at the chosen offset."""
        whole = {"slack": len(rows) - count, "class": len(rows), "ipc": count}[self.unit]
        begin = int(round(self.chosen * whole, 9))
        return rows[samplers.window(self.scores[rows], count, begin, rng)]

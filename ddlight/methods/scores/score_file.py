"""ScoreFile: coresets from scores that somebody else published."""

import csv
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from ddlight.core.artefact import Unit
from ddlight.core.errors import DataError, UsageError, nearest
from ddlight.core.files import sha256
from ddlight.core.randomness import generator
from ddlight.data.base import RealDataset
from ddlight.methods.base import Selector
from ddlight.methods.scores.ccs import ccs
from ddlight.methods.scores.selector import Keep
from ddlight.methods.scoring import samplers

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
        dataset: RealDataset,
        path: str = "",
        *args: Any,
        column: str | None = None,
        larger: Literal["harder", "easier"] = "harder",
        keep: Keep | Literal["ccs"] = "hard",
        cutoff: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(dataset, *args, **kwargs)
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
            return candidates[ccs(difficulty, self.ipc, rng, self.cutoff)]
        end = samplers.hard if self.keep == "hard" else samplers.easy
        return candidates[end(difficulty, self.ipc, rng)]


def import_scores(path: Path, column: str | None, ids: Sequence[str] | np.ndarray, dataset: str) -> np.ndarray:
    """Read somebody else's scores of this dataset: float64 (N,), in the order of `ids`.

    Args:
        path: a CSV or TSV with a column `id` (or `file`, `path`, `name`, or the first column) and one of scores; or a
            .npy or .npz array of N numbers in the dataset's own order, as C-scores and forgetting counts are published.
        column: which column or array; None takes the only one.
        ids: sample ids of the training split. A row of the file names one by the whole id, its end, or the file's name.
        dataset: its name, for messages.

    Raises:
        DataError: images without a score, scores twice, rows of other images only, NaN, or another number of them.
        UsageError: there is no such column, or several and none was named.
    """
    if not path.is_file():
        raise DataError(f"There is no score file {path}.")
    ids = np.asarray(ids)
    if path.suffix in (".npy", ".npz"):
        return samplers.require_finite(_array(path, column, len(ids), dataset), str(path))
    names, values = _rows(path, column)
    return samplers.require_finite(_joined(names, values, ids, path, dataset), str(path))


def _array(path: Path, column: str | None, count: int, dataset: str) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is no file of plain numbers: {error}") from error
    if isinstance(array, np.lib.npyio.NpzFile):
        array = array[_chosen(column, array.files, path)]
    if array.shape != (count,):
        raise DataError(
            f"{path} holds an array of shape {array.shape}; {dataset} has {count:,} training images. Scores without "
            "ids must be one for each, in the dataset's order."
        )
    return array.astype(np.float64)


def _chosen(column: str | None, names: Sequence[str], path: Path) -> str:
    """The name of the column to read."""
    if column is None and len(names) == 1:
        return names[0]
    if column is None or column not in names:
        wrong = "none was named" if column is None else f"{column!r} is not among them"
        raise UsageError(
            f"{path} has the columns {', '.join(names)}, and {wrong}: --data.column=...{nearest(column or '', names)}"
        )
    return column


def _rows(path: Path, column: str | None) -> tuple[list[str], np.ndarray]:
    """Names and scores of a text table."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
    if len(rows) < 2 or len(rows[0]) < 2:
        raise DataError(
            f"{path} is no table: a first line of names is needed, such as 'id,score', then a line per image."
        )
    header = rows[0]
    key = next((name for name in ("id", "file", "path", "name") if name in header), header[0])
    chosen = header.index(_chosen(column, [name for name in header if name != key], path))
    place, full = header.index(key), [row for row in rows[1:] if row]
    try:
        return [row[place] for row in full], np.array([float(row[chosen]) for row in full])
    except (ValueError, IndexError) as error:
        raise DataError(f"{path} has a line that is short or holds no number: {error}.") from error


def _joined(names: list[str], values: np.ndarray, ids: np.ndarray, path: Path, dataset: str) -> np.ndarray:
    """Scores in the order of the ids."""
    for shorten in (lambda id: id, lambda id: id.split("/", 1)[-1], lambda id: id.rsplit("/", 1)[-1]):
        place = {shorten(id): row for row, id in enumerate(ids.tolist())}
        if len(place) == len(ids) and all(name in place for name in names[:1]):
            break
    rows = [place[name] for name in names if name in place]
    if len(rows) != len(set(rows)):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path} scores {len(rows) - len(set(rows)):,} images more than once, such as {twice}.")
    if len(rows) < len(ids):
        missing = np.delete(ids, rows)
        raise DataError(
            f"{path} has no score for {len(missing):,} of {dataset}'s {len(ids):,} training images, such as "
            f"{missing[0]}; {len(names) - len(rows):,} of its lines name none of them. Is it of another dataset?"
        )
    scores = np.empty(len(ids))
    scores[rows] = values[[name in place for name in names]]
    return scores

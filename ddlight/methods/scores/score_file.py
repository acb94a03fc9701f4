"""ScoreFile: coresets from scores that somebody else published."""

import csv
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from ddlight.core.artefact import Unit
from ddlight.core.class_names import match_classes
from ddlight.core.errors import DataError, UsageError, nearest
from ddlight.core.files import sha256
from ddlight.core.randomness import generator
from ddlight.data.base import RealDataset
from ddlight.data.noisy import NoisyLabels
from ddlight.methods.base import Selector
from ddlight.methods.scores.ccs import ccs
from ddlight.methods.scores.selector import Keep
from ddlight.methods.scoring import samplers

LABELS = ("label", "labels", "target", "targets", "class", "classes", "y")
"""Names of columns that hold classes."""
SAMPLE = Path(__file__).parents[2] / "data" / "digits_scores.csv"


class ScoreFile(Selector):
    """The hardest or easiest images of each class, or strata of them, by imported scores.

    Paper: whatever the file comes from: C-scores and memorisation (arXiv 2002.03206, 2008.03703), prototypes (arXiv
    2206.14486), forgetting counts (arXiv 1812.05159), or `ddlight score` elsewhere.

    Args:
        path: CSV or TSV with ids, or .npy/.npz in the dataset's order; it must be given. Labels in it must be the
            dataset's.
        column: which column of the file; null takes the only one that can be scores.
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
        scores = dataset_scores(self._file(), self.column, self.dataset)
        return scores if self.larger == "harder" else -scores

    def select(self, unit: Unit, candidates: np.ndarray) -> np.ndarray:
        """Choose ipc of one class's images."""
        rng, difficulty = generator(self.seed, "score_file", unit.number), self.scores[candidates]
        if self.keep == "ccs":
            return candidates[ccs(difficulty, self.ipc, rng, self.cutoff)]
        end = samplers.hard if self.keep == "hard" else samplers.easy
        return candidates[end(difficulty, self.ipc, rng)]


def dataset_scores(path: Path, column: str | None, dataset: RealDataset) -> np.ndarray:
    """`import_scores` of a dataset's training images; labels in the file must be theirs."""
    while isinstance(dataset, NoisyLabels):  # others scored images with their true labels
        dataset = dataset.dataset
    index, info = dataset.index("train"), dataset.info
    return import_scores(path, column, index.ids, info.name, index.labels, info.classes)


def import_scores(
    path: Path,
    column: str | None,
    ids: Sequence[str] | np.ndarray,
    dataset: str,
    labels: np.ndarray | None = None,
    classes: Sequence[str] = (),
) -> np.ndarray:
    """Read somebody else's scores of this dataset: float64 (N,), in the order of `ids`.

    Labels that stand beside the scores must be the dataset's.

    Args:
        path: a CSV or TSV with a column `id` (or `file`, `path`, `name`, or the first column) and one of scores; or a
            .npy or .npz array of N numbers in the dataset's own order, as C-scores and forgetting counts are published.
        column: which column or array; None takes the only one that can be scores.
        ids: sample ids of the training split. A row of the file names one by the whole id, its end, or the file's name.
        dataset: its name, for messages.
        labels: int64 (N,), its classes in the order of `ids`; None where labels in the file are not looked at.
        classes: their names.

    Raises:
        DataError: images without a score, scores twice, rows of other images only, NaN, another number of them, or
            labels of other images.
        UsageError: there is no such column, or several and none was named.
    """
    if not path.is_file():
        raise DataError(f"There is no score file {path}.")
    ids = np.asarray(ids)
    if path.suffix in (".npy", ".npz"):
        scores, said = _arrays(path, column, len(ids), dataset)
    else:
        names, values, texts = _rows(path, column)
        rows = _rows_of(names, ids, path, dataset)
        scores, said = values[rows], None if texts is None else _numbers([texts[row] for row in rows], classes, dataset)
    if said is not None and labels is not None and (said != labels).any():
        raise DataError(
            f"{path} holds labels beside its scores, and {int((said != labels).sum()):,} of {len(ids):,} are not those "
            f"of {dataset}: it is of another dataset, or its images are in another order."
        )
    return samplers.require_finite(scores.astype(np.float64), str(path))


def _arrays(path: Path, column: str | None, count: int, dataset: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Scores of a .npy or .npz file, and labels beside them, where there are any: (N,) each."""
    try:
        content = np.load(path, allow_pickle=False)
        arrays = dict(content) if isinstance(content, np.lib.npyio.NpzFile) else {"": content}
    except Exception as error:  # whatever a damaged file makes of it
        raise DataError(f"{path} is damaged, or no file of plain numbers: {error}") from error
    found = {name: array.reshape(-1) if array.size == count else array for name, array in arrays.items()}
    fractions = [name for name, array in found.items() if array.dtype.kind == "f"]
    chosen = _chosen(column, fractions if column is None and len(fractions) == 1 else list(found), path)
    scores = found[chosen]
    if scores.shape != (count,) or scores.dtype.kind not in "fiu":
        raise DataError(
            f"{path} holds an array of shape {scores.shape}, {scores.dtype}; {dataset} has {count:,} training images. "
            "Scores without ids must be one number for each, in the dataset's order."
        )
    said = next((found[name] for name in found if name.lower() in LABELS and name != chosen), None)
    if said is not None and said.shape != (count,):
        raise DataError(f"{path} holds labels of shape {said.shape} beside {count:,} scores.")
    return scores, said


def _chosen(column: str | None, names: Sequence[str], path: Path) -> str:
    """The name of the column to read."""
    if column is not None and column.lower() in LABELS and column in names:
        raise UsageError(f"Column {column!r} of {path} holds classes, which are no scores: --data.column=...")
    left = [name for name in names if name.lower() not in LABELS]
    if column is None and len(left) == 1:
        return left[0]
    if column is None or column not in names:
        wrong = "none was named" if column is None else f"{column!r} is not among them"
        raise UsageError(
            f"{path} has the columns {', '.join(left)}, and {wrong}: --data.column=...{nearest(column or '', left)}"
        )
    return column


def _rows(path: Path, column: str | None) -> tuple[list[str], np.ndarray, list[str] | None]:
    """Names, scores and, where there is a column of them, labels of a text table."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise DataError(f"{path} is no CSV, TSV, .npy or .npz file of scores: {error}.") from error
    if len(rows) < 2 or len(rows[0]) < 2:
        raise DataError(
            f"{path} is no table: a first line of names is needed, such as 'id,score', then a line per image."
        )
    header = rows[0]
    key = next((name for name in ("id", "file", "path", "name") if name in header), header[0])
    chosen = header.index(_chosen(column, [name for name in header if name != key], path))
    place, full = header.index(key), [row for row in rows[1:] if row]
    labels = next((n for n, name in enumerate(header) if name.lower() in LABELS and n not in (place, chosen)), None)
    try:
        texts = None if labels is None else [row[labels] for row in full]
        return [row[place] for row in full], np.array([float(row[chosen]) for row in full]), texts
    except (ValueError, IndexError) as error:
        raise DataError(f"{path} has a line that is short or holds no number: {error}.") from error


def _numbers(texts: list[str], classes: Sequence[str], dataset: str) -> np.ndarray | None:
    """Classes as numbers, of numbers or names: int64 (N,), -1 where it is none of the dataset's."""
    if not classes:
        return None
    matched = match_classes(texts, classes, dataset).labels
    return np.array([-1 if (label := matched[text]) is None else label for text in texts], np.int64)


def _rows_of(names: list[str], ids: np.ndarray, path: Path, dataset: str) -> np.ndarray:
    """Line of each id: int64 (N,)."""
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
    lines = np.empty(len(ids), np.int64)
    lines[rows] = [line for line, name in enumerate(names) if name in place]
    return lines

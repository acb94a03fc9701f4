"""A table of scores: one column per statistic, one row per training image, keyed by sample id and never by position."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from ddlight.core import files
from ddlight.core.artefact import verify
from ddlight.core.errors import DataError, UsageError, nearest
from ddlight.methods.scoring.samplers import require_finite

COLUMNS, IDS = "scores.safetensors", "ids.json"


@dataclass(frozen=True)
class ScoreTable:
    """What a scoring run recorded.

    Attributes:
        ids: str (N,), sample ids of the full training split, in its order.
        columns: float32 (N,) by name; `clean.prob_true` and `clean.el2n` are (readings, N), `train.change` is
            (passes - 1, N).
        facts: what else is known of the run: passes, readings, seconds, images seen, operations.
        source: the file or folder, for messages.
    """

    ids: np.ndarray
    columns: dict[str, np.ndarray]
    facts: dict[str, Any]
    source: str

    def __getitem__(self, name: str) -> np.ndarray:
        """A column. Raises UsageError where the run did not record it, DataError where it holds NaN."""
        if name not in self.columns:
            raise UsageError(
                f"{self.source} has no column {name!r}: the scoring run was too short or did not record it. "
                f"It has {', '.join(sorted(self.columns))}.{nearest(name, self.columns)}"
            )
        values = self.columns[name]
        require_finite(values.reshape(-1), f"Column {name} of {self.source}")
        return values

    def require_ids(self, ids: np.ndarray, dataset: str) -> "ScoreTable":
        """Return this table, whose ids must be those of the data. Raises DataError where they are not."""
        if len(ids) != len(self.ids) or (ids != self.ids).any():
            raise DataError(
                f"{self.source} holds scores of other data than {dataset}: {len(self.ids):,} ids, "
                f"{len(np.intersect1d(ids, self.ids)):,} of which are among {dataset}'s {len(ids):,}. "
                "Score this dataset: the same command with 'score' in place of 'condense'."
            )
        return self

    def write_csv(self, path: Path) -> None:
        """Export the one-dimensional columns: `id` and one column per statistic, one row per image."""
        flat = {name: values.astype(float).tolist() for name, values in self.columns.items() if values.ndim == 1}
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["id", *flat])
        writer.writerows(zip(self.ids.tolist(), *flat.values(), strict=True))
        files.write_bytes(path, text.getvalue().encode())


def read_table(folder: Path, manifest: dict[str, Any] | None = None) -> ScoreTable:
    """Read the table of what was sealed in a folder. Raises DataError where a file is missing or was changed.

    Args:
        folder: where it lies.
        manifest: its manifest, where it is verified already; None verifies it first.
    """
    manifest = manifest or verify(folder, "'ddlight score'")
    ids = np.array(json.loads((folder / IDS).read_text()), dtype=np.str_)
    return ScoreTable(ids, load_file(folder / COLUMNS), manifest, str(folder))


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
        return require_finite(_array(path, column, len(ids), dataset), str(path))
    names, values = _rows(path, column)
    return require_finite(_joined(names, values, ids, path, dataset), str(path))


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
            f"{path} is no table: a first line of names is needed, such as 'id,score', then a line an image."
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

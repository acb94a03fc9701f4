"""A table of scores: one column per statistic, one row per training image, keyed by sample id and never by position."""

import csv
import io
import json
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

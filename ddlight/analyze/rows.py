"""Analyses as the text of a CSV file, and as the tables on the screen."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from ddlight.cli.listing import table

PAIRS = ("dataset", "method", "ipc", "seed", "image", "test_id", "cosine", "exact")
IMAGES = ("rep_minimax", "div_minimax", "rep_cov", "div_mean", "fid", "kid")
LABELS_AND_COST = {
    "label_entropy": "label bits",
    "near_duplicates": "near",
    "exact_duplicates": "exact",
    "bytes_images": "images",
    "bytes_pixels": "decoded",
    "bytes_labels": "labels",
    "seconds": "seconds",
    "seconds_networks": "with networks",
    "flops": "flops",
    "flops_networks": "with networks",
}
"""Columns of the second table, and their headings."""
Row = Mapping[str, Any]


def csv_text(header: Sequence[str], rows: Sequence[Row]) -> str:
    """Rows as CSV; several notes in one cell, with semicolons between them."""
    out = io.StringIO()
    writer = csv.DictWriter(out, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "; ".join(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows)
    return out.getvalue()


def screen(rows: Sequence[Row]) -> list[str]:
    """The rows as two tables, the images first, and their notes."""
    about: dict[str, list[str]] = {}
    for row in rows:
        for note in row["notes"]:
            about.setdefault(note, []).append(f"{row['method']} ipc {row['ipc']} seed {row['seed']}")
    notes = [
        f"Note ({', '.join(sets[:3])}{f' and {len(sets) - 3} more' * (len(sets) > 3)}): {note}."
        for note, sets in about.items()
    ]
    first = {name: name.replace("_", " ") for name in IMAGES}
    return [*_table(rows, first), "", *_table(rows, LABELS_AND_COST), *notes]


def _table(rows: Sequence[Row], columns: Mapping[str, str]) -> list[str]:
    header = ["set", "ipc", "seed", "regime", "n", *columns.values()]
    names = ["method", "ipc", "seed", "regime", "n_images", *columns]
    return table(header, [[_text(name, row[name]) for name in names] for row in rows])


def _text(name: str, value: Any) -> str:
    """A cell as text: four digits of what is measured."""
    if value is None or value == "":
        return "" if name == "regime" else "-"
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"

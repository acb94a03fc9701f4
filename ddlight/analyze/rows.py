"""An analysis as columns: of a CSV file, of the tables on the screen, and of the file of pairs."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ddlight.analyze.analysis import Analysis
from ddlight.analyze.coverage import Spread
from ddlight.analyze.distances import Distance
from ddlight.cli.listing import table
from ddlight.data.base import RealDataset
from ddlight.sets import store

UNKNOWN = "unknown"
"""A cost that nobody recorded. Cells of what was not computed are empty; what is undefined is nan."""
SPREAD = ("rep_minimax", "div_minimax", "rep_cov", "div_mean")
Cells = Mapping[str, Any]


def cells(analysis: Analysis, network: str, fid_network: str) -> dict[str, Any]:
    """One row: column name to value, None where a network would have been needed.

    Args:
        analysis: of a set.
        network: name of the network whose features were taken, or "".
        fid_network: likewise, for FID and KID.
    """
    m, found, result = analysis.manifest, analysis.measured, analysis.asked.result
    return {
        "dataset": m["dataset"],
        "method": m["method"],
        "args": json.dumps(m["args"], sort_keys=True),
        "ipc": m["ipc"],
        "seed": m["seed"],
        "regime": result.regime if result else "",
        "n_images": m["images"],
        "split": "test",
        "features": network,
        **_spread(found.within, ""),
        **_spread(found.pooled, "_pooled"),
        **_distance(found.distance),
        "fid_features": fid_network,
        "label_entropy": analysis.entropy,
        "near_duplicates": found.near,
        "exact_duplicates": found.exact,
        "bytes_images": m["bytes_images"],
        "bytes_pixels": analysis.bytes_pixels,
        "bytes_labels": result.set.bytes_labels if result else m["bytes_labels"],
        **{name: UNKNOWN if value is None else value for name, value in _cost(analysis).items()},
        "notes": analysis.notes,
        "path": str(analysis.asked.run or analysis.asked.folder),
    }


def _spread(found: Spread | None, suffix: str) -> dict[str, float | None]:
    return {f"{name}{suffix}": None if found is None else getattr(found, name) for name in SPREAD}


def _distance(found: Distance | None) -> dict[str, float | None]:
    names = {"fid": "fid", "kid": "kid", "kid_std": "kid_std", "fid_n": "images", "fid_real_n": "real"}
    return {name: None if found is None else getattr(found, field) for name, field in names.items()}


def _cost(analysis: Analysis) -> dict[str, float | None]:
    return {name: value for name, value in asdict(analysis.cost).items() if name != "notes"}


def csv_text(header: Sequence[str], rows: Sequence[Cells]) -> str:
    """Rows as CSV; several notes in one cell, with semicolons between them."""
    out = io.StringIO()
    writer = csv.DictWriter(out, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "; ".join(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows)
    return out.getvalue()


# --- on the screen ---


def screen(rows: Sequence[Cells]) -> list[str]:
    """The rows as two tables, the images first, and their notes."""
    first = {
        "rep minimax": "rep_minimax",
        "div minimax": "div_minimax",
        "rep cov": "rep_cov",
        "div mean": "div_mean",
        "fid": "fid",
        "kid": "kid",
    }
    second = {
        "label bits": "label_entropy",
        "near": "near_duplicates",
        "exact": "exact_duplicates",
        "images": "bytes_images",
        "decoded": "bytes_pixels",
        "labels": "bytes_labels",
        "seconds": "seconds",
        "with networks": "seconds_networks",
        "flops": "flops",
        "with networks ": "flops_networks",
    }
    return [*_table(rows, first), "", *_table(rows, second), *_notes(rows)]


def _table(rows: Sequence[Cells], columns: Mapping[str, str]) -> list[str]:
    header = ["set", "ipc", "seed", "regime", "n", *(title.strip() for title in columns)]
    names = ["method", "ipc", "seed", "regime", "n_images"]
    return table(header, [[_shown(name, row[name]) for name in (*names, *columns.values())] for row in rows])


def _shown(name: str, value: Any) -> str:
    """A cell as text: four digits of what is measured."""
    if value is None or value == "":
        return "" if name == "regime" else "-"
    form: Callable[[Any], str] = "{:,}".format if isinstance(value, int) else "{:.4g}".format
    return value if isinstance(value, str) else form(value)


def _notes(rows: Sequence[Cells]) -> list[str]:
    """Each note once, with the sets that it is about."""
    about: dict[str, list[str]] = {}
    for row in rows:
        for note in row["notes"]:
            about.setdefault(note, []).append(f"{row['method']} ipc {row['ipc']} seed {row['seed']}")
    return [f"Note ({_few(names)}): {note}." for note, names in about.items()]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# --- pairs ---

PAIRS = ("dataset", "method", "ipc", "seed", "image", "test_id", "cosine", "exact")


def pair_rows(analysis: Analysis, dataset: RealDataset) -> list[dict[str, Any]]:
    """Images that are in the test split or nearly so: a real image by its id, a made one by its position in the set."""
    m, ids = analysis.manifest, dataset.index("test").ids
    chosen = m["kind"] == "indices"
    own = store.read_selection(analysis.asked.folder)[1] if chosen else np.arange(m["images"])
    head = {name: m[name] for name in PAIRS[:4]}
    return [
        {**head, "image": str(own[p.image]), "test_id": str(ids[p.real]), "cosine": p.cosine, "exact": p.exact}
        for p in analysis.measured.pairs
    ]

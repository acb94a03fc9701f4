"""Collecting: every `result.json` and `failed.json` under some folders as one table, one row per file."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ddlight.core.errors import DataError
from ddlight.core.result import FILE, Result

FAILED = "failed.json"
TEXT_COLUMNS = ("set.args", "student.args", "recipe", "augment", "teachers")
CELL_COLUMNS = {name: f"set.{name}" for name in ("dataset", "method", "ipc")}
CELL_COLUMNS |= {"student": "student.class", "budget": "budget.asked"}
CELL_NUMBERS = {"set.ipc": int, "budget.asked": float}


def collect(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Read all results under `paths`: folders, searched to any depth, or single files.

    A run folder holds `result.json`, or `failed.json` where the run ended with an error:
    `{"cell": {...} or text, "error": text}`. `cell` says which cell of the study it was, with any of the names
    dataset, method, ipc, regime, protocol, student (class name, or `{"class": ..., "args": ...}`), budget (the number
    asked for) and seed, or a column name of this table. A folder that holds both files counts as done.

    Returns:
        One row per file, in order of paths. `status` is "done", "failed" or "damaged"; `path` names the file, and
        `file` does so relative to the folder in `paths` (of several, to the deepest one that holds all of them);
        `error` says what is wrong with one that is not done. The other columns are the fields of
        `ddlight.core.result.Result` by dotted name, such as `set.ipc` and `acc.test`; objects of free content
        (`set.args`, `student.args`, `recipe`, `augment`) and `teachers` are JSON text with sorted keys. No file is
        left out: a half-written or foreign one is a row with status "damaged".

    Raises:
        DataError: one of `paths` does not exist or has no results under it.
    """
    places = [Path(path) for path in paths]
    files = sorted({file for path in places for file in _files(path)})
    folders = [path.resolve().parent if path.is_file() else path.resolve() for path in places]
    frame = pd.DataFrame([_failure(file) if file.name == FAILED else _result(file) for file in files])
    frame["file"] = [file.relative_to(os.path.commonpath(folders)).as_posix() for file in files]
    if "set.ipc" in frame:
        frame["set.ipc"] = frame["set.ipc"].astype("Int64")
    return frame


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise DataError(f"There is no folder or file {path}. Give the folder that holds the runs: ddlight report runs/")
    walk = [(Path(parent), names) for parent, _, names in os.walk(path.resolve())]
    runs = [(folder, FILE if FILE in names else FAILED) for folder, names in walk if {FILE, FAILED} & {*names}]
    files = [path.resolve()] if path.is_file() else [folder / name for folder, name in runs]
    if not files:
        raise DataError(
            f"There is no {FILE} under {path}. A run writes it when it ends: ddlight fit --config configs/NAME.yaml"
        )
    return files


def _result(path: Path) -> dict[str, object]:
    try:
        content = Result.read(path).to_json()
    except DataError as error:
        return {"status": "damaged", "path": str(path), "error": str(error)}
    return {"status": "done", "path": str(path), "error": None, **_flat(content)}


def _failure(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_bytes())
        cell, error = content["cell"], content["error"]
        row: dict[str, Any] = {}
        if isinstance(cell, dict):  # what it says of itself, under this table's column names
            row = _flat({CELL_COLUMNS.get(key) or key: value for key, value in cell.items() if value is not None})
            row |= {name: kind(row[name]) for name, kind in CELL_NUMBERS.items() if name in row}
    except (ValueError, RecursionError, KeyError, TypeError, OSError) as damage:
        problem = f"{path}: not an object with 'cell' and 'error' ({type(damage).__name__}: {damage})"
        return {"status": "damaged", "path": str(path), "error": problem}
    return {**row, "status": "failed", "path": str(path), "error": str(error), "cell": as_text(cell)}


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects -> one object with dotted names."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if name == "student.class" and isinstance(value, Mapping):
            flat |= _flat(value, "student.")
        elif name in TEXT_COLUMNS:
            flat[name] = as_text(value)
        elif isinstance(value, Mapping):
            flat |= _flat(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def as_text(value: object) -> str:
    """A value as one text: JSON with sorted keys, but for what is text already."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)

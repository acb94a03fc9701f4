"""What lies on disk: finished artefacts, what they say, what is left over, and whether two of them are the same."""

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

OF_THE_MAKING = ("seconds", "peak_memory_bytes", "finished", "sha256")
"""What differs between two makings of the same artefact: time, memory, and the checksum of a file that says them."""
OF_A_RUN = ("result.json", "student.safetensors", "student.json", "metrics.csv", "config.yaml")


def sealed(home: Path) -> Iterator[Path]:
    """Folders of finished sets and stored labels below a folder."""
    found = (p.parent for p in home.rglob("manifest.json"))
    yield from (p for p in found if not any(part.startswith(".") for part in p.relative_to(home).parts))


def runs(home: Path) -> Iterator[Path]:
    """Folders of finished runs below a folder."""
    yield from (p.parent for p in home.rglob("result.json"))


def finished(home: Path) -> dict[str, str]:
    """Checksum of every file of every finished artefact, by its path."""
    files = [p for folder in sealed(home) for p in folder.rglob("*") if p.is_file()]
    files += [folder / name for folder in runs(home) for name in OF_A_RUN]
    return {str(p.relative_to(home)): _sha256(p) for p in files}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"


def contents(home: Path) -> dict[str, Any]:
    """What the finished artefacts say, but for what differs between two makings of the same."""
    found: dict[str, Any] = {}
    for folder in sealed(home):
        found[str(folder.relative_to(home))] = _without(json.loads((folder / "manifest.json").read_bytes()))
        for path in (p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"):
            found[str(path.relative_to(home))] = _sha256(path)
    for folder in runs(home):
        found[str(folder.relative_to(home))] = _without(json.loads((folder / "result.json").read_bytes()))
        for name in OF_A_RUN[1:]:
            found[str((folder / name).relative_to(home))] = _sha256(folder / name)
    return found


def _without(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in OF_THE_MAKING}


def leftovers(home: Path) -> list[str]:
    """What should be gone once everything is finished."""
    patterns = ("*.partial", "*.sealing", "*.part", "*.claim", "last.ckpt", ".lock")
    return sorted(str(p.relative_to(home)) for pattern in patterns for p in home.rglob(pattern))


def problems(home: Path) -> list[str]:
    """What passes as finished and cannot be read as such."""
    from ddlight.core import artefact
    from ddlight.core.errors import DDLightError
    from ddlight.core.result import Result
    from ddlight.networks.export import load_student

    wrong = []
    checks = [(artefact.verify, folder) for folder in sealed(home)]
    checks += [(check, folder) for folder in runs(home) for check in (Result.read, load_student)]  # type: ignore[misc]
    for check, folder in checks:
        try:
            check(folder)
        except DDLightError as error:
            wrong.append(str(error))
    return wrong


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Names of what one has and the other lacks, or has otherwise."""
    return sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))


def same(a: Any, b: Any) -> bool:
    """Whether nested containers of arrays and plain values are equal, bit by bit."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return type(a) is type(b) and bool(a == b)

"""How soft labels are: mean entropy in bits, of those of a set or of those that a run's regime kept for it.

`SoftLabel` labels each image once: the teacher of the run's config does so again. `StoredLabel` left its labels in
the cache of condensed sets. Regimes whose labels are made anew at every step keep none.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import entr, softmax

from ddlight.analyze.images import set_images
from ddlight.analyze.sets import LabelledSet
from ddlight.cli.parsing import parse_teacher
from ddlight.core.artefact import read_manifest, verify
from ddlight.core.errors import DataError
from ddlight.core.files import cache_folder
from ddlight.core.result import Result
from ddlight.data.base import RealDataset
from ddlight.networks.device import current_device
from ddlight.networks.teachers import Teacher
from ddlight.sets.labels import LabelStore
from ddlight.sets.opened import run_arguments
from ddlight.sets.store import StoredSet
from ddlight.views.whiten import Whitening

ROWS = 4096
"""Stored labels that are read at once."""


def bits(probabilities: np.ndarray) -> np.ndarray:
    """Entropy of each row of probabilities (n, K), in bits: (n,). Rows are brought to the sum 1 first."""
    p = probabilities.astype(np.float64)
    return np.asarray(entr(p / p.sum(1, keepdims=True)).sum(1) / math.log(2))


def own_entropy(labels: np.ndarray, kind: str) -> float | None:
    """Mean entropy of the labels that a set is stored with, in bits.

    Args:
        labels: classes (N,), or (N, K).
        kind: of (N, K): "probabilities", "logits" (their softmax is taken), or another, which has no entropy: None.
    """
    if labels.ndim == 1:
        return 0.0
    if kind == "logits":
        return mean_entropy([labels], 1.0)
    return float(bits(labels).mean()) if kind == "probabilities" else None


def mean_entropy(parts: Iterable[np.ndarray], temperature: float) -> float:
    """Mean entropy in bits of softmax(logits / T) over parts (n, K), which need not be in memory together."""
    total, count = 0.0, 0
    for part in parts:
        each = bits(softmax(part.astype(np.float64) / temperature, axis=1))
        total, count = total + float(each.sum()), count + len(each)
    return total / count


def label_entropy(
    subject: LabelledSet, stored: StoredSet, dataset: RealDataset, whitening: Whitening | None
) -> tuple[float | None, str]:
    """Mean entropy in bits of a set's labels, or of those that a run's regime kept; None and why where there is none.

    Raises:
        DataError: the run's config is damaged, or its teacher is another by now.
    """
    result = subject.result
    regime = "HardLabel" if result is None else result.regime.partition("(")[0]
    if regime == "HardLabel":
        kind = stored.manifest["labels"]
        entropy = own_entropy(stored.labels, kind)
        return entropy, f"labels are {kind}: no probabilities, so no entropy" if entropy is None else ""
    assert result is not None and subject.run is not None
    if regime not in ("SoftLabel", "StoredLabel"):
        return None, f"{regime} makes labels anew at every step and keeps none"
    config = run_arguments(subject.run, "model")
    if regime == "SoftLabel":
        return _once(config, result, stored, dataset, whitening), ""
    return _kept(config, result)


def _once(
    config: dict[str, Any], result: Result, stored: StoredSet, dataset: RealDataset, whitening: Whitening | None
) -> float:
    """Entropy of the teacher's labels of the clean images, at the temperature of the run."""
    teacher: Teacher = parse_teacher(config["teacher"])
    info = dataset.info
    teacher.load(info.num_classes, info.channels, info.size, info.classes, info.name)
    if teacher.fingerprint() != result.teachers[0].fingerprint:
        raise DataError(f"The teacher {teacher.name} of the run {result.run} has other weights by now.")
    images = set_images(stored, dataset.info, whitening, teacher)
    logits = (teacher.logits(part.to(current_device())).cpu().numpy() for part in images)
    return mean_entropy(logits, _temperature(result))


def _temperature(result: Result) -> float:
    return float(str(result.recipe["temperature"]))


def _kept(config: dict[str, Any], result: Result) -> tuple[float | None, str]:
    """Entropy of the stored labels that belong to a run."""
    if config.get("published"):
        return None, "entropy of published labels is not read"
    folders = (cache_folder(config.get("cache")) / "labels").glob("*/manifest.json")
    folder = next((path.parent for path in folders if _belong(read_manifest(path.parent), config, result)), None)
    if folder is None:
        return None, "the labels that the run stored are there no more"
    temperature = 1.0 if config.get("match") == "mse" else _temperature(result)
    return mean_entropy(_logits(folder), temperature), ""


def _belong(manifest: dict[str, Any], config: dict[str, Any], result: Result) -> bool:
    """Whether stored labels are those of a run: of its set, teachers, seed, batches and views."""
    passes = -(-result.budget.steps // -(-result.set.images // result.budget.batch))
    wanted = {
        "set": result.set.content_sha256,
        "teachers": [teacher.fingerprint for teacher in result.teachers],
        "seed": result.seed,
        "batch": result.budget.batch,
        "keep": config.get("keep", 1.0),
        "storage": config.get("storage", "fp16"),
        "passes": min(config.get("labels_per_image") or passes, passes),
    }
    views = {key: value for key, value in manifest.get("augment", {}).items() if key != "class"}
    augment = {key: list(value) if isinstance(value, tuple) else value for key, value in result.augment.items()}
    return all(manifest.get(key) == value for key, value in wanted.items()) and all(
        augment.get(key) == value for key, value in views.items()
    )


def _logits(folder: Path) -> Iterator[np.ndarray]:
    verify(folder, "the run's command")
    for path in sorted(folder.glob(f"*{LabelStore.suffix}")):
        rows = np.load(path, mmap_mode="r")
        yield from (np.asarray(rows[start : start + ROWS]) for start in range(0, len(rows), ROWS))

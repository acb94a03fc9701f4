"""How soft the labels are that a run's regime kept for its set: read where they lie, or made again where it is quick.

`SoftLabel` labels each image once: the teacher of the run's config does so again. `StoredLabel` left its labels in
the cache of condensed sets. Regimes whose labels are made anew at every step keep none.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ddlight.analyze.entropy import mean_entropy, own_entropy
from ddlight.analyze.pixels import set_images
from ddlight.analyze.sets import Asked
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


def label_entropy(
    asked: Asked, stored: StoredSet, dataset: RealDataset, whitening: Whitening | None
) -> tuple[float | None, str]:
    """Mean entropy in bits of a set's labels, or of those that a run's regime kept; None and why where there is none.

    Raises:
        DataError: the run's config is damaged, or its teacher is another by now.
    """
    result = asked.result
    regime = "HardLabel" if result is None else result.regime.partition("(")[0]
    if regime == "HardLabel":
        kind = stored.manifest["labels"]
        found = own_entropy(stored.labels, kind)
        return found, "" if found is not None else f"labels are {kind}: no probabilities, so no entropy"
    assert result is not None and asked.run is not None
    if regime not in ("SoftLabel", "StoredLabel"):
        return None, f"{regime} makes labels anew at every step and keeps none"
    config = run_arguments(asked.run, "model")
    if regime == "SoftLabel":
        return _once(config, result, stored, dataset, whitening), ""
    return _kept(config, result)


def _once(
    config: dict[str, Any], result: Result, stored: StoredSet, dataset: RealDataset, whitening: Whitening | None
) -> float:
    """Entropy of the teacher's labels of the clean images, at the temperature of the run."""
    teacher: Teacher = parse_teacher(config["teacher"])
    teacher.load(dataset.num_classes, dataset.info.channels, dataset.info.size)
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
    own = [path.parent for path in folders if _belong(read_manifest(path.parent), config, result)]
    if not own:
        return None, "the labels that the run stored are there no more"
    temperature = 1.0 if config.get("match") == "mse" else _temperature(result)
    return mean_entropy(_logits(own[0]), temperature), ""


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
    return all(manifest.get(key) == value for key, value in wanted.items()) and all(
        _plain(result.augment.get(key)) == value for key, value in views.items()
    )


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _logits(folder: Path) -> Iterator[np.ndarray]:
    verify(folder, "the run's command")
    for path in sorted(folder.glob(f"*{LabelStore.suffix}")):
        rows = np.load(path, mmap_mode="r")
        yield from (np.asarray(rows[start : start + ROWS]) for start in range(0, len(rows), ROWS))

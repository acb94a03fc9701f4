"""What lies in a folder: a condensed set or a run, and the real dataset that a set was made from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import yaml

from ddlight.core.artefact import MANIFEST
from ddlight.core.errors import DataError
from ddlight.core.naming import parameters
from ddlight.data.base import RealDataset

if TYPE_CHECKING:
    from torch import Tensor

Labels = TypeVar("Labels", np.ndarray, "Tensor")
RESULT = "result.json"
CONFIG = "config.yaml"


def find(path: Path) -> Path:
    """Return the folder of a condensed set or run, given that folder, its manifest.json or its result.json.

    Raises:
        DataError: there is neither.
    """
    folder = path.parent if path.name in (MANIFEST, RESULT) else path
    if any((folder / name).is_file() for name in (MANIFEST, RESULT)):
        return folder
    if not path.exists():
        raise DataError(f"{path} does not exist. Give the folder of a condensed set or of a run: ddlight show FOLDER")
    if folder.name.endswith(".partial"):
        raise DataError(f"{path} is an unfinished set. Finish it: run its 'ddlight condense' command again.")
    below = sorted({p.parent for name in (MANIFEST, RESULT) for p in folder.rglob(name)})
    first = ", ".join(map(str, below[:3])) + ", ..." * (len(below) > 3)
    raise DataError(
        f"{path} is neither a condensed set (no {MANIFEST}) nor a finished run (no {RESULT}). "
        f"Below it lie: {first or 'none of them'}."
    )


def run_arguments(run: Path, of: str) -> dict[str, Any]:
    """Arguments of a run's `model` or `data`, from its config.yaml. Raises DataError where it is missing or damaged."""
    try:
        arguments: dict[str, Any] = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))[of]["init_args"]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        raise DataError(f"{run / CONFIG} is missing or damaged: the arguments of its {of} cannot be found.") from error
    return arguments


def root_of(run: Path | None) -> str | None:
    """The folder of real data that a run was given (`data.dataset.root` of its config.yaml); None where it was none."""
    if run is None or not (run / CONFIG).is_file():
        return None
    arguments = run_arguments(run, "data")
    while "dataset" in arguments:  # that of NoisyLabels is given inside it
        arguments = arguments["dataset"].get("init_args", {})
    root: str | None = arguments.get("root")
    return root


def open_dataset(manifest: Mapping[str, Any], root: str | None) -> RealDataset:
    """Construct the real dataset that a set was made from, with the options that shape its splits.

    Args:
        manifest: of the set.
        root: folder that holds the data; None means where they were when the set was made.

    Raises:
        DataError: the dataset is none of ddlight's.
    """
    folder = root or manifest.get("dataset_root")
    return _construct(manifest["dataset_identity"], manifest["dataset"], manifest["classes"], folder)


def _construct(identity: Mapping[str, Any], title: str, classes: Sequence[str], root: str | None) -> RealDataset:
    """Construct a dataset from what names it, and the one that it changes, where it is such."""
    from ddlight import data as datasets

    kind = getattr(datasets, identity["name"], None)
    if kind is None:
        raise DataError(f"The set was made from {title}, which is none of ddlight's datasets: ddlight datasets")
    takes = parameters(kind)
    known = {"wnids": classes, **identity, "root": root}
    if "dataset" in identity:
        known["dataset"] = _construct(identity["dataset"], title, classes, root)
    opened: RealDataset = kind(**{key: value for key, value in known.items() if key in takes and value is not None})
    return opened


def hard_classes(labels: Labels) -> Labels:
    """Classes (N,) of labels (N,) or (N, K)."""
    return labels if labels.ndim == 1 else labels.argmax(1)

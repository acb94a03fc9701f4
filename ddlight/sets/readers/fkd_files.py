"""Where the batches of published labels lie, and the order of the images that is written beside them.

| layout | files | order beside them |
|---|---|---|
| FKD: SRe2L, CDA, G-VBSM, EDC | `epoch_{e}/batch_{b}.tar` | none |
| LPLD | the same; pruned ones end within a pass | `sampler_indices_epoch.json`: positions of each pass |
| LPQLD | `batch_{n}.tar`, counted through all passes | `sampler_indices_batch.json`: positions of each batch |
| HALD | `epoch_{e}.tar`, a list of the batches of a pass | `sampler_indices_dict.pt`: positions of each pass |

Pruned labels (LPLD, arXiv 2410.15919, and LPQLD, arXiv 2604.18135) leave out the remainder of each pass that fills no
batch.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ddlight.core import files
from ddlight.core.errors import DataError
from ddlight.networks.torch_file import read_torch_file

BY_PASS = ("sampler_indices_epoch.json", "sampler_indices_dict.pt")
NOT_COMPLETE = (
    "The labels in {} are not complete: {} is missing. Get the missing files again, or move the passes from the first "
    "incomplete one on to another place and use the ones before."
)


@dataclass(frozen=True)
class LabelFiles:
    """The files of a folder of labels.

    Args:
        places: int64 (P, 2): pass and batch within it of every stored batch, in order.
        sizes: bytes of each, int64 (P,).
        path: the file of a pass and batch.
        read: content of a pass and batch; DataError as `read_torch_file`.
        order: positions of the images in the order of each pass, where that is written; empty where it is not.
        missing: files that the last pass lacks.
        one_each: whether each batch has a file of its own, and `sizes` are not shares of a pass's file.
    """

    places: np.ndarray
    sizes: np.ndarray
    path: Callable[[int, int], Path]
    read: Callable[[int, int], Any]
    order: dict[int, np.ndarray] = field(default_factory=dict)
    missing: tuple[Path, ...] = ()
    one_each: bool = True


def find_labels(folder: Path, images: int) -> LabelFiles:
    """Find the label files of a set of so many images.

    Raises:
        DataError: there are none, or some before the last pass are missing.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder} with labels. Unpack the published archive and give its folder.")
    if whole := _numbered(folder, r"epoch_(\d+)\.tar"):
        return _files_of_passes(folder, whole)
    if flat := _numbered(folder, r"batch_(\d+)\.tar"):
        return _flat(folder, flat, images)
    return _folders_of_passes(folder)


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Entries of a folder whose whole name matches `pattern`, by the number in it."""
    matches = ((re.fullmatch(pattern, path.name), path) for path in folder.iterdir())
    return {int(match[1]): path for match, path in matches if match}


def _folders_of_passes(folder: Path) -> LabelFiles:
    def path(epoch: int, index: int) -> Path:
        return folder / f"epoch_{epoch}" / f"batch_{index}.tar"

    passes = _numbered(folder, r"epoch_(\d+)")
    if 0 not in passes:
        inside = next((path.parent for path in sorted(folder.glob("*/epoch_0"))), None)
        advice = f"Did you mean {inside}?" if inside else "Unpack the published archive and give the folder of epoch_0."
        raise DataError(f"{folder} holds no labels: there is no epoch_0 in it. {advice}")
    found = {epoch: _numbered(place, r"batch_(\d+)\.tar") for epoch, place in passes.items()}
    if len(found) > 1 and not found[max(found)]:  # pruning ended with the pass before
        del found[max(found)]
    count, batches = len(found), max(map(len, found.values()))
    lacking = [
        path(epoch, index) for epoch in range(count) for index in range(batches) if index not in found.get(epoch, {})
    ]
    held = len(found.get(count - 1, {}))
    cut = tuple(path(count - 1, index) for index in range(held, batches))
    if batches == 0 or (lacking and tuple(lacking) != cut):
        raise DataError(NOT_COMPLETE.format(folder, _some(lacking or [path(0, 0)])))
    places = [(epoch, index) for epoch in range(count) for index in range(len(found[epoch]))]
    sizes = [found[epoch][index].stat().st_size for epoch, index in places]
    order = _order(folder, *BY_PASS)
    return LabelFiles(np.array(places), np.array(sizes), path, lambda e, i: read_torch_file(path(e, i)), order, cut)


def _flat(folder: Path, found: dict[int, Path], images: int) -> LabelFiles:
    """Batches that are counted through all passes: how many a pass has follows from their size."""
    if lacking := [folder / f"batch_{n}.tar" for n in range(max(found) + 1) if n not in found]:
        raise DataError(NOT_COMPLETE.format(folder, _some(lacking)))
    written = _order(folder, "sampler_indices_batch.json")

    def rows(number: int) -> int:
        if written:
            return len(written[number])
        content = read_torch_file(found[number])
        return len(content[0]) if isinstance(content, list | tuple) and len(content) else 0

    if written and set(written) != set(found):
        raise DataError(f"{folder} holds {len(found)} batches, and the order of {len(written)} is written beside them.")
    batch = max(rows(0), 1)
    full, rest = divmod(images, batch)
    per_pass = full + bool(rest and full in found and rows(full) == rest)
    per_pass = max(per_pass, 1)
    places = np.stack(np.divmod(np.arange(len(found)), per_pass), 1)
    order = {
        epoch: np.concatenate([written[n] for n in np.flatnonzero(places[:, 0] == epoch).tolist()])
        for epoch in (range(int(places[-1, 0]) + 1) if written else ())
    }
    return LabelFiles(
        places,
        np.array([found[n].stat().st_size for n in range(len(found))]),
        lambda epoch, index: found[epoch * per_pass + index],
        lambda epoch, index: read_torch_file(found[epoch * per_pass + index]),
        order,
        tuple(folder / f"batch_{n}.tar" for n in range(len(found), per_pass * (int(places[-1, 0]) + 1))),
    )


def _files_of_passes(folder: Path, found: dict[int, Path]) -> LabelFiles:
    """One file a pass, of which the one that was read last is kept."""
    if lacking := [folder / f"epoch_{n}.tar" for n in range(max(found) + 1) if n not in found]:
        raise DataError(NOT_COMPLETE.format(folder, _some(lacking)))
    kept: dict[int, list[Any]] = {}

    def batches(epoch: int) -> list[Any]:
        if epoch not in kept:
            content = read_torch_file(found[epoch])
            if not isinstance(content, list) or not all(isinstance(batch, list | tuple) for batch in content):
                raise DataError(f"{found[epoch]} holds {type(content).__name__}; a list of batches is expected.")
            kept.clear()
            kept[epoch] = content
        return kept[epoch]

    def read(epoch: int, index: int) -> Any:
        if index >= len(batches(epoch)):
            raise DataError(f"{found[epoch]} holds {len(batches(epoch))} batches, fewer than the first pass.")
        return batches(epoch)[index]

    count = max(1, len(batches(0)))
    places = np.stack(np.divmod(np.arange(len(found) * count), count), 1)
    sizes = np.array([found[epoch].stat().st_size // count for epoch in places[:, 0].tolist()])
    order = _order(folder, *BY_PASS)
    return LabelFiles(places, sizes, lambda epoch, index: found[epoch], read, order, one_each=False)


def _order(folder: Path, *names: str) -> dict[int, np.ndarray]:
    """Positions by pass or batch, int64 (n,) each, of the first of these files that is there.

    Raises DataError where it holds anything else.
    """
    path = next((folder / name for name in names if (folder / name).exists()), None)
    if path is None:
        return {}
    content = read_torch_file(path) if path.suffix == ".pt" else files.read_json(path)
    try:
        order = {int(number): np.asarray(positions) for number, positions in content.items()}
        if any(positions.ndim != 1 or positions.dtype.kind not in "iu" for positions in order.values()):
            raise ValueError("positions are whole numbers")
    except (AttributeError, ValueError, TypeError) as error:
        raise DataError(f"{path} does not hold positions by pass: {error}.") from error
    return {number: positions.astype(np.int64) for number, positions in order.items()}


def _some(paths: list[Path]) -> str:
    return f"{paths[0]} and {len(paths) - 1} more" if len(paths) > 1 else str(paths[0])

"""What do the sets look like? One image of each class per method, drawn with a fixed seed."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ddlight.core.errors import DataError, DDLightError
from ddlight.report.figures import style, trainings
from ddlight.report.statistics import FULL

if TYPE_CHECKING:
    from ddlight.data.base import RealDataset

NEEDS = "the folders of condensed sets that the results name, where they were made"
CLASSES = 10
"""Columns at most; of more classes as many are drawn by lot, the same for every method."""
LIMIT = 1e9
"""Bytes of decoded images that are held; larger sets are read image by image."""

log = logging.getLogger("ddlight")


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """The sets that can be drawn: of every method and ipc the one of the smallest set seed.

    Returns:
        dataset, ipc, row (method), set_seed, folder, run (the folder of a run). Sets that are gone are left out,
            with a line that says so.
    """
    from ddlight.core.artefact import MANIFEST

    t = trainings.finished(frame)
    runs = frame.loc[t.index, "path"].map(lambda path: str(Path(path).parent))
    t = t.assign(folder=frame.loc[t.index, "set.path"], run=runs)[t["method"] != FULL]
    present = t["folder"].map(lambda folder: Path(folder, MANIFEST).is_file()).astype(bool)
    gone = t.loc[~present, "folder"].unique()
    if len(gone):
        log.warning(
            "grids: %d of %d sets are not where they were made, such as %s", len(gone), t["folder"].nunique(), gone[0]
        )
    sets = t[present].sort_values("set_seed", kind="stable").drop_duplicates(["ipc", "row"])
    sets = sets[["dataset", "ipc", "row", "set_seed", "folder", "run"]]
    return sets.sort_values(["ipc", "row"], kind="stable", ignore_index=True)


def draw(data: pd.DataFrame, title: str) -> "style.Figure":
    """One panel per ipc: methods as rows, classes as columns. A set that cannot be read is left out, with a line.

    Raises DataError where no set can be read.
    """
    reals: dict[str, RealDataset] = {}
    strips = {index: strip for index, row in data.iterrows() if (strip := _strip(row, reals)) is not None}
    if not strips:
        raise DataError("none of the sets can be read here")
    data = data.loc[list(strips)]
    ipcs, texts = list(dict.fromkeys(data["ipc"])), trainings.short(data["row"])
    names = list(dict.fromkeys(name for strip in strips.values() for name in strip))
    size = (0.48 * len(names) + 0.4 + style.text_width(texts.values()), 0.5 * data.groupby("ipc").size().max() + 1.2)
    figure, axes = style.panels([trainings.ipc_text(ipc) for ipc in ipcs], title, size, columns=2, sharey=False)
    for panel, ipc in zip(axes, ipcs, strict=True):
        part = data[data["ipc"] == ipc]
        index = dict(zip(part["row"], part.index, strict=True))
        _panel(panel, {texts[row]: strips[index[row]] for row in trainings.method_order(part)}, names)
    return figure


def _panel(panel: "style.Axes", strips: Mapping[str, Mapping[str, np.ndarray]], names: Sequence[str]) -> None:
    for number, strip in enumerate(strips.values()):
        for name, tile in strip.items():
            column = names.index(name)
            panel.imshow(tile, extent=(column, column + 0.95, number + 0.95, number))
    panel.set_xlim(0, len(names))
    panel.set_ylim(len(strips), 0)
    panel.set_yticks(np.arange(len(strips)) + 0.5, list(strips))
    panel.set_xticks(np.arange(len(names)) + 0.5, [name[:14] for name in names], rotation=40, ha="right")
    panel.tick_params(length=0)
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)


def _strip(row: pd.Series, reals: "dict[str, RealDataset]") -> dict[str, np.ndarray] | None:
    """One image of each class that is drawn, uint8 (H, W, 3) by name of the class; None where the set is unreadable.

    `reals` holds the real datasets that were opened, and takes the set's.
    """
    import torch

    from ddlight.core.artefact import read_manifest
    from ddlight.sets import opened, pictures, store

    folder = Path(row["folder"])
    try:
        manifest = read_manifest(folder)
        dataset = _real(manifest, Path(row["run"]), reals) if manifest["kind"] == "indices" else None
        stored = store.load(folder, dataset, LIMIT)
        picked = chosen(opened.hard_classes(np.asarray(stored.labels)), len(manifest["classes"]))
        rows = np.array(list(picked.values()), np.int64)
        dense = isinstance(stored.images, np.ndarray)  # else they are decoded
        images = stored.images[rows if dense else torch.from_numpy(rows)]
        pixels = pictures.tiles(np.asarray(images), *pictures.stretch(stored))
    except DDLightError as error:
        log.warning("grids: %s, %s, left out: %s", row["row"], trainings.ipc_text(row["ipc"]), error)
        return None
    return dict(zip((manifest["classes"][label] for label in picked), pixels, strict=True))


def _real(manifest: Mapping[str, Any], run: Path, reals: "dict[str, RealDataset]") -> "RealDataset":
    """The real dataset of a set, where its run read it; opened once."""
    from ddlight.core import naming
    from ddlight.sets import opened

    root = opened.root_of(run)
    key = naming.digest([manifest["dataset_identity"], manifest["classes"], root, manifest.get("dataset_root")])
    if key not in reals:
        reals[key] = opened.open_dataset(manifest, root)
    return reals[key]


def chosen(labels: np.ndarray, classes: int, most: int = CLASSES) -> dict[int, int]:
    """Which classes are drawn, and which image of each, of labels int (N,): both by lot with a fixed seed.

    Returns:
        Class -> position of its image, in order of classes; classes without images are left out.
    """
    drawn = np.sort(np.random.default_rng(0).permutation(classes)[:most]).tolist()
    images = {label: np.flatnonzero(labels == label) for label in drawn}
    return {label: int(np.random.default_rng([0, label]).choice(at)) for label, at in images.items() if len(at)}

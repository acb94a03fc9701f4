"""Does the ranking of methods survive a change of label regime? A slope chart: one line a method."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ddlight.figures import style
from ddlight.figures.trainings import (
    among,
    in_order,
    ipc_text,
    method_order,
    settings,
    several,
    short,
    summarise,
    trainings,
    with_full,
)
from ddlight.report.statistics import FULL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = "results of the same two methods or more, at one number of images a class, under two label regimes or more"
BY = ["dataset", "student", "ipc", "regime", "settings", "row"]


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and rank of every method in every regime, where two regimes or more have two methods in common.

    Args:
        frame: of one dataset and student, as `ddlight.report.collect.collect` returns it.

    Returns:
        dataset, student, ipc, regime (short), settings (regime with what else differs), row (method), mean over sets,
        its interval, n, and rank: 1 is best, among methods that all of these settings have; missing for others and
        for FullData, which stands where it saw as many images.
    """
    t = in_order(trainings(frame))
    found = summarise(with_full(t.assign(settings=settings(t))).assign(regime=lambda x: x["label"]), BY)
    sets = found[found["row"] != FULL]
    common = several(sets, ["ipc", "row"], "regime")
    common = several(common, ["ipc", "settings"], "row")
    common = several(several(common, ["ipc"], "regime"), ["ipc"], "row")
    full = among(found, common, ["ipc", "settings"]) & (found["row"] == FULL)
    found = found[full | found.index.isin(common.index)].sort_values("ipc", kind="stable")
    return found.assign(rank=_ranks(found)).reset_index(drop=True)


def _ranks(found: pd.DataFrame) -> pd.Series:
    """Rank by mean within each ipc and settings, of the rows that all settings of an ipc have."""
    sets = found[found["row"] != FULL]
    wanted = sets.groupby("ipc")["settings"].transform("nunique")
    complete = sets[sets.groupby(["ipc", "row"])["settings"].transform("nunique") == wanted]
    return complete.groupby(["ipc", "settings"])["mean"].rank(ascending=False, method="first").reindex(found.index)


def draw(data: pd.DataFrame, title: str) -> "Figure":
    """Accuracy above, rank below; one column of panels an ipc."""
    ipcs = list(dict.fromkeys(data["ipc"]))
    rows = method_order(data)
    looks, texts = style.styles(rows), short(rows)
    height = max(2.6, 0.2 * len(rows) + 0.6)
    titles = [ipc_text(ipc) for ipc in ipcs] + [""] * len(ipcs)
    width = max(2.6, 1.15 * data.groupby("ipc")["settings"].nunique().max()) + style.text_width(texts.values())
    figure, axes = style.panels(titles, title, (width, height), columns=len(ipcs), sharey="row")
    axes[0].set_ylabel("test accuracy (%)")
    axes[len(ipcs)].set_ylabel("rank (1 is best)")
    axes[len(ipcs)].invert_yaxis()
    labels = []
    for k, panel in enumerate(axes):
        part, value = data[data["ipc"] == ipcs[k % len(ipcs)]], "mean" if k < len(ipcs) else "rank"
        _slopes(panel, part, value, looks)
        labels.append((panel, _ends(part, value, looks, texts)))
    style.end_labels(figure, labels)
    return figure


def _places(part: pd.DataFrame) -> dict[str, int]:
    return {name: place for place, name in enumerate(dict.fromkeys(part["settings"]))}


def _slopes(panel: "Axes", part: pd.DataFrame, value: str, looks: dict[str, style.Style]) -> None:
    """Lines of one panel."""
    places = _places(part)
    for number, (row, own) in enumerate(part.dropna(subset=[value]).groupby("row")):
        x = own["settings"].map(places).to_numpy(dtype=float)
        panel.plot(x, own[value], **looks[str(row)].keywords)
        if value == "mean":
            shift = 0.012 * (number - part["row"].nunique() / 2)
            style.intervals(panel, x + shift, own, looks[str(row)].colour)
    panel.set_xticks(list(places.values()), [style.wrapped(name, 1.1, 8) for name in places])
    panel.set_xlim(-0.15, len(places) - 0.85)
    if value == "rank":
        panel.set_yticks(np.arange(1, part["rank"].max() + 1))
        panel.grid(visible=False)


def _ends(part: pd.DataFrame, value: str, looks: dict[str, style.Style], texts: dict[str, str]) -> list[style.Label]:
    """Where each line ends, and its name."""
    places = _places(part)
    known = part.dropna(subset=[value])
    last = known.loc[known.assign(place=known["settings"].map(places)).groupby("row")["place"].idxmax()]
    return [
        style.Label(float(places[settings]), float(y), texts[row], looks[row].colour)
        for settings, y, row in zip(last["settings"], last[value], last["row"], strict=True)
    ]

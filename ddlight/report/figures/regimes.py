"""Does the ranking of methods survive a change of label regime? A slope chart: one line a method."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ddlight.report.figures import style
from ddlight.report.figures.trainings import (
    among,
    comparable,
    in_order,
    lengths,
    method_order,
    place_text,
    settings,
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
AXES = {"mean": "test accuracy (%)", "rank": "rank (1 is best)"}
ACROSS = 3
"""Panels side by side."""
PLACE = ["ipc", "length"]
BY = ["dataset", "student", *PLACE, "label", "settings", "row"]


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and rank of every method in every regime, where two regimes or more have two methods in common.

    Args:
        frame: of one dataset and student, as `ddlight.report.collect.collect` returns it.

    Returns:
        dataset, student, ipc, length (full-dataset epochs, where trainings of one regime differ in it), regime (short),
        settings (regime with what else differs), row (method), mean over sets, its interval, n, and rank: 1 is best,
        among methods that all of these settings have; missing for others and for FullData, which stands where it saw
        as many images.
    """
    t = in_order(trainings(frame))
    found = summarise(with_full(t.assign(settings=settings(t, ("protocol", "teachers")), length=lengths(t))), BY)
    common = comparable(found[found["row"] != FULL])
    full = among(found, common, [*PLACE, "settings"]) & (found["row"] == FULL)
    found = found[full | found.index.isin(common.index)].sort_values(PLACE, kind="stable")
    return found.assign(rank=_ranks(found)).rename(columns={"label": "regime"}).reset_index(drop=True)


def _ranks(found: pd.DataFrame) -> pd.Series:
    """Rank by mean within each place and settings, of the rows that all settings of a place have."""
    sets = found[found["row"] != FULL]
    wanted = sets.groupby(PLACE, dropna=False)["settings"].transform("nunique")
    complete = sets[sets.groupby([*PLACE, "row"], dropna=False)["settings"].transform("nunique") == wanted]
    return (
        complete.groupby([*PLACE, "settings"], dropna=False)["mean"]
        .rank(ascending=False, method="first")
        .reindex(found.index)
    )


def draw(data: pd.DataFrame, title: str) -> "Figure":
    """Accuracy above, rank below; one column of panels an ipc and length."""
    parts = [part for _, part in data.groupby(PLACE, dropna=False, sort=False)]
    rows = method_order(data)
    looks, texts = style.styles(rows), short(rows)
    height = max(2.6, 0.2 * len(rows) + 0.6)
    width = max(2.6, 1.15 * max(part["settings"].nunique() for part in parts)) + style.text_width(texts.values())
    across = min(len(parts), ACROSS)
    blocks = [parts[k : k + across] for k in range(0, len(parts), across)]
    places = [(part, value) for block in blocks for value in AXES for part in _padded(block, across)]
    shown = [part is not None and bool(part[value].notna().any()) for part, value in places]
    titles = [_title(part, value) if there else None for (part, value), there in zip(places, shown, strict=True)]
    figure, axes = style.panels(titles, title, (width, height), columns=across, sharey="row")
    labels = []
    for k, panel in zip(np.flatnonzero(shown), axes, strict=True):
        part, value = places[k]
        assert part is not None
        _slopes(panel, part, value, looks, data["rank"].max())
        panel.set_ylabel(AXES[value] if k % across == 0 else "")
        labels.append((panel, _ends(part, value, looks, texts)))
    style.end_labels(figure, labels)
    return figure


def _padded(block: list[pd.DataFrame], count: int) -> list[pd.DataFrame | None]:
    return [*block, *([None] * (count - len(block)))]


def _title(part: pd.DataFrame | None, value: str) -> str:
    return place_text(*part[PLACE].iloc[0]) if part is not None and value == "mean" else ""


def _places(part: pd.DataFrame) -> dict[str, int]:
    return {name: place for place, name in enumerate(dict.fromkeys(part["settings"]))}


def _slopes(panel: "Axes", part: pd.DataFrame, value: str, looks: dict[str, style.Style], lowest: float) -> None:
    """Lines of one panel; `lowest` is the last rank of all panels."""
    places = _places(part)
    known = part.dropna(subset=[value]).assign(place=part["settings"].map(places)).sort_values("place", kind="stable")
    for number, (row, own) in enumerate(known.groupby("row")):
        x = own["place"].to_numpy(dtype=float)
        panel.plot(x, own[value], **looks[str(row)].keywords)
        if value == "mean":
            shift = 0.012 * (number - part["row"].nunique() / 2)
            style.intervals(panel, x + shift, own, looks[str(row)].colour)
    panel.set_xticks(list(places.values()), [style.wrapped(name, 1.1, 8) for name in places])
    panel.set_xlim(-0.15, len(places) - 0.85)
    panel.tick_params(labelbottom=value == "rank")
    if value == "mean":
        style.percent(panel)
    else:
        panel.set_yticks(np.arange(1, lowest + 1))
        panel.set_ylim(lowest + 0.4, 0.6)
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

"""Does the ranking of methods survive a change of label regime? A slope chart: one line per method."""

import numpy as np
import pandas as pd

from ddlight.report.figures import style, trainings
from ddlight.report.statistics import FULL

NEEDS = "results of the same two methods or more, at one number of images a class, under two label regimes or more"
AXES = {"mean": "test accuracy (%)", "rank": "rank (1 is best)"}
ACROSS = 3
"""Panels side by side."""
PLACE = ["ipc", "length"]
BY = ["dataset", "student", *PLACE, "label", "settings", "row"]


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and rank of every method in every regime, where two regimes or more have two methods in common.

    Returns:
        dataset, student, ipc, length (full-dataset epochs, where trainings of one regime differ in it), regime (short),
        settings (regime with what else differs), row (method), mean over sets, its interval, n, and rank: 1 is best,
        among methods that all of these settings have; missing for others and for FullData, which stands where it saw
        as many images.
    """
    t = trainings.in_order(trainings.finished(frame))
    means = trainings.summarise(trainings.with_full(t.assign(length=trainings.lengths(t))), BY)
    common = trainings.comparable(means[means["row"] != FULL])
    full = trainings.among(means, common, [*PLACE, "settings"]) & (means["row"] == FULL)
    means = means[full | means.index.isin(common.index)].sort_values(PLACE, kind="stable")
    sets = means[means["row"] != FULL]
    wanted = sets.groupby(PLACE, dropna=False)["settings"].transform("nunique")
    complete = sets[sets.groupby([*PLACE, "row"], dropna=False)["settings"].transform("nunique") == wanted]
    ranks = complete.groupby([*PLACE, "settings"], dropna=False)["mean"].rank(ascending=False, method="first")
    return means.assign(rank=ranks).rename(columns={"label": "regime"}).reset_index(drop=True)


def draw(data: pd.DataFrame, title: str) -> "style.Figure":
    """Accuracy above, rank below; one column of panels per ipc and length."""
    parts = [part for _, part in data.groupby(PLACE, dropna=False, sort=False)]
    parts = [part.assign(place=pd.factorize(part["settings"])[0]) for part in parts]
    rows = trainings.method_order(data)
    looks, texts = style.styles(rows), trainings.short(rows)
    height = max(2.6, 0.2 * len(rows) + 0.6)
    width = max(2.6, 1.15 * max(part["settings"].nunique() for part in parts)) + style.text_width(texts.values())
    across = min(len(parts), ACROSS)
    titles: list[str | None] = []
    shown = []  # number of the place in a grid of panels, what is drawn there
    for start in range(0, len(parts), across):
        for value in AXES:
            for part in [*parts[start : start + across], *[data[:0]] * (start + across - len(parts))]:
                known = part[value].notna().any()
                shown += [(len(titles), part, value)] if known else []
                text = trainings.place_text(*part[PLACE].iloc[0]) if known and value == "mean" else ""
                titles.append(text if known else None)
    figure, axes = style.panels(titles, title, (width, height), columns=across, sharey="row")
    labels = []
    for (k, part, value), panel in zip(shown, axes, strict=True):
        _slopes(panel, part, value, looks, data["rank"].max())
        panel.set_ylabel(AXES[value] if k % across == 0 else "")
        known = part.dropna(subset=[value])
        ends = known.loc[known.groupby("row")["place"].idxmax()]
        places = zip(ends["place"], ends[value], ends["row"], strict=True)
        labels.append((panel, [style.Label(float(x), float(y), texts[row], looks[row].colour) for x, y, row in places]))
    style.end_labels(figure, labels)
    return figure


def _slopes(panel: "style.Axes", part: pd.DataFrame, value: str, looks: dict[str, style.Style], lowest: float) -> None:
    """Lines of one panel; `lowest` is the last rank of all panels."""
    names = list(dict.fromkeys(part["settings"]))
    known = part.dropna(subset=[value]).sort_values("place", kind="stable")
    for number, (row, line) in enumerate(known.groupby("row")):
        x = line["place"].to_numpy(dtype=float)
        panel.plot(x, line[value], **looks[str(row)].keywords)
        if value == "mean":
            shift = 0.012 * (number - part["row"].nunique() / 2)
            style.intervals(panel, x + shift, line, looks[str(row)].colour)
    panel.set_xticks(range(len(names)), [style.wrapped(name, 1.1, 8) for name in names])
    panel.set_xlim(-0.15, len(names) - 0.85)
    panel.tick_params(labelbottom=value == "rank")
    if value == "mean":
        style.percent(panel)
    else:
        panel.set_yticks(np.arange(1, lowest + 1))
        panel.set_ylim(lowest + 0.4, 0.6)
        panel.grid(visible=False)

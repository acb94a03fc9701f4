"""What does more compute give, for how many images and of which quality? Accuracy against full-dataset epochs."""

import pandas as pd

from ddlight.report.figures import style, trainings
from ddlight.report.statistics import FULL

NEEDS = "results of one method, size of set and regime at two budgets or more"


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of every method and ipc that was trained for several lengths, and of the full data.

    Source: arXiv 2604.18811, Figure 1 (SL+KD) and Figure 2, left (SL).

    Returns:
        dataset, student, settings (regime with what else differs), row (method), ipc (missing for FullData),
        full_epochs, mean over sets, its interval, n. Budgets that come to the same number of images are one.
    """
    t = trainings.in_order(trainings.finished(frame), ["row", "ipc", "full_epochs"])
    t = t.assign(full_epochs=t["full_epochs"].round(6))
    means = trainings.summarise(t, ["dataset", "student", "settings", "row", "ipc", "full_epochs"])
    lines = trainings.several(means[means["row"] != FULL], ["settings", "row", "ipc"], "full_epochs")
    full = means[(means["row"] == FULL) & means["settings"].isin(lines["settings"])]
    return pd.concat([lines, full], ignore_index=True) if len(full) else lines.reset_index(drop=True)


def draw(data: pd.DataFrame, title: str) -> "style.Figure":
    """One panel per regime, one line per method (colour and marker) and ipc (kind of line)."""
    rows, ipcs = trainings.method_order(data), sorted(data["ipc"].dropna().unique())
    looks, texts = style.styles(rows), trainings.short(rows)
    lines = dict(zip(ipcs, style.LINES * len(ipcs), strict=False))
    names = list(dict.fromkeys(data["settings"]))
    figure, axes = style.panels(names, title, (3.6, 3.0))
    for panel, name in zip(axes, names, strict=True):
        part = data[data["settings"] == name]
        for (row, ipc), line in part[part["row"] != FULL].groupby(["row", "ipc"]):
            style.line(panel, line["full_epochs"].tolist(), line, {**looks[row].keywords, "linestyle": lines[ipc]})
        full = part[part["row"] == FULL]  # a line through its budgets, or across the panel where it has one
        if len(full) == 1:
            panel.axhline(full["mean"].iloc[0], color=looks[FULL].colour, linestyle=looks[FULL].line)
        if len(full):
            style.line(panel, full["full_epochs"].tolist(), full, looks[FULL].keywords)
        style.log_axis(panel, data["full_epochs"], "full-dataset epochs")
        style.percent(panel)
    axes[0].set_ylabel("test accuracy (%)")
    methods = [(texts[row], looks[row].keywords if row == FULL else looks[row].point) for row in rows]
    sizes = [(trainings.ipc_text(ipc), {"color": "#444444", "linestyle": lines[ipc]}) for ipc in ipcs]
    style.legend(figure, [*methods, *sizes])
    return figure

"""What does accuracy cost in all? Accuracy against the FLOPs of scoring, synthesis, student and teachers."""

import logging
from typing import Any

import numpy as np
import pandas as pd

from ddlight.report.figures import style, trainings

log = logging.getLogger("ddlight")
NEEDS = "results of two total costs or more under one label regime"
UNKNOWN = np.inf
"""Stands for a cost that is not known, so that the mean of several is not known where one of them is not."""
BY = ["dataset", "student", "settings", "row", "ipc", "budget_unit", "budget_asked"]
FRONT: dict[str, Any] = {
    "color": "#444444",
    "linewidth": 0.9,
    "marker": "o",
    "markerfacecolor": "none",
    "markersize": 13.0,
}


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and total cost of everything that was trained.

    A scoring run that several sets share is charged to each in full. What trained a teacher, or a generator that others
    published, is in none. Where nobody recorded what a set cost, it is left out, with a line that says so.

    Returns:
        dataset, student, settings (regime with what else differs), row (method), ipc (missing for FullData),
        budget_unit, budget_asked, flops, mean over sets, its interval, n, and front: no other of its settings is both
        cheaper (or as cheap) and better.
    """
    t = trainings.in_order(trainings.finished(frame))
    means = trainings.summarise(t.assign(flops=t["flops"].fillna(UNKNOWN)), BY, ["flops"])
    unknown = means["flops"] == UNKNOWN
    if unknown.any():
        rows = ", ".join(dict.fromkeys(means.loc[unknown, "row"]))
        log.warning("cost: left out: %s: nobody recorded what the sets cost", rows)
    known = trainings.several(means[~unknown & (means["flops"] > 0)], ["settings"], "flops")
    order = known.sort_values(["settings", "flops", "mean"], ascending=[True, True, False], kind="stable")
    best_before = order.groupby("settings")["mean"].transform(lambda mean: mean.cummax().shift(fill_value=-1.0))
    return known.assign(front=order["mean"] > best_before).reset_index(drop=True)


def draw(data: pd.DataFrame, title: str) -> "style.Figure":
    """One panel per regime; colour and marker for the method, size for the ipc, a stair and rings for the front."""
    rows, ipcs = trainings.method_order(data), sorted(data["ipc"].dropna().unique())
    looks, texts = style.styles(rows), trainings.short(rows)
    sizes = {ipc: 4.0 + 5.0 * k / max(1, len(ipcs) - 1) for k, ipc in enumerate(ipcs)}
    names = list(dict.fromkeys(data["settings"]))
    figure, axes = style.panels(names, title, (3.9, 3.2))
    for panel, name in zip(axes, names, strict=True):
        part = data[data["settings"] == name]
        front = part[part["front"]].sort_values("flops")
        panel.plot(front["flops"], front["mean"], **FRONT, drawstyle="steps-post", zorder=1)
        for row, ipc, flops, mean in zip(part["row"], part["ipc"], part["flops"], part["mean"], strict=True):
            panel.plot([flops], [mean], **looks[row].point, markersize=sizes.get(ipc, 11.0))
        style.log_axis(panel, data["flops"], "FLOPs: scoring + synthesis + student + teachers")
    axes[0].set_ylabel("test accuracy (%)")
    ring = {"color": "#444444", "marker": "o", "linestyle": "none"}
    scale = [(trainings.ipc_text(ipc), {**ring, "markersize": size}) for ipc, size in sizes.items()]
    style.legend(figure, [*((texts[row], looks[row].point) for row in rows), *scale, ("Pareto front", FRONT)])
    return figure

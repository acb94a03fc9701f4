"""What does accuracy cost in all? Accuracy against the FLOPs of scoring, synthesis, student and teachers."""

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ddlight.report.figures import style
from ddlight.report.figures.trainings import (
    in_order,
    ipc_text,
    method_order,
    settings,
    several,
    short,
    summarise,
    trainings,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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

    Args:
        frame: of one dataset and student, as `ddlight.report.collect.collect` returns it.

    Returns:
        dataset, student, settings (regime with what else differs), row (method), ipc (missing for FullData),
        budget_unit, budget_asked, flops, mean over sets, its interval, n, and front: no other of its settings is both
        cheaper (or as cheap) and better.
    """
    t = in_order(trainings(frame))
    named = t.assign(settings=settings(t, ("protocol", "teachers")), flops=t["flops"].fillna(UNKNOWN))
    found = _known(summarise(named, BY, ["flops"]))
    found = several(found[found["flops"] > 0], ["settings"], "flops")
    return found.assign(front=_front(found)).reset_index(drop=True)


def _known(found: pd.DataFrame) -> pd.DataFrame:
    """The rows whose cost is known; a line says which methods' is not."""
    unknown = found["flops"] == UNKNOWN
    if unknown.any():
        rows = ", ".join(dict.fromkeys(found.loc[unknown, "row"]))
        log.warning("cost: left out: %s: nobody recorded what the sets cost", rows)
    return found[~unknown]


def _front(found: pd.DataFrame) -> pd.Series:
    """Whether a row is better than every cheaper one of its settings."""
    order = found.sort_values(["settings", "flops", "mean"], ascending=[True, True, False], kind="stable")
    best_before = order.groupby("settings")["mean"].transform(lambda mean: mean.cummax().shift(fill_value=-1.0))
    return (order["mean"] > best_before).reindex(found.index)


def draw(data: pd.DataFrame, title: str) -> "Figure":
    """One panel a regime; colour and marker for the method, size for the ipc, a stair and rings for the front."""
    rows, ipcs = method_order(data), sorted(data["ipc"].dropna().unique())
    looks, texts = style.styles(rows), short(rows)
    sizes = {ipc: 4.0 + 5.0 * k / max(1, len(ipcs) - 1) for k, ipc in enumerate(ipcs)}
    names = list(dict.fromkeys(data["settings"]))
    figure, axes = style.panels(names, title, (3.9, 3.2))
    for panel, name in zip(axes, names, strict=True):
        part = data[data["settings"] == name]
        _stair(panel, part[part["front"]])
        for row, ipc, flops, mean in zip(part["row"], part["ipc"], part["flops"], part["mean"], strict=True):
            panel.plot([flops], [mean], **{**looks[row].keywords, "linestyle": "none"}, markersize=sizes.get(ipc, 11.0))
        style.log_axis(panel, data["flops"], "FLOPs: scoring + synthesis + student + teachers")
    axes[0].set_ylabel("test accuracy (%)")
    methods = [(texts[row], {**looks[row].keywords, "linestyle": "none"}) for row in rows]
    shown = {"color": "#444444", "marker": "o", "linestyle": "none"}
    scale = [(ipc_text(ipc), {**shown, "markersize": size}) for ipc, size in sizes.items()]
    style.legend(figure, [*methods, *scale, ("Pareto front", FRONT)])
    return figure


def _stair(panel: "Axes", front: pd.DataFrame) -> None:
    """Draw the Pareto front."""
    front = front.sort_values("flops")
    panel.plot(front["flops"], front["mean"], **FRONT, drawstyle="steps-post", zorder=1)

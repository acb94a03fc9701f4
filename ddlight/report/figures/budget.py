"""What does more compute give, for how many images and of which quality? Accuracy against full-dataset epochs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

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
from ddlight.report.statistics import FULL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = "results of one method, size of set and regime at two budgets or more"


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of every method and ipc that was trained for several lengths, and of the full data.

    Source: arXiv 2604.18811, Figure 1 (SL+KD) and Figure 2, left (SL).

    Args:
        frame: of one dataset and student, as `ddlight.report.collect.collect` returns it.

    Returns:
        dataset, student, settings (regime with what else differs), row (method), ipc (missing for FullData),
        full_epochs, mean over sets, its interval, n. Budgets that come to the same number of images are one.
    """
    t = in_order(trainings(frame), ["row", "ipc", "full_epochs"])
    t = t.assign(settings=settings(t, ("protocol", "teachers")), full_epochs=t["full_epochs"].round(6))
    found = summarise(t, ["dataset", "student", "settings", "row", "ipc", "full_epochs"])
    lines = several(found[found["row"] != FULL], ["settings", "row", "ipc"], "full_epochs")
    full = found[(found["row"] == FULL) & found["settings"].isin(lines["settings"])]
    return pd.concat([lines, full], ignore_index=True) if len(full) else lines.reset_index(drop=True)


def draw(data: pd.DataFrame, title: str) -> "Figure":
    """One panel a regime, one line a method (colour and marker) and ipc (kind of line)."""
    rows, ipcs = method_order(data), sorted(data["ipc"].dropna().unique())
    looks, texts = style.styles(rows), short(rows)
    lines = dict(zip(ipcs, style.LINES * len(ipcs), strict=False))
    names = list(dict.fromkeys(data["settings"]))
    figure, axes = style.panels(names, title, (3.6, 3.0))
    for panel, name in zip(axes, names, strict=True):
        part = data[data["settings"] == name]
        for (row, ipc), own in part[part["row"] != FULL].groupby(["row", "ipc"]):
            keywords = {**looks[row].keywords, "linestyle": lines[ipc]}
            style.line(panel, own["full_epochs"].tolist(), own, keywords)
        _full(panel, part[part["row"] == FULL])
        style.log_axis(panel, data["full_epochs"], "full-dataset epochs")
        style.percent(panel)
    axes[0].set_ylabel("test accuracy (%)")
    style.legend(figure, _entries(rows, looks, texts, ipcs, lines))
    return figure


def _full(panel: "Axes", full: pd.DataFrame) -> None:
    """The full data: a line through its budgets, or across the panel where it has one."""
    keywords = style.styles([FULL])[FULL].keywords
    if len(full) == 1:
        panel.axhline(full["mean"].iloc[0], color=keywords["color"], linestyle=keywords["linestyle"])
    if len(full):
        style.line(panel, full["full_epochs"].tolist(), full, keywords)


def _entries(
    rows: Sequence[str],
    looks: dict[str, style.Style],
    texts: dict[str, str],
    ipcs: Sequence[float],
    lines: dict[float, object],
) -> list[tuple[str, dict[str, object]]]:
    """Legend: methods, then sizes."""
    methods = [(texts[row], {**looks[row].keywords, **({} if row == FULL else {"linestyle": "none"})}) for row in rows]
    sizes = [(ipc_text(ipc), {"color": "#444444", "linestyle": lines[ipc]}) for ipc in ipcs]
    return [*methods, *sizes]

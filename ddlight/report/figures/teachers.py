"""Does a stronger teacher lift the ceiling? Students of weak and strong teachers against budget, or size of set."""

import json
from typing import TYPE_CHECKING, Any

import pandas as pd

from ddlight.report.figures import style
from ddlight.report.figures.trainings import in_order, ipc_text, settings, several, short, summarise, trainings
from ddlight.report.statistics import FULL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = "results of two teachers or more for one method and regime, at two budgets or sizes of set or more"
LINE = ["settings", "row", "teacher"]


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of students by teacher, budget and ipc, with each teacher's own.

    Source: arXiv 2604.18811, Figure 4.

    Args:
        frame: of one dataset and student, as `ddlight.report.collect.collect` returns it.

    Returns:
        dataset, student, settings (regime with what else differs), row (method), teacher (names joined by " + "),
        teacher_acc (percent; missing for several teachers and where it was not measured), ipc, full_epochs, mean over
        sets, its interval, n.
    """
    t = trainings(frame)
    known = frame.loc[t.index, "teachers"].map(json.loads)
    t = t.assign(
        teacher=t["teachers"],
        teacher_acc=known.map(lambda all_of: all_of[0]["acc"] if len(all_of) == 1 else None).astype(float),
        full_epochs=t["full_epochs"].round(6),
    )
    t = in_order(t[(t["teachers"] != "") & (t["method"] != FULL)], ["row", "ipc", "full_epochs"])
    by = ["dataset", "student", *LINE, "teacher_acc", "ipc", "full_epochs"]
    found = summarise(t.assign(settings=settings(t, ["protocol"])), by)
    point = found["ipc"].astype(str) + found["full_epochs"].map(" {:g}".format)
    found = several(several(found.assign(point=point), LINE, "point"), ["settings", "row"], "teacher")
    return found.drop(columns="point").reset_index(drop=True)


def draw(data: pd.DataFrame, title: str) -> "Figure":
    """One panel a regime and method; one line a teacher, its own accuracy dashed.

    x is the budget where one ipc has several, with one kind of line an ipc; else images a class.
    """
    places = list(dict.fromkeys(zip(data["settings"], data["row"], strict=True)))
    teachers, ipcs = list(dict.fromkeys(data["teacher"])), sorted(data["ipc"].unique())
    looks, texts, methods = style.styles(teachers), short(teachers), short(data["row"])
    budgets = not several(data, [*LINE, "ipc"], "full_epochs").empty
    lines = {ipc: style.LINES[k % len(style.LINES)] if budgets else "-" for k, ipc in enumerate(ipcs)}
    figure, axes = style.panels([f"{name}: {methods[row]}" for name, row in places], title, (3.6, 2.9))
    for panel, (name, row) in zip(axes, places, strict=True):
        own = data[(data["settings"] == name) & (data["row"] == row)]
        for (teacher, *size), part in own.groupby(["teacher", "ipc"] if budgets else ["teacher"]):
            look = {**looks[teacher].keywords, "linestyle": lines[size[0]] if size else "-"}
            style.line(panel, part["full_epochs" if budgets else "ipc"].tolist(), part, look)
        _ceilings(panel, own, looks)
        style.log_axis(panel, data["full_epochs" if budgets else "ipc"], AXES[budgets])
    axes[0].set_ylabel("test accuracy (%)")
    entries = [(texts[name], {**looks[name].keywords, "linestyle": "none" if budgets else "-"}) for name in teachers]
    entries += [(ipc_text(ipc), {"color": "#444444", "linestyle": lines[ipc]}) for ipc in ipcs] if budgets else []
    style.legend(figure, [*entries, ("the teacher itself", {"color": "#444444", **CEILING})])
    return figure


AXES = {True: "full-dataset epochs", False: "images a class"}
CEILING: dict[str, Any] = {"linestyle": (0, (2, 2)), "linewidth": 1.0}


def _ceilings(panel: "Axes", own: pd.DataFrame, looks: dict[str, style.Style]) -> None:
    for teacher, acc in own.dropna(subset=["teacher_acc"]).groupby("teacher")["teacher_acc"].first().items():
        panel.axhline(acc, color=looks[str(teacher)].colour, **CEILING)

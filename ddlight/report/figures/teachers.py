"""Does a stronger teacher lift the ceiling? Students of weak and strong teachers against budget, or size of set."""

import json
from typing import Any

import pandas as pd

from ddlight.report.figures import style, trainings
from ddlight.report.statistics import FULL

NEEDS = "results of two teachers or more for one method and regime, at two budgets or sizes of set or more"
LINE = ["settings", "row", "teacher"]
AXES = {True: "full-dataset epochs", False: "images a class"}
CEILING: dict[str, Any] = {"linestyle": (0, (2, 2)), "linewidth": 1.0}


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of students by teacher, budget and ipc, with the accuracy of each teacher.

    Source: arXiv 2604.18811, Figure 4.

    Returns:
        dataset, student, settings (regime with what else differs), row (method), teacher (names joined by " + "),
        teacher_acc (percent; missing for several teachers and where it was not measured), ipc, full_epochs, mean over
        sets, its interval, n.
    """
    t = trainings.finished(frame)
    known = frame.loc[t.index, "teachers"].map(json.loads)
    t = t.assign(
        teacher=t["teachers"],
        teacher_acc=known.map(lambda several: several[0]["acc"] if len(several) == 1 else None).astype(float),
        full_epochs=t["full_epochs"].round(6),
    )
    t = t[(t["teachers"] != "") & (t["method"] != FULL)]
    t = trainings.in_order(t, ["row", "ipc", "full_epochs"], parts=["protocol"])
    means = trainings.summarise(t, ["dataset", "student", *LINE, "teacher_acc", "ipc", "full_epochs"])
    point = means["ipc"].astype(str) + means["full_epochs"].map(" {:g}".format)
    lines = trainings.several(means.assign(point=point), LINE, "point").drop(columns="point")
    return trainings.several(lines, ["settings", "row"], "teacher").reset_index(drop=True)


def draw(data: pd.DataFrame, title: str) -> "style.Figure":
    """One panel per regime and method; one line per teacher, whose own accuracy is dashed.

    x is the budget where one ipc has several, with one kind of line per ipc; else images per class.
    """
    places = trainings.distinct(data, "settings", "row")
    teachers, ipcs = list(dict.fromkeys(data["teacher"])), sorted(data["ipc"].unique())
    looks, texts, methods = style.styles(teachers), trainings.short(teachers), trainings.short(data["row"])
    budgets = not trainings.several(data, [*LINE, "ipc"], "full_epochs").empty
    x = "full_epochs" if budgets else "ipc"
    lines = {ipc: style.LINES[k % len(style.LINES)] if budgets else "-" for k, ipc in enumerate(ipcs)}
    figure, axes = style.panels([f"{name}: {methods[row]}" for name, row in places], title, (3.6, 2.9))
    for panel, (name, row) in zip(axes, places, strict=True):
        part = data[(data["settings"] == name) & (data["row"] == row)]
        for (teacher, *size), line in part.groupby(["teacher", "ipc"] if budgets else ["teacher"]):
            look = {**looks[teacher].keywords, "linestyle": lines[size[0]] if size else "-"}
            style.line(panel, line[x].tolist(), line, look)
        ceilings = part.dropna(subset=["teacher_acc"]).groupby("teacher")["teacher_acc"].first()
        for teacher, acc in ceilings.items():
            panel.axhline(acc, color=looks[str(teacher)].colour, **CEILING)
        style.log_axis(panel, data[x], AXES[budgets])
    axes[0].set_ylabel("test accuracy (%)")
    entries = [(texts[name], {**looks[name].keywords, "linestyle": "none" if budgets else "-"}) for name in teachers]
    if budgets:
        entries += [(trainings.ipc_text(ipc), {"color": "#444444", "linestyle": lines[ipc]}) for ipc in ipcs]
    style.legend(figure, [*entries, ("the teacher itself", {"color": "#444444", **CEILING})])
    return figure

"""Do sets suit other students than the one they were made with? A heat map: student by method."""

import numpy as np
import pandas as pd

from ddlight.report.figures import style, trainings

NEEDS = "results of two students or more on sets of one method"


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of every student on every method's sets, where there are two students or more.

    Returns:
        dataset, settings (regime with what else differs), ipc, student, row (method), mean over sets, interval, n.
    """
    t = trainings.finished(frame)
    t = trainings.in_order(t[t["ipc"].notna()], parts=("protocol", "teachers", "budget"))
    means = trainings.summarise(t, ["dataset", "settings", "ipc", "student", "row"])
    return trainings.several(means, ["settings", "ipc", "row"], "student").reset_index(drop=True)


def draw(data: pd.DataFrame, title: str) -> "style.Figure":
    """One heat map per regime and ipc; the number in a cell is its accuracy, an empty cell was not run."""
    places = trainings.distinct(data, "settings", "ipc")
    rows = trainings.method_order(data)
    students = trainings.short(sorted(dict.fromkeys(data["student"])))
    titles = [f"{name}, {trainings.ipc_text(ipc)}" for name, ipc in places]
    width = max(2.6, 0.55 * len(rows))
    size = (width + 0.5 + style.text_width(students.values()), 1.9 + 0.34 * len(students))
    figure, axes = style.panels(titles, title, size, columns=1 if len(rows) > 5 else 2, room=width)
    low, high = float(data["mean"].min()), float(data["mean"].max())
    methods = list(trainings.short(rows).values())
    for panel, (name, ipc) in zip(axes, places, strict=True):
        part = data[(data["settings"] == name) & (data["ipc"] == ipc)]
        table = part.pivot(index="student", columns="row", values="mean").reindex(index=list(students), columns=rows)
        values = table.to_numpy(dtype=float)
        panel.imshow(values, cmap="cividis", vmin=low, vmax=max(high, low + 1e-9), aspect="auto")
        panel.grid(visible=False)
        for y, x in np.argwhere(np.isfinite(values)):
            colour = "white" if values[y, x] < (low + high) / 2 else "black"
            text = f"{values[y, x]:.1f}"
            panel.text(x, y, text, ha="center", va="center", color=colour, fontsize=style.LABEL_SIZE)
        panel.set_yticks(range(len(students)), list(students.values()))
        panel.set_xticks(range(len(rows)), methods, rotation=40, ha="right", rotation_mode="anchor")
    return figure

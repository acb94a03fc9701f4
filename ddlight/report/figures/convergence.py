"""Do distilled sets need longer training than coresets? Top-1 error against epochs of training."""

from pathlib import Path

import pandas as pd

from ddlight.report.figures import style, trainings
from ddlight.report.statistics import FULL

NEEDS = "results of one method, size of set and regime at two lengths or more, or runs with --model.test_curve=20"
CURVE = "test_curve.csv"
KINDS = {"distilled": "-", "coreset": "--", "random": "-.", "other": ":"}
NAMES = {"distilled": "distilled sets", "coreset": "coresets", "random": "random subsets", "other": "other sets"}
BY = ["dataset", "student", "settings", "ipc", "row", "kind", "what", "length", "passes"]


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """Error after trainings of different lengths, and within a training where the test split was read during it.

    Source: arXiv 2604.18811, Figure 8. `test_curve.csv` beside a result has the columns step, images and acc.

    Returns:
        dataset, student, settings (regime with what else differs but length), ipc, row (method), kind ("distilled",
        "coreset", "random", "other"), what ("run": one point per length; "curve": readings within one), length of the
        whole training and passes until then (both in passes over the set), mean error over sets in percent, its
        interval, n.

    Raises:
        DataError: a `test_curve.csv` is damaged.
    """
    t = trainings.finished(frame)
    t = trainings.in_order(t[t["method"] != FULL], ["ipc", "row", "passes"])
    t = t.assign(passes=t["passes"].round(6), error=100 - t["acc"], what="run")
    t = t.assign(length=t["passes"])
    runs = trainings.several(trainings.summarise(t, BY, value="error"), ["settings", "ipc", "row"], "passes")
    readings = [_readings(run, Path(frame["path"][index]).with_name(CURVE)) for index, run in t.iterrows()]
    read = [part for part in readings if len(part)]
    parts = [runs, *([trainings.summarise(pd.concat(read, ignore_index=True), BY, value="error")] if read else [])]
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def _readings(run: pd.Series, file: Path) -> pd.DataFrame:
    """Error at every reading of the test split within a run, the last one included; nothing where it was read once."""
    if not file.is_file():
        return pd.DataFrame()
    read = trainings.read_curve(file, ["images", "acc"])
    passes = [*(read["images"] / run["images_seen"] * run["length"]).round(6), run["length"]]
    same = {name: run[name] for name in (*BY, "condensed") if name not in ("what", "passes")}
    return pd.DataFrame({"passes": passes, "error": [*(100 - read["acc"]), run["error"]]}).assign(what="curve", **same)


def draw(data: pd.DataFrame, title: str) -> "style.Figure":
    """One panel per regime and ipc: distilled sets solid, coresets dashed, Random dash-dotted; within one run thin."""
    places = trainings.distinct(data, "settings", "ipc")
    rows = trainings.method_order(data)
    texts, kinds = trainings.short(rows), dict(zip(data["row"], data["kind"], strict=True))
    looks = {row: style.Style(s.colour, s.marker, KINDS[kinds[row]]) for row, s in style.styles(rows).items()}
    figure, axes = style.panels([f"{name}, {trainings.ipc_text(ipc)}" for name, ipc in places], title, (3.6, 2.9))
    for panel, (name, ipc) in zip(axes, places, strict=True):
        part = data[(data["settings"] == name) & (data["ipc"] == ipc)]
        for row, line in part[part["what"] == "run"].groupby("row"):
            style.line(panel, line["passes"].tolist(), line, looks[str(row)].keywords)
        for (row, _), line in part[part["what"] == "curve"].groupby(["row", "length"]):
            panel.plot(line["passes"], line["mean"], **{**looks[row].keywords, "marker": "", "linewidth": 0.8})
        style.log_axis(panel, data["passes"], "epochs: passes over the set")
    axes[0].set_ylabel("top-1 error (%)")
    entries = [(texts[row], looks[row].keywords) for row in rows]
    drawn = [kind for kind in KINDS if kind in kinds.values()]
    entries += [(NAMES[kind], {"color": "#444444", "linestyle": KINDS[kind]}) for kind in drawn]
    if (data["what"] == "curve").any():
        entries.append(("within one training", {"color": "#444444", "linewidth": 0.8}))
    style.legend(figure, entries)
    return figure

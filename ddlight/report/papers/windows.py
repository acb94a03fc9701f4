"""How much does the difficulty of the chosen images matter? Accuracy over windows of the EL2N ranking, by regime."""

import json
from typing import Any

import numpy as np
import pandas as pd

from ddlight.report.figures import spread, style, trainings

NEEDS = (
    "results of two windows or more of the EL2N ranking: EL2NBest with one offset each (data.offsets: [0.2]), "
    "or EL2N with data.keep easy and hard"
)
PLACE = ["ipc", "length"]
BY = ["dataset", "student", *PLACE, "settings", "what", "window"]


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by window, and the range over windows within one set number.

    Source: arXiv 2604.18811, Figure 2, right. A window of ipc images in a row of each class's order from hard to easy
    is EL2NBest with one offset; EL2N with `keep` hard and easy is the first and the last.

    Returns:
        dataset, student, ipc, length (full-dataset epochs, where trainings of one regime differ in it), settings
        (regime with what else differs), what ("acc": accuracy at a window, "range": points between the best and the
        worst of the windows that all regimes have), window (0 hardest, 1 easiest; missing for a range), mean, its
        interval, n (sets; set numbers for a range).
    """
    t = trainings.finished(frame)
    full = frame.loc[t.index, "budget.images_seen"] / frame.loc[t.index, "budget.full_epochs"]
    slack = full / frame.loc[t.index, "set.classes"] - t["ipc"]
    args = frame.loc[t.index, "set.args"].map(json.loads)
    places = [window(*facts) for facts in zip(t["method"], args, t["ipc"], slack, strict=True)]
    t = t.assign(window=np.round(np.array(places, dtype=float), 3), what="acc")
    t = trainings.in_order(t[t["window"].notna()], ["ipc", "window"])
    t = t.assign(length=trainings.lengths(t))
    means = trainings.several(trainings.summarise(t, BY), [*PLACE, "settings"], "window")
    means = means.sort_values(PLACE, kind="stable")
    return pd.concat([means, _ranges(t)] if len(means) else [means], ignore_index=True)


def window(method: str, args: dict[str, Any], ipc: float, slack: float) -> float | None:
    """Where a set's window begins: 0 the hardest images of each class, 1 the easiest; None for another kind of set.

    Args:
        method: class name.
        args: its arguments that are not defaults.
        ipc: images per class of the set.
        slack: images of a class beside those.
    """
    if method == "EL2N" and not {"balance", "signal", "at"} & args.keys():
        return 1.0 if args.get("keep") == "easy" else 0.0
    offsets = args.get("offsets", ())
    if method != "EL2NBest" or len(offsets) != 1:
        return None
    unit = {"slack": slack, "class": slack + ipc, "ipc": ipc}[args.get("unit", "slack")]
    return min(1.0, float(offsets[0]) * unit / slack) if slack > 0 else None


def _ranges(t: pd.DataFrame) -> pd.DataFrame:
    """Range over windows within one set number, of the windows that all regimes have."""
    rows = []
    groups = trainings.comparable(t.assign(row=t["window"])).groupby(["dataset", "student", *PLACE], dropna=False)
    for place, trained in groups:
        for name, table in spread.tables(trained).items():
            mean, low, high, n, _ = spread.spreads(table)[0][2:]
            rows.append([*place, name, "range", np.nan, mean, low, high, n])
    return pd.DataFrame(rows, columns=[*BY, "mean", "ci_low", "ci_high", "n"])


def draw(data: pd.DataFrame, title: str) -> "style.Figure":
    """One row of panels per ipc and length: accuracy over windows, one line per regime; beside it the range."""
    names = list(dict.fromkeys(data["settings"]))
    parts = [part for _, part in data.groupby(PLACE, dropna=False, sort=False)]
    looks = style.styles(names)
    places = [trainings.place_text(*part[PLACE].iloc[0]) for part in parts]
    titles = [text for place in places for text in (place, "range over windows")]
    figure, axes = style.panels(titles, title, (max(3.3, 1.1 * len(names)), 2.8), columns=2, sharey=False)
    for k, part in enumerate(parts):
        panel, beside = axes[2 * k : 2 * k + 2]
        for name, line in part[part["what"] == "acc"].groupby("settings", sort=False):
            style.line(panel, line["window"].tolist(), line, looks[str(name)].keywords)
        panel.set_xlabel("window of EL2N (0 hardest, 1 easiest)")
        panel.set_ylabel("test accuracy (%)")
        ranges = part[part["what"] == "range"]
        for place, (name, bar) in enumerate(ranges.groupby("settings", sort=False)):
            style.line(beside, [place], bar, looks[str(name)].keywords)
        beside.set_xticks(range(len(ranges)), [style.wrapped(name, 0.9, 8) for name in ranges["settings"]])
        beside.set_xlim(-0.5, max(0.5, len(ranges) - 0.5))
        beside.set_ylim(bottom=0)
        beside.set_ylabel("best - worst window (points)")
        if ranges.empty:
            text = "needs the same windows\nunder two regimes"
            beside.text(0, 0.5, text, ha="center", va="center", color=style.GREY)
    style.legend(figure, [(name, looks[name].keywords) for name in names])
    return figure

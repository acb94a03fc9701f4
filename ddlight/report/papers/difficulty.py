"""How hard are the training images while a student learns them? Deciles of EL2N and EL2N-SL during training."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from ddlight.report.figures import style, trainings

NEEDS = "runs that record how hard their images are, in difficulty.csv: --model.difficulty_curve=20"
FILE = "difficulty.csv"
DECILES = [f"q{10 * k}" for k in range(11)]
SCORES = {"el2n": "EL2N", "el2n_sl": "EL2N-SL"}
DRAWN = 6
"""Methods and sizes that are drawn, one row of panels each; the CSV has all."""

COLOUR = style.PALETTE[0]
SHADES = (0.16, 0.2, 0.28, 0.38)
"""Opacity of the bands from the outer to the inner; each covers those outside it."""
LEGEND: list[tuple[str, dict[str, Any]]] = [
    ("median", {"color": COLOUR, "linestyle": "-"}),
    ("mean", {"color": "black", "linestyle": "--"}),
    *(
        (f"{10 * k} to {100 - 10 * k} % of images", {"color": COLOUR, "linewidth": 7, "alpha": a})
        for k, a in zip(range(1, 5), (0.16, 0.33, 0.52, 0.7), strict=True)
    ),
    ("easiest, hardest image", {"color": COLOUR, "linestyle": ":"}),
]

log = logging.getLogger("ddlight")


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """Deciles over training images, averaged over trainings, at each recorded point of the run.

    Source: arXiv 2604.18811, Figure 2, middle, and Definition 1 (EL2N-SL); EL2N is that of arXiv 2107.07075.

    `difficulty.csv` beside each result has the columns step, progress (in [0, 1]), score ("el2n", "el2n_sl"), mean, q0,
    q10, ..., q100.

    Returns:
        dataset, student, settings (regime with what else differs), row (method), ipc, score, progress, mean, q0 to
        q100, n (trainings).

    Raises:
        DataError: a `difficulty.csv` is damaged.
    """
    t = trainings.in_order(trainings.finished(frame), parts=("protocol", "teachers", "budget"))
    t = t.assign(file=frame.loc[t.index, "path"].map(lambda path: Path(path).with_name(FILE)))
    parts = [_read(run) for _, run in t.iterrows() if run["file"].is_file()]
    by = ["dataset", "student", "settings", "row", "ipc", "score", "progress"]
    if not parts:
        return pd.DataFrame(columns=[*by, "mean", *DECILES, "n"])
    groups = pd.concat(parts, ignore_index=True).groupby(by, sort=False, dropna=False)
    points = groups[["mean", *DECILES]].mean().assign(n=groups.size()).reset_index()
    return points.sort_values("progress", kind="stable").sort_values(["row", "ipc"], kind="stable", ignore_index=True)


def _read(run: pd.Series) -> pd.DataFrame:
    points = trainings.read_curve(run["file"], ["progress", "mean", *DECILES], ["score"])
    labels = {name: run[name] for name in ("dataset", "student", "settings", "row", "ipc")}
    return points[points["score"].isin(list(SCORES))].assign(progress=points["progress"].round(4), **labels)


def draw(data: pd.DataFrame, title: str) -> "style.Figure":
    """One row of panels per method and size, one panel per regime and score: bands of deciles, median and mean."""
    sets = trainings.distinct(data, "row", "ipc")
    columns = sorted(trainings.distinct(data, "settings", "score"), key=lambda place: list(SCORES).index(place[1]))
    if len(sets) > DRAWN:
        log.warning("difficulty: %d methods and sizes; the first %d are drawn, the CSV has all.", len(sets), DRAWN)
        sets = sets[:DRAWN]
    texts = trainings.short(data["row"])
    places = [(row, ipc, name, score) for row, ipc in sets for name, score in columns]
    sizes = ["" if pd.isna(ipc) else f", {trainings.ipc_text(ipc)}" for _, ipc, _, _ in places]
    titles = [f"{name}: {texts[row]}{size}" for (row, _, name, _), size in zip(places, sizes, strict=True)]
    figure, axes = style.panels(titles, title, (3.0, 2.5), columns=len(columns), sharey=False)
    for panel, (row, ipc, name, score) in zip(axes, places, strict=True):
        part = data[(data["row"] == row) & (data["settings"] == name) & (data["score"] == score)]
        points = part[part["ipc"].isna() if pd.isna(ipc) else part["ipc"] == ipc]
        x = points["progress"].to_numpy()
        for k, shade in zip(range(1, 5), SHADES, strict=True):
            low, high = points[DECILES[k]].to_numpy(), points[DECILES[10 - k]].to_numpy()
            panel.fill_between(x, low, high, color=COLOUR, alpha=shade, linewidth=0)
        for decile in (DECILES[0], DECILES[10]):
            panel.plot(x, points[decile], color=COLOUR, linestyle=":", linewidth=1)
        panel.plot(x, points[DECILES[5]], color=COLOUR)
        panel.plot(x, points["mean"], color="black", linestyle="--", linewidth=1)
        panel.set_ylim(0, 1.05 * data.loc[data["score"] == score, "q100"].max())
        panel.set_xlim(0, 1)
        panel.set_xlabel("progress of the run")
        panel.set_ylabel(f"{SCORES[score]} of training images")
    style.legend(figure, LEGEND)
    return figure

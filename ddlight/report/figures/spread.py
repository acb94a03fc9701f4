"""How far apart are methods under each label regime? Range over methods, in points and in log-odds."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from ddlight.report.figures import style, trainings
from ddlight.report.statistics import FULL, confidence

NEEDS = "results of the same two methods or more, with the same set numbers, under two label regimes or more"
Values = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
MEASURES: dict[str, Callable[[Values], float]] = {
    "range": lambda values: float(np.ptp(values)),
    "std": lambda values: float(np.std(values, ddof=1)),
}
SCALES = ("points", "log-odds")


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """Spread over methods within one set number; mean and Student's 95 % interval over set numbers.

    Methods are those that every regime of an ipc has; set numbers, those that all of these methods have.

    Returns:
        regime (with what else differs), ipc, scale ("points", "log-odds"), measure ("range", "std"), mean, ci_low,
        ci_high, n (set numbers), n_methods, length (full-dataset epochs, where trainings of one regime differ in it).
    """
    t = trainings.in_order(trainings.finished(frame))
    t = t[t["method"] != FULL]
    t = trainings.comparable(t.assign(length=trainings.lengths(t)))
    step = 100 / float(frame.loc[t.index, "acc.test_images"].min()) if len(t) else 0.0
    rows = []
    for (ipc, length), trained in t.groupby(["ipc", "length"], dropna=False):
        for name, table in tables(trained).items():
            rows += [[name, ipc, *line, length] for line in spreads(table, step)]
    columns = ["regime", "ipc", "scale", "measure", "mean", "ci_low", "ci_high", "n", "n_methods", "length"]
    return pd.DataFrame(rows, columns=columns)


def tables(t: pd.DataFrame) -> dict[str, np.ndarray]:
    """Accuracies of the methods that all regimes have: (set numbers, methods) by settings; nothing for one regime.

    `t` holds trainings of one ipc and length: `settings`, `label` (the regime alone), `row`, `set_seed` and `acc`.
    """
    names = list(dict.fromkeys(t["settings"]))
    common = t.groupby("row")["settings"].nunique() == len(names)
    if t["label"].nunique() < 2 or common.sum() < 2:
        return {}
    t = t[t["row"].map(common)]
    wide = {name: t[t["settings"] == name].pivot_table("acc", "set_seed", "row").dropna().to_numpy() for name in names}
    return wide if all(map(len, wide.values())) else {}


def spreads(acc: np.ndarray, step: float = 0.0) -> list[tuple[str, str, float, float, float, int, int]]:
    """Scale, measure, mean, interval, number of sets and of methods, for both scales and measures.

    Args:
        acc: (sets, methods) accuracies in percent.
        step: accuracy of one test image; log-odds stay half of it away from 0 and 100 %, where they are infinite.
    """
    inside = np.clip(acc, step / 2, 100 - step / 2)
    scaled = {"points": acc, "log-odds": np.log(inside / (100 - inside))}
    lines = []
    for scale, values in scaled.items():
        for measure, of in MEASURES.items():
            each = [of(row) for row in values]
            low, high = confidence(each) or (np.nan, np.nan)
            lines.append((scale, measure, float(np.mean(each)), low, high, *acc.shape))
    return lines


def draw(data: pd.DataFrame, title: str) -> "style.Figure":
    """Ranges with their intervals, one panel per scale."""
    ranges = data[data["measure"] == "range"]
    ranges = ranges.assign(
        place=[trainings.place_text(*place) for place in zip(ranges["ipc"], ranges["length"], strict=True)]
    )
    names = list(dict.fromkeys(ranges["regime"]))
    looks = style.styles(ranges["place"])
    step = min(0.14, 0.8 / len(looks))
    figure, axes = style.panels(SCALES, title, (max(2.9, 1.0 + 0.8 * len(names)), 2.8), sharey=False)
    for panel, scale in zip(axes, SCALES, strict=True):
        for k, place in enumerate(looks):
            points = ranges[(ranges["scale"] == scale) & (ranges["place"] == place)]
            x = [names.index(name) + step * (k - (len(looks) - 1) / 2) for name in points["regime"]]
            style.line(panel, x, points, looks[place].point)
        panel.set_xticks(range(len(names)), [style.wrapped(name, 0.9, 8) for name in names])
        panel.set_xlim(-0.5, len(names) - 0.5)
        panel.set_ylim(bottom=0)
        panel.set_ylabel(f"range over methods, {scale}")
    style.legend(figure, [(name, look.point) for name, look in looks.items()])
    return figure

"""How far apart are methods under each label regime? Range over methods, in points and in log-odds."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ddlight.figures import style
from ddlight.figures.trainings import in_order, ipc_text, settings, trainings
from ddlight.report.statistics import FULL, confidence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NEEDS = "results of the same two methods or more, with the same set numbers, under two label regimes or more"
MEASURES = {"range": np.ptp, "std": lambda values: np.std(values, ddof=1)}
SCALES = ("points", "log-odds")


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """Spread over methods within one set number; mean and Student's 95 % interval over set numbers.

    Methods are those that every regime of an ipc has; set numbers, those that all of these methods have.

    Args:
        frame: of one dataset and student, as `ddlight.report.collect.collect` returns it.

    Returns:
        regime (with what else differs), ipc, scale ("points", "log-odds"), measure ("range", "std"), mean, ci_low,
        ci_high, n_sets, n_methods.
    """
    t = in_order(trainings(frame))
    t = t[t["method"] != FULL]
    t = t.assign(regime=settings(t), short=t["label"])
    step = 100 / float(frame.loc[t.index, "acc.test_images"].min()) if len(t) else 0.0
    rows = []
    for ipc, at in t.groupby("ipc"):
        for regime, table in tables(at).items():
            found = spreads(table, step)
            rows += [[regime, int(ipc) if ipc == int(ipc) else ipc, *line] for line in found]
    columns = ["regime", "ipc", "scale", "measure", "mean", "ci_low", "ci_high", "n_sets", "n_methods"]
    return pd.DataFrame(rows, columns=columns)


def tables(at: pd.DataFrame) -> dict[str, np.ndarray]:
    """Accuracies of the methods that all regimes have: (set numbers, methods) by regime; nothing for one regime.

    Args:
        at: trainings of one ipc, with columns `regime` (what tells apart), `short` (the regime alone), `row`,
            `set_seed` and `acc`.
    """
    regimes = list(dict.fromkeys(at["regime"]))
    common = at.groupby("row")["regime"].nunique() == len(regimes)
    kept = at[at["row"].map(common)]
    if at["short"].nunique() < 2 or common.sum() < 2:
        return {}
    wide = {
        regime: kept[kept["regime"] == regime].pivot_table(index="set_seed", columns="row", values="acc").dropna()
        for regime in regimes
    }
    return {regime: table.to_numpy() for regime, table in wide.items()} if all(map(len, wide.values())) else {}


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
            found = [float(of(row)) for row in values]
            low, high = confidence(found) or (np.nan, np.nan)
            lines.append((scale, measure, float(np.mean(found)), low, high, *acc.shape))
    return lines


def draw(data: pd.DataFrame, title: str) -> "Figure":
    """Ranges with their intervals, one panel a scale."""
    ranges = data[data["measure"] == "range"]
    names, ipcs = list(dict.fromkeys(ranges["regime"])), sorted(ranges["ipc"].unique())
    looks = style.styles(ipc_text(ipc) for ipc in ipcs)
    figure, axes = style.panels(SCALES, title, (max(2.9, 1.0 + 0.8 * len(names)), 2.8), sharey=False)
    for panel, scale in zip(axes, SCALES, strict=True):
        for k, ipc in enumerate(ipcs):
            own = ranges[(ranges["scale"] == scale) & (ranges["ipc"] == ipc)]
            x = [names.index(name) + 0.14 * (k - (len(ipcs) - 1) / 2) for name in own["regime"]]
            style.line(panel, x, own, looks[ipc_text(ipc)].keywords, linestyle="none")
        panel.set_xticks(range(len(names)), [style.wrapped(name, 0.9, 8) for name in names])
        panel.set_xlim(-0.5, len(names) - 0.5)
        panel.set_ylim(bottom=0)
        panel.set_ylabel(f"range over methods, {scale}")
    style.legend(figure, [(name, {**look.keywords, "linestyle": "none"}) for name, look in looks.items()])
    return figure

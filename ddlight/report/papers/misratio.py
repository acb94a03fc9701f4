"""How much of the hardest should CCS drop? Accuracy against its cutoff beta, the misratio."""

import json
from typing import Any

import pandas as pd

from ddlight.report.figures import style, trainings
from ddlight.report.statistics import RANDOM

NEEDS = "results of CCS with one cutoff each (data.cutoffs: [0.3]), two of them or more"
DEFAULT = [0.3]
"""CCS's own, which its recorded arguments leave out."""
DASHED: dict[str, Any] = {"color": "#444444", "linestyle": (0, (4, 3)), "linewidth": 1}


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of CCS by cutoff, and of Random beside it.

    Source: arXiv 2606.18209, Table 6. A cutoff that was searched is not here: results do not say which it became.

    Returns:
        dataset, student, settings (regime with what else differs), ipc, row (CCS with its other settings, or Random),
        cutoff (missing for Random), mean over sets, its interval, n.
    """
    t = trainings.finished(frame)
    cutoffs = frame.loc[t.index, "set.args"].map(lambda args: json.loads(args).get("cutoffs", DEFAULT))
    single = (t["method"] == "CCS") & (cutoffs.map(len) == 1)
    others = t["row"].str.replace(r"cutoffs=\[[^]]*\](, )?", "", regex=True).str.replace(r"(, )?\)$", ")", regex=True)
    t = t.assign(row=others.str.removesuffix(" ()"), cutoff=cutoffs.map(lambda values: float(values[0])).where(single))
    kept = t[single | (t["method"] == RANDOM)]
    t = trainings.in_order(kept, ["row", "ipc", "cutoff"], parts=("protocol", "teachers", "budget"))
    means = trainings.summarise(t, ["dataset", "student", "settings", "ipc", "row", "cutoff"])
    lines = trainings.several(means[means["cutoff"].notna()], ["settings", "ipc", "row"], "cutoff")
    random = trainings.among(means, lines, ["settings", "ipc"]) & means["cutoff"].isna()
    return means[means.index.isin(lines.index) | random].reset_index(drop=True)


def draw(data: pd.DataFrame, title: str) -> "style.Figure":
    """One panel per regime, one line per ipc; Random dashed in the same colour."""
    names = list(dict.fromkeys(data["settings"]))
    ipcs = sorted(data["ipc"].unique())
    colours = {ipc: style.PALETTE[k % len(style.PALETTE)] for k, ipc in enumerate(ipcs)}
    rows = [row for row in trainings.method_order(data) if row != RANDOM]
    looks = {
        (row, ipc): style.Style(colours[ipc], style.MARKERS[k % len(style.MARKERS)], "-")
        for k, row in enumerate(rows)
        for ipc in ipcs
    }
    figure, axes = style.panels(names, title, (3.6, 2.8))
    for panel, name in zip(axes, names, strict=True):
        for (row, ipc), line in data[data["settings"] == name].groupby(["row", "ipc"]):
            if row == RANDOM:
                panel.axhline(line["mean"].iloc[0], **{**DASHED, "color": colours[ipc]})
            else:
                style.line(panel, line["cutoff"].tolist(), line, looks[row, ipc].keywords)
        panel.set_xlabel("share of each class dropped, hardest first (β)")
    axes[0].set_ylabel("test accuracy (%)")
    drawn = trainings.distinct(data, "row", "ipc")
    entries = [
        (f"{row}, {trainings.ipc_text(ipc)}", looks[row, ipc].keywords) for row, ipc in looks if (row, ipc) in drawn
    ]
    style.legend(figure, [*entries, *([(RANDOM, DASHED)] if (data["row"] == RANDOM).any() else [])])
    return figure

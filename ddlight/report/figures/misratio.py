"""How much of the hardest should CCS drop? Accuracy against its cutoff beta, the misratio."""

import json
from typing import TYPE_CHECKING, Any

import pandas as pd

from ddlight.report.figures import style
from ddlight.report.figures.trainings import (
    among,
    in_order,
    ipc_text,
    method_order,
    settings,
    several,
    summarise,
    trainings,
)
from ddlight.report.statistics import RANDOM

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NEEDS = "results of CCS with one cutoff each (data.cutoffs: [0.3]), two of them or more"
DEFAULT = [0.3]
"""CCS's own, which its recorded arguments leave out."""
DASHED: dict[str, Any] = {"color": "#444444", "linestyle": (0, (4, 3)), "linewidth": 1}


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of CCS by cutoff, and of Random beside it.

    Source: arXiv 2606.18209, Table 6. A cutoff that was searched is not here: results do not say which it became.

    Args:
        frame: of one dataset and student, as `ddlight.report.collect.collect` returns it.

    Returns:
        dataset, student, settings (regime with what else differs), ipc, row (CCS with its other settings, or Random),
        cutoff (missing for Random), mean over sets, its interval, n.
    """
    t = trainings(frame)
    cutoffs = frame.loc[t.index, "set.args"].map(lambda args: json.loads(args).get("cutoffs", DEFAULT))
    single = (t["method"] == "CCS") & (cutoffs.map(len) == 1)
    others = t["row"].str.replace(r"cutoffs=\[[^]]*\](, )?", "", regex=True).str.replace(r"(, )?\)$", ")", regex=True)
    t = t.assign(row=others.str.removesuffix(" ()"), cutoff=cutoffs.map(lambda values: float(values[0])).where(single))
    t = in_order(t[single | (t["method"] == RANDOM)], ["row", "ipc", "cutoff"])
    by = ["dataset", "student", "settings", "ipc", "row", "cutoff"]
    found = summarise(t.assign(settings=settings(t)), by)
    lines = several(found[found["cutoff"].notna()], ["settings", "ipc", "row"], "cutoff")
    beside = among(found, lines, ["settings", "ipc"]) & found["cutoff"].isna()
    return found[found.index.isin(lines.index) | beside].reset_index(drop=True)


def draw(data: pd.DataFrame, title: str) -> "Figure":
    """One panel a regime, one line an ipc; Random dashed in the same colour."""
    names = list(dict.fromkeys(data["settings"]))
    places = list(dict.fromkeys(zip(data["row"], data["ipc"], strict=True)))
    ipcs = sorted({ipc for _, ipc in places})
    colours = {ipc: style.PALETTE[k % len(style.PALETTE)] for k, ipc in enumerate(ipcs)}
    rows = [row for row in method_order(data) if row != RANDOM]
    looks = {
        (row, ipc): style.Style(colours[ipc], style.MARKERS[k % len(style.MARKERS)], "-")
        for k, row in enumerate(rows)
        for ipc in ipcs
    }
    figure, axes = style.panels(names, title, (3.6, 2.8))
    for panel, name in zip(axes, names, strict=True):
        for (row, ipc), own in data[data["settings"] == name].groupby(["row", "ipc"]):
            if row == RANDOM:
                panel.axhline(own["mean"].iloc[0], **{**DASHED, "color": colours[ipc]})
            else:
                style.line(panel, own["cutoff"].tolist(), own, looks[row, ipc].keywords)
        panel.set_xlabel("share of each class dropped, hardest first (β)")
    axes[0].set_ylabel("test accuracy (%)")
    entries = [(f"{row}, {ipc_text(ipc)}", look.keywords) for (row, ipc), look in looks.items() if (row, ipc) in places]
    style.legend(figure, [*entries, *([(RANDOM, DASHED)] if (data["row"] == RANDOM).any() else [])])
    return figure

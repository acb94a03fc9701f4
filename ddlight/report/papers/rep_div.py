"""How well do sets stand for the data, and how little do they repeat themselves? Representativeness and diversity."""

import json
import logging
from typing import Any

import pandas as pd

from ddlight.core.errors import DataError
from ddlight.report.cells import leaves, row_name
from ddlight.report.figures import style, trainings
from ddlight.report.statistics import FEW_SETS

NEEDS = "the table that `ddlight analyze` writes: --analysis FILE.csv"
log = logging.getLogger("ddlight")
FORMS = {"minimax": ("rep_minimax", "div_minimax"), "coverage": ("rep_cov", "div_mean")}
COLUMNS = ["dataset", "method", "args", "ipc", "seed", *(name for pair in FORMS.values() for name in pair)]
AXES = {
    "minimax": ("representativeness (minimax)", "diversity (minimax)"),
    "coverage": ("representativeness (mean coverage)", "diversity (mean)"),
}


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over sets of both forms of both measures.

    Source: arXiv 2606.18209, Figure 1b, which is drawn from the minimax form.

    Args:
        frame: one row per set: dataset, method, args (JSON), ipc, seed, rep_minimax, div_minimax, rep_cov, div_mean.
            Sets that differ in none of the first five are averaged, with a line that says so.

    Returns:
        dataset, ipc, form ("minimax", "coverage"), row (see `rows`), rep, rep_ci_low, rep_ci_high, div, div_ci_low,
        div_ci_high, n (sets).

    Raises:
        DataError: a column is missing.
    """
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise DataError(f"The analysis has no column {', '.join(missing)}. It needs: {', '.join(COLUMNS)}.")
    keys, frame = COLUMNS[:5], frame.reset_index(drop=True)
    mixed = frame.drop_duplicates([*keys, *COLUMNS[5:]]).duplicated(keys).sum()
    if mixed:
        log.warning("rep_div: %d sets share all but their numbers with another set and are averaged with it", mixed)
    t = frame.assign(row=rows(frame), condensed=frame["seed"])
    by = ["dataset", "ipc", "form", "row"]
    parts = []
    for form, measures in FORMS.items():
        sets = t.dropna(subset=[*measures]).assign(form=form)
        rep, div = (trainings.summarise(sets, by, value=name) for name in measures)
        parts.append(rep.merge(div, on=[*by, "n"], suffixes=("", "_d")))
    both = pd.concat(parts, ignore_index=True).sort_values(["dataset", "ipc"], kind="stable", ignore_index=True)
    names = {"mean": "rep", "ci_low": "rep_ci_low", "ci_high": "rep_ci_high"}
    names |= {"mean_d": "div", "ci_low_d": "div_ci_low", "ci_high_d": "div_ci_high"}
    return both.rename(columns=names)[[*by, *names.values(), "n"]]


def rows(analysis: pd.DataFrame) -> "pd.Series[str]":
    """The method of each set, with the arguments in which the method's sets of one dataset differ."""
    settings = pd.Series([dict(leaves(json.loads(text))) for text in analysis["args"]], analysis.index, dtype=object)
    names = analysis["method"].copy()
    for _, group in settings.groupby([analysis["dataset"], analysis["method"]]):
        split = {key for key in set().union(*group) if len({one.get(key) for one in group}) > 1}
        for index, one in group.items():
            names[index] = row_name(names[index], one, split)
    return names


def draw(data: pd.DataFrame, title: str) -> "style.Figure":
    """One row of panels per ipc, one panel per form; best is the upper right corner."""
    places = [(ipc, form) for ipc in sorted(data["ipc"].unique()) for form in FORMS if (data["form"] == form).any()]
    rows = trainings.method_order(data)
    looks, texts = style.styles(rows), trainings.short(rows)
    titles = [trainings.ipc_text(ipc) for ipc, _ in places]
    figure, axes = style.panels(titles, title, (3.5, 3.0), columns=data["form"].nunique(), sharey=False)
    for panel, (ipc, form) in zip(axes, places, strict=True):
        for _, point in data[(data["ipc"] == ipc) & (data["form"] == form)].iterrows():
            look = looks[point["row"]]
            panel.plot([point["div"]], [point["rep"]], **look.point, markersize=7)
            if point["n"] >= FEW_SETS:
                thin: dict[str, Any] = {"colors": look.colour, "linewidth": 0.9, "alpha": 0.55}
                panel.hlines(point["rep"], point["div_ci_low"], point["div_ci_high"], **thin)
                panel.vlines(point["div"], point["rep_ci_low"], point["rep_ci_high"], **thin)
        panel.set_ylabel(AXES[form][0])
        panel.set_xlabel(AXES[form][1])
    style.legend(figure, [(texts[row], looks[row].point) for row in rows])
    return figure

"""How well do sets stand for the data, and how little do they repeat themselves? Representativeness and diversity."""

import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ddlight.core.errors import DataError
from ddlight.report.cells import leaves, row_name
from ddlight.report.figures import style
from ddlight.report.figures.trainings import ipc_text, method_order, short, summarise
from ddlight.report.statistics import FEW_SETS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = "the table that `ddlight analyze` writes: --analysis FILE.csv"
log = logging.getLogger("ddlight")
FORMS = {"minimax": ("rep_minimax", "div_minimax"), "coverage": ("rep_cov", "div_mean")}
COLUMNS = ["dataset", "method", "args", "ipc", "seed", *(name for pair in FORMS.values() for name in pair)]
AXES = {
    "minimax": ("representativeness (minimax)", "diversity (minimax)"),
    "coverage": ("representativeness (mean coverage)", "diversity (mean)"),
}


def data(analysis: pd.DataFrame) -> pd.DataFrame:
    """Means over sets of both forms of both measures.

    Source: arXiv 2606.18209, Figure 1b, which is drawn from the minimax form.

    Args:
        analysis: one row a set: dataset, method, args (JSON), ipc, seed, rep_minimax, div_minimax, rep_cov, div_mean.
            Sets that differ in none of the first five are averaged, with a line that says so.

    Returns:
        dataset, ipc, form ("minimax", "coverage"), row (see `rows`), rep, rep_ci_low, rep_ci_high, div, div_ci_low,
        div_ci_high, n (sets).

    Raises:
        DataError: a column is missing.
    """
    missing = [name for name in COLUMNS if name not in analysis]
    if missing:
        raise DataError(f"The analysis has no column {', '.join(missing)}. It needs: {', '.join(COLUMNS)}.")
    keys, analysis = COLUMNS[:5], analysis.reset_index(drop=True)
    mixed = analysis.drop_duplicates([*keys, *COLUMNS[5:]]).duplicated(keys).sum()
    if mixed:
        log.warning("rep_div: %d sets share all but their numbers with another set and are averaged with it", mixed)
    t = analysis.assign(row=rows(analysis), condensed=analysis["seed"])
    by = ["dataset", "ipc", "form", "row"]
    parts = []
    for form, (rep, div) in FORMS.items():
        own = t.dropna(subset=[rep, div]).assign(form=form)
        found = summarise(own, by, value=rep).merge(summarise(own, by, value=div), on=[*by, "n"], suffixes=("", "_d"))
        parts.append(found)
    both = pd.concat(parts, ignore_index=True).sort_values(["dataset", "ipc"], kind="stable", ignore_index=True)
    names = {"mean": "rep", "ci_low": "rep_ci_low", "ci_high": "rep_ci_high"}
    names |= {"mean_d": "div", "ci_low_d": "div_ci_low", "ci_high_d": "div_ci_high"}
    return both.rename(columns=names)[[*by, *names.values(), "n"]]


def rows(analysis: pd.DataFrame) -> "pd.Series[str]":
    """The method of each set, with the arguments in which the method's sets of one dataset differ."""
    settings = pd.Series([dict(leaves(json.loads(text))) for text in analysis["args"]], analysis.index, dtype=object)
    found = analysis["method"].copy()
    for _, own in settings.groupby([analysis["dataset"], analysis["method"]]):
        keys = set().union(*own)
        split = {key for key in keys if len({one.get(key) for one in own}) > 1}
        for index, one in own.items():
            found[index] = row_name(found[index], one, split)
    return found


def draw(data: pd.DataFrame, title: str) -> "Figure":
    """One row of panels an ipc, one panel a form; best is the upper right corner."""
    places = [(ipc, form) for ipc in sorted(data["ipc"].unique()) for form in FORMS if (data["form"] == form).any()]
    rows = method_order(data)
    looks, texts = style.styles(rows), short(rows)
    columns = data["form"].nunique()
    figure, axes = style.panels([ipc_text(ipc) for ipc, _ in places], title, (3.5, 3.0), columns=columns, sharey=False)
    for panel, (ipc, form) in zip(axes, places, strict=True):
        _points(panel, data[(data["ipc"] == ipc) & (data["form"] == form)], looks)
        _name(panel, AXES[form])
    style.legend(figure, [(texts[row], {**looks[row].keywords, "linestyle": "none"}) for row in rows])
    return figure


def _points(panel: "Axes", own: pd.DataFrame, looks: dict[str, style.Style]) -> None:
    """Points with their intervals in both directions."""
    for _, point in own.iterrows():
        look = looks[point["row"]]
        panel.plot([point["div"]], [point["rep"]], **{**look.keywords, "linestyle": "none", "markersize": 7})
        if point["n"] >= FEW_SETS:
            thin: dict[str, Any] = {"colors": look.colour, "linewidth": 0.9, "alpha": 0.55}
            panel.hlines(point["rep"], point["div_ci_low"], point["div_ci_high"], **thin)
            panel.vlines(point["div"], point["rep_ci_low"], point["rep_ci_high"], **thin)


def _name(panel: "Axes", names: Sequence[str]) -> None:
    panel.set_ylabel(names[0])
    panel.set_xlabel(names[1])

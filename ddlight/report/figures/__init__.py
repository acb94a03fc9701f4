"""Figures of results: each file computes one table of plotted numbers and draws it.

`draw_all` takes what `ddlight.report.collect.collect` returns; `to_svg` gives a figure to put into an HTML page.
Nothing here imports torch, but for grids of images, which read condensed sets. matplotlib is imported when something
is drawn.
"""

import logging
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from ddlight.core.errors import DataError, UsageError, nearest
from ddlight.report.cells import names
from ddlight.report.figures import (
    budget,
    convergence,
    cost,
    cross_architecture,
    difficulty,
    grids,
    misratio,
    regimes,
    rep_div,
    spread,
    style,
    teachers,
    windows,
)
from ddlight.report.figures.style import to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "Drawn", "Kind", "draw", "draw_all", "to_svg"]

TABLE = ("dataset", "student")
DATASET = ("dataset",)

log = logging.getLogger("ddlight")


@dataclass(frozen=True)
class Kind:
    """One kind of figure.

    Attributes:
        data: table of results -> what is plotted; empty where there is nothing to plot. Raises DataError where a file
            that it reads is damaged.
        draw: what is plotted and a title -> the figure.
        needs: results that it is drawn from, in words.
        split: what gets a figure each: every dataset, or every dataset and student.
    """

    data: Callable[[pd.DataFrame], pd.DataFrame]
    draw: Callable[[pd.DataFrame, str], "Figure"]
    needs: str
    split: tuple[str, ...] = TABLE


FIGURES = {
    "regimes": Kind(regimes.data, regimes.draw, regimes.NEEDS),
    "spread": Kind(spread.data, spread.draw, spread.NEEDS),
    "budget": Kind(budget.data, budget.draw, budget.NEEDS),
    "convergence": Kind(convergence.data, convergence.draw, convergence.NEEDS),
    "difficulty": Kind(difficulty.data, difficulty.draw, difficulty.NEEDS),
    "windows": Kind(windows.data, windows.draw, windows.NEEDS),
    "teachers": Kind(teachers.data, teachers.draw, teachers.NEEDS),
    "cost": Kind(cost.data, cost.draw, cost.NEEDS),
    "misratio": Kind(misratio.data, misratio.draw, misratio.NEEDS),
    "cross_architecture": Kind(cross_architecture.data, cross_architecture.draw, cross_architecture.NEEDS, DATASET),
    "rep_div": Kind(rep_div.data, rep_div.draw, rep_div.NEEDS, DATASET),
    "grids": Kind(grids.data, grids.draw, grids.NEEDS, DATASET),
}


@dataclass(frozen=True)
class Drawn:
    """One figure, or what one lacks.

    Attributes:
        name: of the figure; with dataset and student where there are several of its kind.
        figure: the figure; None where the results do not allow it.
        data: what is plotted.
        problem: what it needs or why it cannot be drawn; "" where there is a figure.
        damaged: its results would allow it, but for a file or table that `problem` names.
    """

    name: str
    figure: "Figure | None"
    data: pd.DataFrame
    problem: str = ""
    damaged: bool = False


def draw_all(frame: pd.DataFrame) -> dict[str, "Figure"]:
    """Draw every figure that some results allow; what is left out for a damaged file is logged.

    Args:
        frame: as `ddlight.report.collect.collect` returns it; files beside those that `path` names are read too.

    Returns:
        Figures by name, such as "regimes", or "regimes_MNIST" where there are several datasets.

    Raises:
        UsageError: matplotlib is not installed.
    """
    figures = {}
    for drawn in draw(frame):
        if drawn.figure is not None:
            figures[drawn.name] = drawn.figure
        elif drawn.damaged:
            log.warning("The figure %s is left out: %s", drawn.name, drawn.problem)
    return figures


def draw(frame: pd.DataFrame, only: Iterable[str] = (), analysis: pd.DataFrame | None = None) -> Iterator[Drawn]:
    """Draw figures one after the other, and say of each that is left out what it needs.

    Args:
        frame: as `ddlight.report.collect.collect` returns it.
        only: names of `FIGURES`; all of them where none is given.
        analysis: what `ddlight analyze` writes, for the figure "rep_div".

    Raises:
        UsageError: there is no figure of that name, or matplotlib is not installed.
    """
    chosen = list(only) or list(FIGURES)
    for name in chosen:
        if name not in FIGURES:
            raise UsageError(f"There is no figure {name!r}.{nearest(name, FIGURES)} Allowed: {', '.join(FIGURES)}.")
    results = frame[frame["status"] == "done"]
    tables = names(results)
    splits: tuple[tuple[str, ...], ...] = (TABLE, DATASET)
    by = {split: _parts(results, tables, split) for split in splits}
    for name in chosen:
        if name == "rep_div":
            parts = _parts(analysis, analysis, DATASET) if analysis is not None else []
        else:
            parts = by[FIGURES[name].split]
        yield from _drawn(name, FIGURES[name], parts)


def _parts(
    table: pd.DataFrame, labels: pd.DataFrame, split: Sequence[str]
) -> list[tuple[tuple[str, ...], pd.DataFrame]]:
    """The rows of a table by what they are called in `labels`, which has the same index."""
    groups = labels.groupby(list(split)).groups
    return [(_texts(label), table.loc[index]) for label, index in groups.items()]


def _texts(label: Hashable) -> tuple[str, ...]:
    return tuple(map(str, label if isinstance(label, tuple) else (label,)))


def _drawn(name: str, kind: Kind, parts: Sequence[tuple[tuple[str, ...], pd.DataFrame]]) -> Iterator[Drawn]:
    """The figures of one kind and those whose files are damaged, or the one line that says why there is none."""
    tables = [(label, _data(kind, rows)) for label, rows in parts]
    plotted = [(label, data) for label, data in tables if isinstance(data, DataError) or len(data)]
    labels = [label for label, _ in plotted]
    problem, found = f"needs {kind.needs}", False
    for label, data in plotted:
        if isinstance(data, DataError):
            found = True
            yield Drawn(_name(name, label, labels), None, pd.DataFrame(), str(data), damaged=True)
            continue
        try:
            with style.drawing():
                figure = kind.draw(data, ", ".join(label))
        except DataError as error:
            problem = str(error)
            continue
        found = True
        yield Drawn(_name(name, label, labels), figure, data)
    if not found:
        yield Drawn(name, None, pd.DataFrame(), problem)


def _data(kind: Kind, rows: pd.DataFrame) -> pd.DataFrame | DataError:
    """What is plotted, or what is wrong with a file that it is read from."""
    try:
        return kind.data(rows)
    except DataError as error:
        return error


def _name(name: str, label: Sequence[str], labels: Sequence[Sequence[str]]) -> str:
    """Name of a figure with what it takes of its label to tell it from the others of its kind."""
    told, same = [name], list(labels)
    for k, part in enumerate(label):
        if len({other[k] for other in same}) > 1:
            told.append(re.sub(r"[^\w.-]+", "-", part).strip("-"))
        same = [other for other in same if other[k] == part]
    return "_".join(told)

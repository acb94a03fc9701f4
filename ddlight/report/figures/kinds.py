"""Which figures there are, and drawing all that some results allow."""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pandas as pd

from ddlight.core.errors import DataError, UsageError, nearest
from ddlight.report.cells import names
from ddlight.report.figures import (
    budget,
    convergence,
    cost,
    cross_architecture,
    grids,
    regimes,
    spread,
    style,
    teachers,
)
from ddlight.report.papers import difficulty, misratio, rep_div, windows

log = logging.getLogger("ddlight")


class Kind(Protocol):
    """One kind of figure, which is a module."""

    __name__: str
    NEEDS: str
    """Results that it is drawn from, in words."""

    def data(self, frame: pd.DataFrame) -> pd.DataFrame:
        """What is plotted: one row per point; empty where there is nothing to plot.

        `frame` is what `ddlight.report.collect.collect` returns, of one dataset and student, or of one dataset (see
        `BY_DATASET`); of "rep_div", what `ddlight analyze` writes. Raises DataError where a file of theirs is damaged.
        """

    def draw(self, data: pd.DataFrame, title: str) -> "style.Figure":
        """The figure. Raises DataError where it cannot be drawn here."""


MODULES: tuple[Kind, ...] = (
    *(regimes, spread, budget, convergence, difficulty, windows, teachers, cost, misratio, cross_architecture),
    *(rep_div, grids),
)
FIGURES = {module.__name__.rsplit(".", 1)[1]: module for module in MODULES}
BY_DATASET = ("cross_architecture", "rep_div", "grids")
"""Kinds of which every dataset has one figure; of others every dataset and student has one."""


@dataclass(frozen=True)
class Drawn:
    """One figure, or what one lacks."""

    name: str  # of the figure; with dataset and student where there are several of its kind
    figure: "style.Figure | None"  # None where the results do not allow it
    data: pd.DataFrame  # what is plotted
    problem: str = ""  # what it needs or why it cannot be drawn; "" where there is a figure
    damaged: bool = False  # its results would allow it, but for a file or table that `problem` names


def draw_all(frame: pd.DataFrame) -> dict[str, "style.Figure"]:
    """Figures by name ("regimes", or "regimes_MNIST" of several datasets): all that the results of `collect` allow.

    What is left out for a damaged file is logged. Raises UsageError where matplotlib is not installed.
    """
    figures = {}
    for drawn in draw(frame):
        if drawn.figure is not None:
            figures[drawn.name] = drawn.figure
        elif drawn.damaged:
            log.warning("The figure %s is left out: %s", drawn.name, drawn.problem)
    return figures


def draw(frame: pd.DataFrame, only: Iterable[str] = (), analysis: pd.DataFrame | None = None) -> Iterator[Drawn]:
    """Draw figures of the results of `collect` one after the other, and say of each that is left out what it needs.

    Args:
        frame: the results.
        only: names of `FIGURES`; none stands for all of them.
        analysis: what `ddlight analyze` writes, for the figure "rep_div".

    Raises:
        UsageError: there is no figure of that name, or matplotlib is not installed.
    """
    chosen = list(only) or list(FIGURES)
    for name in chosen:
        if name not in FIGURES:
            raise UsageError(f"There is no figure {name!r}.{nearest(name, FIGURES)} Allowed: {', '.join(FIGURES)}.")
    done = frame[frame["status"] == "done"]
    labels = names(done)
    # each part once: it keeps what is computed of its trainings
    tables, datasets = _parts(done, labels[["dataset", "student"]]), _parts(done, labels[["dataset"]])
    for name in chosen:
        parts = datasets if name in BY_DATASET else tables
        if name == "rep_div":
            parts = [] if analysis is None else _parts(analysis, analysis[["dataset"]])
        yield from _drawn(name, FIGURES[name], parts)


def _parts(table: pd.DataFrame, labels: pd.DataFrame) -> list[tuple[tuple[str, ...], pd.DataFrame]]:
    """The rows of a table by what they are called in `labels`, which has the same index."""
    groups = table.groupby([labels[name] for name in labels])
    return [(tuple(map(str, label)), rows) for label, rows in groups]


def _drawn(name: str, kind: Kind, parts: Sequence[tuple[tuple[str, ...], pd.DataFrame]]) -> Iterator[Drawn]:
    """The figures of one kind and those whose files are damaged, or the one line that says why there is none."""
    plotted: list[tuple[tuple[str, ...], pd.DataFrame | DataError]] = []
    for label, rows in parts:
        try:
            if len(data := kind.data(rows)):
                plotted.append((label, data))
        except DataError as error:
            plotted.append((label, error))
    labels = [label for label, _ in plotted]
    problem, nothing = f"needs {kind.NEEDS}", True
    for label, content in plotted:
        title = _name(name, label, labels)
        if isinstance(content, DataError):
            yield Drawn(title, None, pd.DataFrame(), str(content), damaged=True)
        else:
            try:
                with style.drawing():
                    figure = kind.draw(content, ", ".join(label))
            except DataError as error:
                problem = str(error)
                continue
            yield Drawn(title, figure, content)
        nothing = False
    if nothing:
        yield Drawn(name, None, pd.DataFrame(), problem)


def _name(name: str, label: Sequence[str], labels: Sequence[Sequence[str]]) -> str:
    """Name of a figure with what it takes of its label to tell it from the others of its kind."""
    words, same = [name], list(labels)
    for k, part in enumerate(label):
        if len({other[k] for other in same}) > 1:
            words.append(re.sub(r"[^\w.-]+", "-", part).strip("-"))
        same = [other for other in same if other[k] == part]
    return "_".join(words)

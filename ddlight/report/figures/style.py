"""How figures look: one palette, markers and lines that differ too, legends outside, labels that do not overlap.

The only file that imports matplotlib, and only when something is drawn. Figures are made without pyplot, so that
nothing global is changed.
"""

import hashlib
import io
import itertools
import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.optimize import isotonic_regression

from ddlight.core.errors import UsageError
from ddlight.report.statistics import FEW_SETS, FULL, RANDOM

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito, Color Universal Design (2008), without its yellow, which white paper swallows; black is Random's."""
MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">", "*", "h")
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
GREY = "#767676"
RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), 9),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 8),
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "svg.fonttype": "none",
    "svg.hashsalt": "ddlight",
}
LABEL_SIZE = 8
CHARACTER = 0.62
"""Width of a character in units of the font's size, on average and rather too much."""


@dataclass(frozen=True)
class Style:
    """How one line is drawn."""

    colour: str
    marker: str
    line: Any

    @property
    def keywords(self) -> dict[str, Any]:
        """As matplotlib's `plot` takes them."""
        return {"color": self.colour, "marker": self.marker, "linestyle": self.line}

    @property
    def point(self) -> dict[str, Any]:
        """The same without a line."""
        return {**self.keywords, "linestyle": "none"}


def styles(names: Iterable[str]) -> dict[str, Style]:
    """A style for each name, in order; no two among sixty share colour and marker. Random is black, FullData grey."""
    looks = {RANDOM: Style("black", "o", "-"), FULL: Style(GREY, "_", "--")}
    names = list(dict.fromkeys(names))
    for k, name in enumerate([name for name in names if name not in looks]):
        marker = MARKERS[(k + k // 30) % len(MARKERS)]
        looks[name] = Style(PALETTE[k % len(PALETTE)], marker, LINES[k // len(PALETTE) % len(LINES)])
    return {name: looks[name] for name in names}


@contextmanager
def drawing() -> Iterator[None]:
    """Within it, matplotlib has the style of ddlight's figures. Raises UsageError where matplotlib is not installed."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise UsageError(
            "Figures are drawn by matplotlib, which is not installed: pip install 'ddlight[figures]'"
        ) from None
    with mpl.rc_context():
        mpl.rcdefaults()
        parameters: Any = mpl.rcParams
        parameters.update(RC)
        yield


def panels(
    titles: Sequence[str | None],
    title: str,
    size: tuple[float, float],
    columns: int = 3,
    sharey: Literal["row"] | bool = True,
    room: float | None = None,
) -> tuple["Figure", list["Axes"]]:
    """A figure with one panel per title, `columns` of them side by side, each `size` inches wide and high.

    None in place of a title leaves its place empty. A title has `room` inches, where that is not half an inch less
    than the panel.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = max(1, min(columns, len(titles)))
    down = max(1, math.ceil(len(titles) / across))
    figure = Figure(figsize=(size[0] * across, size[1] * down + 0.3), layout="constrained")
    FigureCanvasAgg(figure)  # measures text
    axes = []
    for panel, text in itertools.zip_longest(figure.subplots(down, across, squeeze=False, sharey=sharey).flat, titles):
        if text is None:
            panel.remove()
        else:
            panel.set_title(wrapped(text, room or size[0] - 0.5, 9), loc="left")
            axes.append(panel)
    figure.suptitle(wrapped(title, size[0] * across - 0.3, 9), x=0.01, ha="left", fontsize=9, color="#555555")
    return figure, axes


def wrapped(text: str, inches: float, size: float) -> str:
    """Break text into lines of at most this number of inches, at a size in points."""
    return textwrap.fill(text, max(10, int(inches * 72 / (CHARACTER * size))))


def text_width(texts: Iterable[str]) -> float:
    """Inches that the longest of several labels takes, or a little less."""
    return max(map(len, texts), default=0) * CHARACTER * LABEL_SIZE / 72


def line(panel: "Axes", x: Sequence[float], data: "pd.DataFrame", style: Mapping[str, Any]) -> None:
    """Draw means over `x` with their intervals, where there are any."""
    panel.plot(x, data["mean"].to_numpy(), **style)
    intervals(panel, x, data, str(style["color"]))


def intervals(panel: "Axes", x: Sequence[float], data: "pd.DataFrame", colour: str) -> None:
    """Draw the intervals of means alone, of `n` sets each; those of two sets are wider than any figure."""
    known = (data["n"] >= FEW_SETS).to_numpy()
    if known.any():
        low, high = data["ci_low"].to_numpy()[known], data["ci_high"].to_numpy()[known]
        panel.vlines(np.asarray(x)[known], low, high, colors=colour, linewidth=0.9, alpha=0.55)


def percent(panel: "Axes") -> None:
    """Limit the axis to possible accuracies: an interval may reach beyond, and is cut there."""
    low, high = panel.get_ylim()
    panel.set_ylim(max(low, 0.0), min(high, 100.0))


def log_axis(panel: "Axes", values: Iterable[float], name: str) -> None:
    """Make x logarithmic, with plain numbers: the values where they are few and apart, else round ones."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    known = sorted({float(f"{value:.6g}") for value in values if value > 0})
    margin = max(1.15, (known[-1] / known[0]) ** 0.05)
    low, high = known[0] / margin, known[-1] * margin
    panel.set_xscale("log")
    panel.set_xlim(low, high)
    panel.xaxis.set_major_locator(FixedLocator(_ticks(known, low, high)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
    panel.set_xlabel(name)


def _ticks(known: Sequence[float], low: float, high: float) -> list[float]:
    apart = all(b / a > (high / low) ** 0.09 for a, b in itertools.pairwise(known))
    if len(known) < 9 and apart and all(len(_number(value)) < 5 for value in known):
        return list(known)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ladders = [[base * 10.0**power for power in decades for base in bases] for bases in ((1, 2, 5), (1, 3), (1,))]
    inside = [[tick for tick in ticks if low <= tick <= high] for ticks in ladders]
    return next((ticks for ticks in inside if len(ticks) < 9), inside[-1][:: 1 + len(inside[-1]) // 8])


def _number(value: float) -> str:
    return f"{value:g}" if 1e-3 <= value < 1e5 else re.sub(r"e\+?0*", "e", f"{value:.0e}")


def legend(figure: "Figure", entries: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Put a legend of texts and styles of lines beside the panels; the figure grows by its size."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=text, **style) for text, style in entries]
    box = figure.legend(handles=handles, loc="outside right upper", handlelength=3.2, borderaxespad=0.2)
    extent = box.get_window_extent()
    width, height = figure.get_size_inches()
    figure.set_size_inches(width + extent.width / figure.dpi + 0.1, max(height, extent.height / figure.dpi + 0.4))


@dataclass(frozen=True)
class Label:
    """Text beside the end of a line, at its data coordinates."""

    x: float
    y: float
    text: str
    colour: str


def end_labels(figure: "Figure", labels: Sequence[tuple["Axes", Sequence[Label]]]) -> None:
    """Write names right of panels, beside the ends of their lines, moved apart so that none covers another.

    The figure is laid out here: call it when everything else is drawn.
    """
    place: Any = {"textcoords": "axes fraction", "va": "center", "fontsize": LABEL_SIZE, "annotation_clip": False}
    arrow: Any = {"arrowstyle": "-", "relpos": (0, 0.5), "linewidth": 0.5, "shrinkA": 1, "shrinkB": 3}
    texts = {}
    for panel, ends in labels:
        for end in ends:
            look: Any = {"color": end.colour, "arrowprops": {**arrow, "color": end.colour}}
            texts[panel, end] = panel.annotate(end.text, (end.x, end.y), (1.05, 0.5), **look, **place)
    figure.draw_without_rendering()
    for panel, ends in labels:
        height = panel.get_window_extent().height / figure.dpi * 72  # points
        places = panel.transAxes.inverted().transform(panel.transData.transform([(end.x, end.y) for end in ends]))
        for end, y in zip(ends, apart(places[:, 1].tolist(), 1.25 * LABEL_SIZE / height), strict=True):
            texts[panel, end].set_position((1.05, y))


def apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Positions at least `gap` from each other and close to those wanted, within [0, 1] where they fit into it.

    The least change in squares: neighbours that are too close share a mean.
    """
    order = np.argsort(wanted, kind="stable")
    gaps = gap * np.arange(len(wanted))
    levels = isotonic_regression(np.asarray(wanted)[order] - gaps).x
    places = np.empty(len(wanted))
    places[order] = np.clip(levels, 0.0, max(0.0, 1 - gap * (len(wanted) - 1))) + gaps
    return places.tolist()


def svg(figure: "Figure") -> str:
    """The figure as an SVG file: the same bytes for the same figure, text as text."""
    content = io.StringIO()
    with drawing():
        figure.savefig(content, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return content.getvalue()


def png(figure: "Figure") -> bytes:
    """The figure as a PNG file, 150 dots an inch."""
    content = io.BytesIO()
    with drawing():
        figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def to_svg(figure: "Figure") -> str:
    """The figure as text to put into an HTML page: `<svg>` without XML header, and nothing that points outside.

    All ids begin with a hash of the picture, so that several figures can stand in one page. Text stays text, and the
    figure's title is what a screen reader says.
    """
    text = svg(figure)
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    prefix = f"f{hashlib.sha256(text.encode()).hexdigest()[:10]}-"
    text = re.sub(r'\bid="|href="#|url\(#', lambda start: f"{start[0]}{prefix}", text)
    text = text.replace("*{", f"#{prefix}svg *{{", 1)  # the style sheet, which would be the whole page's
    title = escape(" ".join(figure.get_suptitle().split()), quote=True)
    return text.replace("<svg ", f'<svg id="{prefix}svg" role="img" aria-label="{title}" ', 1).strip() + "\n"

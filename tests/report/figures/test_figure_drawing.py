"""What is drawn: as many lines and points as there are, all text inside the figure, no label on another."""

import re
import sys
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.text import Annotation, Text

from ddlight.core.errors import UsageError
from ddlight.report.figures import style
from ddlight.report.figures.kinds import FIGURES, draw, draw_all


@pytest.fixture(scope="module")
def drawn(everything, analysis):
    """Every figure but the images, by name."""
    names = [name for name in FIGURES if name != "grids"]
    return {one.name: one for one in draw(everything, names, analysis)}


def lines(panel, least=2):
    """Lines of at least so many points."""
    return [line for line in panel.lines if len(line.get_xdata()) >= least]


def texts(figure):
    """Every text that is to be seen, with its box in dots; ticks outside the limits of their axis are not."""
    figure.draw_without_rendering()
    hidden = set()
    for panel in figure.axes:
        for axis, at in ((panel.xaxis, 0), (panel.yaxis, 1)):
            low, high = sorted(axis.get_view_interval())
            hidden |= {label for label in axis.get_ticklabels() if not low <= label.get_position()[at] <= high}
    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [(text, Text.get_window_extent(text)) for text in found if text not in hidden]


def test_every_figure_is_drawn_with_its_text_inside_and_no_label_on_another(drawn):
    assert list(drawn) == [name for name in FIGURES if name != "grids"]
    for name, one in drawn.items():
        assert one.problem == "" and len(one.data), name
        area = one.figure.bbox.padded(1)
        for text, box in texts(one.figure):
            assert area.contains(*box.min) and area.contains(*box.max), (name, text.get_text())
        for panel in one.figure.axes:
            ticks = [label for label in panel.get_xticklabels() if label.get_text()]
            labels = [text for text in panel.texts if isinstance(text, Annotation)]
            turned = any(tick.get_rotation() for tick in ticks)
            for a, b in [*combinations(labels, 2), *([] if turned else combinations(ticks, 2))]:
                assert not overlap(Text.get_window_extent(a), Text.get_window_extent(b)), (name, a, b)


def overlap(a, b):
    """Whether two boxes share more than an edge."""
    wide, high = (min(a.max[k], b.max[k]) - max(a.min[k], b.min[k]) for k in (0, 1))
    return wide > 0.5 and high > 0.5


def test_lines_and_points_are_those_of_the_data(drawn):
    budget = drawn["budget"]
    for panel, (_, own) in zip(budget.figure.axes, budget.data.groupby("settings", sort=False), strict=True):
        wanted = [part["mean"].tolist() for _, part in own.groupby(["row", "ipc"], dropna=False)]
        assert sorted(line.get_ydata().tolist() for line in lines(panel)) == sorted(wanted)
    ranks = drawn["regimes"]
    complete = ranks.data.dropna(subset=["rank"]).groupby(["ipc", "length"])["row"].nunique()
    panels = [panel for panel in ranks.figure.axes if panel.get_ylim()[0] > panel.get_ylim()[1]]
    assert [len(panel.lines) for panel in panels] == complete.tolist() == [4] * 6
    assert [text.get_text() for text in panels[0].texts] == sorted(["RDED", "Herding", "Random", "EL2N"])
    assert len(drawn["cross_architecture"].figure.axes[0].texts) == 4
    bands = drawn["difficulty"].figure.axes
    assert [sum(isinstance(c, PolyCollection) for c in panel.collections) for panel in bands] == [4, 4]
    front = drawn["cost"].data.groupby("settings", sort=False)["front"].sum().tolist()
    assert [len(panel.lines[0].get_xdata()) for panel in drawn["cost"].figure.axes] == front
    points = drawn["rep_div"].figure.axes
    assert [len(panel.lines) for panel in points] == [4] * 4
    solid = {line.get_linestyle() for line in drawn["convergence"].figure.axes[0].lines}
    assert solid == {"-", "--", "-."}


def test_the_second_time_the_bytes_are_the_same(everything):
    first, second = ([style.svg(one.figure) for one in draw(everything, ["windows", "budget"])] for _ in range(2))
    assert first == second
    assert not re.search(r"<dc:date>|20\d\d-\d\d", first[0])


def test_svg_for_a_page_has_ids_of_its_own_and_points_nowhere_outside(everything):
    made = [style.to_svg(one.figure) for one in draw(everything, ["budget", "misratio"])]
    for text in made:
        assert text.startswith("<svg ") and text.rstrip().endswith("</svg>")
        assert 'aria-label="Digits, ConvNet(depth=3, width=8)"' in text
        ids = re.findall(r'\bid="([^"]+)"', text)
        assert len(ids) == len(set(ids))
        used = re.findall(r'href="([^"]+)"', text) + re.findall(r"url\(([^)]+)\)", text)
        assert used and all(reference.startswith("#") and reference[1:] in ids for reference in used)
        assert not re.search(r"<metadata|<!DOCTYPE|\*\{", text.replace(" *{", ""))
        assert re.search(r"<text[^>]*>test accuracy \(%\)</text>", text)
    first, second = (set(re.findall(r'\bid="([^"]+)"', text)) for text in made)
    assert not first & second


def test_draw_all_returns_figures_by_name(study, results):
    for dataset in ("Digits", "MNIST"):
        for k, method in enumerate(("Random", "AUM")):
            for regime in ("HardLabel", "SoftLabel"):
                study.sets(method, [50.0 + k, 52.0], regime=regime, set__dataset=dataset)
    study.fail({"method": "Random"})
    found = draw_all(results())
    assert set(found) == {"regimes_Digits", "regimes_MNIST", "spread_Digits", "spread_MNIST"}
    assert found["regimes_MNIST"].get_suptitle() == "MNIST, ConvNet(depth=3, width=8)"


def test_drawing_changes_nothing_global(everything):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    list(draw(everything, ["misratio"]))
    assert dict(mpl.rcParams) == before


def test_without_matplotlib_it_says_what_to_install(everything, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'ddlight\[figures\]'"):
        list(draw(everything, ["misratio"]))


def test_failed_runs_alone_leave_everything_out(study, results):
    study.fail({"method": "Random"})
    assert draw_all(results()) == {}


def test_unknown_figure(everything):
    with pytest.raises(UsageError, match=r"no figure .regime..*Did you mean regimes"):
        list(draw(everything, ["regime"]))


def test_styles_differ():
    looks = style.styles([f"method {k}" for k in range(60)])
    assert len({(look.colour, look.marker) for look in looks.values()}) == 60
    assert style.styles(["AUM", "Random"])["Random"].colour == "black"


def test_labels_are_moved_apart_as_little_as_possible():
    assert style.apart([0.5, 0.1, 0.9], 0.1) == pytest.approx([0.5, 0.1, 0.9])
    assert style.apart([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])
    assert style.apart([0.99, 1.0, 0.2], 0.1) == pytest.approx([0.9, 1.0, 0.2])
    close = style.apart([0.3, 0.31, 0.32, 0.6], 0.1)
    assert close == pytest.approx([0.21, 0.31, 0.41, 0.6]) and np.diff(close).min() >= 0.1 - 1e-9


@pytest.mark.parametrize(("sets", "bars"), [(2, 0), (3, 1)])
def test_the_intervals_of_two_sets_are_not_drawn(sets, bars):
    _, (panel,) = style.panels([""], "", (3, 3))
    data = pd.DataFrame({"mean": [50.0], "ci_low": [-40.0], "ci_high": [140.0], "n": [sets]})
    style.line(panel, [1.0], data, style.styles(["A"])["A"].keywords)
    assert len(panel.collections) == bars

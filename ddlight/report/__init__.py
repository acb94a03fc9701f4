"""From result files to tables: collect, compare by condensed set, write. Reads result files and nothing else.

Nothing here imports torch.
"""

from ddlight.report.cells import Cell, Column, compare, csv, long_form
from ddlight.report.collect import collect
from ddlight.report.html import html
from ddlight.report.latex import latex
from ddlight.report.markdown import markdown
from ddlight.report.statistics import Sample, Verdict, judge

__all__ = [
    "Cell",
    "Column",
    "Sample",
    "Verdict",
    "collect",
    "compare",
    "csv",
    "html",
    "judge",
    "latex",
    "long_form",
    "markdown",
]

"""From result files to tables and figures: collect, compare by condensed set, write. Nothing else is read.

`report` imports from `core` alone, and so never torch. The one exception is `figures/grids.py`, which opens condensed
sets to show their images: it imports from `sets` and `data`, when it draws.
"""

from ddlight.report.cells import Column, TableCell, compare, csv, long_form
from ddlight.report.collect import collect
from ddlight.report.html import html
from ddlight.report.latex import latex
from ddlight.report.markdown import markdown

__all__ = ["Column", "TableCell", "collect", "compare", "csv", "html", "latex", "long_form", "markdown"]

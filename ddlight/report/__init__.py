"""From result files to tables: collect, compare by condensed set, write. Reads result files and nothing else.

Nothing here imports torch.
"""

from ddlight.report.cells import Cell, Column, compare, long_form
from ddlight.report.collect import collect
from ddlight.report.statistics import Sample, Verdict, judge
from ddlight.report.tables import csv, markdown

__all__ = ["Cell", "Column", "Sample", "Verdict", "collect", "compare", "csv", "judge", "long_form", "markdown"]

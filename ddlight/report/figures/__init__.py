"""Figures of results: each file computes one table of plotted numbers (`data`) and draws it (`draw`).

`kinds.draw_all` takes what `ddlight.report.collect.collect` returns; `style.to_svg` gives a figure to put into an HTML
page. Nothing here imports torch, but for grids of images, which read condensed sets. matplotlib is imported when
something is drawn.
"""

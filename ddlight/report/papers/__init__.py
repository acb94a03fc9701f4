"""What a report takes from one paper alone: its published numbers, its measures, its kinds of figures.

A file lies here where it names the paper that it follows, and its columns or its figure mean nothing without that
paper. What any set of results can be asked, such as statistics, tables and costs, lies in `report`.
"""

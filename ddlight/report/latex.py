"""A report as LaTeX: booktabs tables to put into a paper with \\input. No other package is needed."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from ddlight.report.blocks import Entry, Grid, Head, Listing, Note, Section
from ddlight.report.cells import Cell
from ddlight.report.sections import listings, sections

PAGE = 40
"""Rows that fit on a page; longer tables are continued in another."""
SIGNS = {  # a row that begins with [ or * would be an argument of the line break before it
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",
    "*": "{*}",
    "±": r"$\pm$",
    "−": r"$-$",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "§": r"\S{}",
    "¶": r"\P{}",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
}


def latex(cells: Sequence[Cell]) -> str:
    """One or more table floats for every grid of the report; then what failed and what is damaged, as lists.

    The text is a fragment: the document needs `booktabs` and, as LaTeX has had it since 2018, UTF-8. A table of many
    columns may be wider than the text: `table*` in a paper of two columns, or a page in landscape, has room for it.
    """
    lines = ["% Needs \\usepackage{booktabs}"]
    for section in sections(cells):
        for grid in section.grids:
            lines += _floats(section, grid)
    for listing in listings(cells):
        lines += _listing(listing)
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Any text as LaTeX that prints it; line breaks become spaces."""
    return "".join(SIGNS.get(sign, sign) for sign in re.sub(r"\s+", " ", text)).replace("--", "-{}-")


def _floats(section: Section, grid: Grid) -> Iterator[str]:
    """A grid in parts that fit on a page; sentences above and below it go with the last one."""
    starts = range(0, len(grid.rows), PAGE)
    for start in starts:
        continued = " (continued)" if start else ""
        title = ". ".join(filter(None, [section.title, f"{grid.title}{continued}"]))
        notes = _notes(grid) if start == starts[-1] else []
        caption = rf"\caption{{{escaped(f'{title}. {grid.caption}')}}}"
        yield from [r"\begin{table}[tbp]", r"\centering\footnotesize\setlength{\tabcolsep}{4pt}", caption]
        yield from _tabular(grid.heads, grid.rows[start : start + PAGE])
        yield from [*notes, r"\end{table}", ""]


def _tabular(heads: Sequence[Head], rows: Sequence[Sequence[Entry]]) -> list[str]:
    return [
        rf"\begin{{tabular}}{{{''.join('r' if head.number else 'l' for head in heads)}}}",
        r"\toprule",
        *_groups(heads),
        _line(escaped(head.label) for head in heads),
        r"\midrule",
        *(_line(map(_entry, row)) for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _groups(heads: Sequence[Head]) -> list[str]:
    """The line of shared headings over the columns that share them, and its rules; nothing where there are none."""
    spans, rules, start = [], [], 1
    for group, members in groupby(heads, key=lambda head: head.group):
        width = len(list(members))
        spans.append(rf"\multicolumn{{{width}}}{{{'c' if group else 'l'}}}{{{escaped(group)}}}")
        if group:
            rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    return [_line(spans), "".join(rules)] if rules else []


def _line(texts: Iterable[str]) -> str:
    return f"{' & '.join(texts)} \\\\"


def _entry(entry: Entry) -> str:
    text = escaped(entry.text)
    return " ".join(filter(None, [rf"\textbf{{{text}}}" if entry.strong else text, escaped(entry.marks)]))


def _notes(grid: Grid) -> list[str]:
    """The sentences of a grid as small paragraphs under the table."""
    texts = [*map(escaped, grid.intro), *map(_note, grid.notes)]
    return ["", r"\medskip", r"\begin{minipage}{\linewidth}\raggedright", *_paragraphs(texts), r"\end{minipage}"]


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    return (rf"{text}\par" for text in texts)


def _note(note: Note) -> str:
    return (rf"\textbf{{{escaped(note.strong)}}}" if note.strong else "") + escaped(note.text)


def _listing(listing: Listing) -> list[str]:
    items = [
        rf"\item \texttt{{{escaped(file)}}}: {escaped(f'{cell}: {error}' if cell else error)}"
        for file, cell, error in listing.items
    ]
    title = rf"\paragraph{{{escaped(listing.title)}: {len(listing.items)}}}"
    return [title, r"\begin{itemize}\footnotesize\raggedright", *items, r"\end{itemize}", ""]

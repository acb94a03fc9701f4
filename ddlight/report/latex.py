"""A report as LaTeX: booktabs tables to put into a paper with \\input. No other package is needed."""

import re
from collections.abc import Iterable, Iterator, Sequence

from ddlight.report.cells import TableCell
from ddlight.report.printed import PrintedCell, PrintedTable, note
from ddlight.report.sections import losses, sections

PAGE = 40
"""Rows that fit on a page; longer tables are continued in another."""
SIGNS = {  # a row that begins with [ or * would be an argument of the line break before it
    **{sign: f"\\{sign}" for sign in "{}$&#%_"},
    "\\": r"\textbackslash{}",
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


def latex(cells: Sequence[TableCell]) -> str:
    """One or more table floats for every table of the report; then what failed and what is damaged, as lists.

    The text is a fragment: the document needs `booktabs` and, as LaTeX has had it since 2018, UTF-8. A table of many
    columns may be wider than the text: `table*` in a paper of two columns, or a page in landscape, has room for it.
    """
    lines = ["% Needs \\usepackage{booktabs}"]
    for title, tables in sections(cells):
        for table in tables:
            lines += _floats(title, table)
    for title, items in losses(cells):
        lines += _list(title, items)
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Any text as LaTeX that prints it; line breaks become spaces."""
    return "".join(SIGNS.get(sign, sign) for sign in re.sub(r"\s+", " ", text)).replace("--", "-{}-")


def _floats(section: str, table: PrintedTable) -> Iterator[str]:
    """A table in parts that fit on a page; sentences above and below it go with the last one."""
    starts = range(0, len(table.rows), PAGE)
    for start in starts:
        continued = " (continued)" if start else ""
        title = ". ".join(filter(None, [section, f"{table.title}{continued}"]))
        yield from [r"\begin{table}[tbp]", r"\centering\footnotesize\setlength{\tabcolsep}{4pt}"]
        yield rf"\caption{{{escaped(f'{title}. {table.caption}')}}}"
        yield from _tabular(table, table.rows[start : start + PAGE])
        yield from _notes(table) if start == starts[-1] else []
        yield from [r"\end{table}", ""]


def _tabular(table: PrintedTable, rows: Sequence[Sequence[PrintedCell]]) -> list[str]:
    return [
        rf"\begin{{tabular}}{{{''.join('r' if head.number else 'l' for head in table.heads)}}}",
        r"\toprule",
        *_groups(table),
        _line(escaped(head.label) for head in table.heads),
        r"\midrule",
        *(_line(map(_cell, row)) for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _groups(table: PrintedTable) -> list[str]:
    """The line of shared headings over the columns that share them, and its rules; nothing where there are none."""
    spans, rules, start = [], "", 1
    for group, width in table.groups():
        spans.append(rf"\multicolumn{{{width}}}{{{'c' if group else 'l'}}}{{{escaped(group)}}}")
        if group:
            rules += rf"\cmidrule(lr){{{start}-{start + width - 1}}}"
        start += width
    return [_line(spans), rules] if spans else []


def _line(texts: Iterable[str]) -> str:
    return f"{' & '.join(texts)} \\\\"


def _cell(cell: PrintedCell) -> str:
    text = escaped(cell.text)
    return " ".join(filter(None, [rf"\textbf{{{text}}}" if cell.strong else text, escaped(cell.marks)]))


def _notes(table: PrintedTable) -> list[str]:
    notes = [note(text, escaped, lambda word: rf"\textbf{{{word}}}") for text in table.notes]
    texts = [rf"{text}\par" for text in [*map(escaped, table.intro), *notes]]
    return ["", r"\medskip", r"\begin{minipage}{\linewidth}\raggedright", *texts, r"\end{minipage}"]


def _list(title: str, files: Iterable[tuple[str, str, str]]) -> list[str]:
    items = [
        rf"\item \texttt{{{escaped(file)}}}: {escaped(f'{cell}: {error}' if cell else error)}"
        for file, cell, error in files
    ]
    head = [rf"\paragraph{{{escaped(title)}}}", r"\begin{itemize}\footnotesize\raggedright"]
    return [*head, *items, r"\end{itemize}", ""]

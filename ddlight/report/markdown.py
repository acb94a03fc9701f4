"""A report as Markdown."""

from collections.abc import Iterable, Sequence

from ddlight.report.cells import TableCell
from ddlight.report.printed import PrintedCell, PrintedTable, note
from ddlight.report.sections import losses, sections

LISTED = 20
BAR, ESCAPED_BAR = "|", r"\|"


def markdown(cells: Sequence[TableCell]) -> str:
    """One section for every dataset and student; then what failed and what is damaged."""
    parts = [
        "\n".join([f"## {title}", "", *(line for table in tables for line in _table(table))])
        for title, tables in sections(cells)
    ]
    for title, items in losses(cells):
        lines = [f"- {file}: {f'{cell}: {error}' if cell else error}" for file, cell, error in items[:LISTED]]
        more = [f"- and {len(items) - LISTED} more"] if len(items) > LISTED else []
        parts.append("\n".join([f"## {title}", "", *lines, *more, ""]))
    return "\n".join(parts)


def _table(table: PrintedTable) -> list[str]:
    """Title, caption, table and notes, each followed by an empty line."""
    blocks = [
        [f"### {table.title}"] if table.title else [],
        [table.caption],
        [f"- {_inline(text)}" for text in table.intro],
        [
            _row(head.title for head in table.heads),
            _row("---:" if head.number else "---" for head in table.heads),
            *(_row(map(_cell, row)) for row in table.rows),
        ],
        [f"- {note(text, _inline, lambda word: f'**{word}**')}" for text in table.notes],
    ]
    return [line for block in blocks if block for line in [*block, ""]]


def _row(texts: Iterable[str]) -> str:
    return f"| {' | '.join(_inline(text).replace(BAR, ESCAPED_BAR) for text in texts)} |"


def _cell(cell: PrintedCell) -> str:
    return " ".join(filter(None, [f"**{cell.text}**" if cell.strong else cell.text, cell.marks]))


def _inline(text: str) -> str:
    return text.replace("\n", " ")

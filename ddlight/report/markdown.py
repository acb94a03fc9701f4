"""A report as Markdown."""

from collections.abc import Iterable, Sequence

from ddlight.report.blocks import Entry, Grid, Listing, Note, Section
from ddlight.report.cells import Cell
from ddlight.report.sections import listings, sections

LISTED = 20
BAR, ESCAPED_BAR = "|", r"\|"


def markdown(cells: Sequence[Cell]) -> str:
    """One section for every dataset and student; then what failed and what is damaged."""
    parts = [*map(_section, sections(cells)), *map(_listing, listings(cells))]
    return "\n".join(parts)


def _section(section: Section) -> str:
    lines = [f"## {section.title}", ""]
    for grid in section.grids:
        lines += _grid(grid)
    return "\n".join(lines)


def _grid(grid: Grid) -> list[str]:
    """Title, caption, table and notes, each followed by an empty line."""
    blocks = [
        [f"### {grid.title}"] if grid.title else [],
        [grid.caption],
        [f"- {_inline(text)}" for text in grid.intro],
        _table(grid),
        [f"- {_note(note)}" for note in grid.notes],
    ]
    return [line for block in blocks if block for line in [*block, ""]]


def _table(grid: Grid) -> list[str]:
    return [
        _row(head.title for head in grid.heads),
        _row("---:" if head.number else "---" for head in grid.heads),
        *(_row(_entry(entry) for entry in row) for row in grid.rows),
    ]


def _row(texts: Iterable[str]) -> str:
    return f"| {' | '.join(_inline(text).replace(BAR, ESCAPED_BAR) for text in texts)} |"


def _entry(entry: Entry) -> str:
    return " ".join(filter(None, [f"**{entry.text}**" if entry.strong else entry.text, entry.marks]))


def _note(note: Note) -> str:
    return _inline(f"**{note.strong}**{note.text}" if note.strong else note.text)


def _inline(text: str) -> str:
    return text.replace("\n", " ")


def _listing(listing: Listing) -> str:
    """Count and names of files without a result, and the first line of what each says."""
    shown = [f"- {file}: {f'{cell}: {error}' if cell else error}" for file, cell, error in listing.items[:LISTED]]
    more = [f"- and {len(listing.items) - LISTED} more"] if len(listing.items) > LISTED else []
    return "\n".join([f"## {listing.title}: {len(listing.items)}", "", *shown, *more, ""])

"""A report as one HTML file that needs nothing else: no request leaves it, and its policy forbids any."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from itertools import groupby

import pandas as pd

from ddlight.report.blocks import Entry, Grid, Head, Listing, Note, Section, words
from ddlight.report.cells import Cell
from ddlight.report.runs import Runs, runs
from ddlight.report.sections import listings, sections

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
STATUSES = {"done": "runs done", "failed": "failed", "damaged": "unreadable"}

Part = tuple[str, str, str]
"""Id, title and content of a part of the page."""


def html(cells: Sequence[Cell], frame: pd.DataFrame, figures: Mapping[str, str]) -> str:
    """The whole report: tables that sort, figures, what failed, every run and what was asked of it, and where it ran.

    Args:
        cells: as `compare` returns them.
        frame: as `collect` returns it.
        figures: SVG text by title; ids inside are unique over all of them.
    """
    tables = [_section(f"table-{number}", section) for number, section in enumerate(sections(cells), 1)]
    lost = [_listing(listing) for listing in listings(cells)]
    parts = [*tables, *_figures(figures), *lost, *_runs(runs(frame))]
    contents = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title, _ in parts)
    body = "\n".join(
        f'<section id="{name}">\n<h2>{escape(title)}</h2>\n{text}\n</section>' for name, title, text in parts
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ddlight report</title>
<style>
{_asset("page.css")}</style>
</head>
<body>
<main>
<h1>ddlight report</h1>
<p>{_summary(frame)}</p>
<nav aria-label="Contents"><ul>{contents}</ul></nav>
{body}
</main>
<script>
{_asset("page.js")}</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    return (resources.files("ddlight.report") / name).read_text()


def _summary(frame: pd.DataFrame) -> str:
    counts = frame["status"].value_counts()
    said = [f"{counts[status]} {text}" for status, text in STATUSES.items() if status in counts]
    return f"{', '.join(said)}. Click a heading to sort by it."


def _section(name: str, section: Section) -> Part:
    return name, section.title, "\n".join(map(_grid, section.grids))


def _figures(figures: Mapping[str, str]) -> list[Part]:
    drawn = [
        f'<figure role="group" aria-label="{escape(title)}">{svg}<figcaption>{escape(title)}</figcaption></figure>'
        for title, svg in figures.items()
    ]
    return [("figures", "Figures", "\n".join(drawn))] if drawn else []


def _listing(listing: Listing) -> Part:
    heads = [Head(name, number=False, sentence=name == "error") for name in ("file", "run", "error")]
    rows = [words(*item) for item in listing.items]
    title = f"{listing.title}: {len(listing.items)}"
    return listing.title.split()[0].lower(), title, _table(Grid(title, "", heads, rows))


def _runs(found: Runs | None) -> list[Part]:
    if found is None:
        return []
    asked = "\n".join(
        f'<details id="{one.name}"><summary>{escape(one.title)}</summary><pre>{escape(one.text)}</pre></details>'
        for one in found.asked
    )
    return [
        ("runs", found.listed.title, f"<p>{found.listed.caption}</p>\n{_table(found.listed)}"),
        ("asked", "What was asked", f"<p>Every setting that the runs had, seeds aside.</p>\n{asked}"),
        ("environment", found.environment.title, f"<p>{found.environment.caption}</p>\n{_table(found.environment)}"),
    ]


def _grid(grid: Grid) -> str:
    """Title, caption, table and notes."""
    title = f"<h3>{escape(grid.title)}</h3>" if grid.title else ""
    parts = [title, f"<p>{escape(grid.caption)}</p>", _list(map(escape, grid.intro)), _table(grid)]
    return "\n".join(filter(None, [*parts, _list(map(_note, grid.notes))]))


def _list(items: Iterable[str]) -> str:
    lines = "".join(f"<li>{item}</li>" for item in items)
    return f'<ul class="notes">{lines}</ul>' if lines else ""


def _note(note: Note) -> str:
    return (f"<strong>{escape(note.strong)}</strong>" if note.strong else "") + escape(note.text)


def _table(grid: Grid) -> str:
    """The table, in a box that scrolls."""
    label = escape(grid.title or grid.caption)
    rows = "\n".join(f"<tr>{_row(row, grid.heads)}</tr>" for row in grid.rows)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table>\n'
        f"<thead>{_heads(grid.heads)}</thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _heads(heads: Sequence[Head]) -> str:
    """Headings that sort, below the groups that they share."""
    grouped = any(head.group for head in heads)
    spans = [(group, len(list(members))) for group, members in groupby(heads, key=lambda head: head.group)]
    groups = "".join(
        f'<th colspan="{width}" scope="colgroup" class="group">{escape(group)}</th>'
        if group
        else f'<td colspan="{width}"></td>'
        for group, width in spans
    )
    labels = "".join(
        f'<th scope="col" data-column="{number}"{_classes(number=head.number)}>'
        f'<button type="button">{escape(head.label)}</button></th>'
        for number, head in enumerate(heads)
    )
    return f"{f'<tr>{groups}</tr>' if grouped else ''}<tr>{labels}</tr>"


def _row(row: Sequence[Entry], heads: Sequence[Head]) -> str:
    first = f'<th scope="row">{_text(row[0])}</th>'
    others = [
        f"<td{_classes(number=head.number, sentence=head.sentence, weak=entry.weak)}{_value(entry, head)}>"
        f"{_text(entry)}</td>"
        for entry, head in zip(row[1:], heads[1:], strict=True)
    ]
    return first + "".join(others)


def _value(entry: Entry, head: Head) -> str:
    """What a number is sorted by; "" where it is missing."""
    return f' data-value="{"" if entry.value is None else repr(float(entry.value))}"' if head.number else ""


def _text(entry: Entry) -> str:
    text = escape(entry.text)
    if entry.target:
        text = f'<a href="#{entry.target}">{text}</a>'
    return " ".join(filter(None, [f"<strong>{text}</strong>" if entry.strong else text, escape(entry.marks)]))


def _classes(**given: bool) -> str:
    names = " ".join(name for name, on in given.items() if on)
    return f' class="{names}"' if names else ""

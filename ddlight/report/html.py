"""A report as one HTML file that needs nothing else: no request leaves it, and its policy forbids any."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from html import escape
from importlib import resources
from pathlib import PurePosixPath

import pandas as pd

from ddlight.core.result import Machine, Versions
from ddlight.report.cells import Record, TableCell, records
from ddlight.report.printed import Head, PrintedCell, PrintedTable, note, number, words
from ddlight.report.sections import losses, sections

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
STATUSES = {"done": "runs done", "failed": "failed", "damaged": "unreadable"}
REQUEST = {
    "dataset": "set.dataset",
    "method": "set.method",
    "arguments": "set.args",
    "regime": "regime",
    "teachers": "teachers",
    "protocol": "protocol",
    "recipe": "recipe",
    "augmentation": "augment",
    "student": "student.class",
    "student's arguments": "student.args",
    "budget": "budget.asked",
    "unit of the budget": "budget.unit",
}
"""What a run was asked to do: everything that shapes it, seeds aside."""
OBJECTS = ("set.args", "teachers", "recipe", "augment", "student.args")
LISTED = {
    "config": "config",
    "dataset": "set.dataset",
    "method": "set.method",
    "ipc": "set.ipc",
    "set seed": "set.seed",
    "regime": "regime",
    "protocol": "protocol",
    "student": "student.class",
    "seed": "seed",
    "finished": "finished",
}
NUMBERS = ("set.ipc", "set.seed", "seed")

Part = tuple[str, str, str]
"""Id, title and content of a part of the page."""


def html(cells: Sequence[TableCell], frame: pd.DataFrame, figures: Mapping[str, str]) -> str:
    """The whole report: tables that sort, figures, what failed, every run and what was asked of it, and where it ran.

    `cells` are those of `compare`, `frame` that of `collect`; `figures` are SVG texts by title, whose ids are unique
    over all of them.
    """
    parts = [
        (f"table-{k}", title, "\n".join(map(_titled_table, tables)))
        for k, (title, tables) in enumerate(sections(cells), 1)
    ]
    drawn = [
        f'<figure role="group" aria-label="{escape(title)}">{svg}<figcaption>{escape(title)}</figcaption></figure>'
        for title, svg in figures.items()
    ]
    parts += [("figures", "Figures", "\n".join(drawn))] if drawn else []
    for title, items in losses(cells):
        heads = [Head(name, number=False, sentence=name == "error") for name in ("file", "run", "error")]
        lost = PrintedTable(title, "", heads, [words(*item) for item in items])
        parts.append((title.split()[0].lower(), title, _table(lost)))
    parts += _runs(records(frame[frame["status"] == "done"]))
    contents = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title, _ in parts)
    body = "\n".join(
        f'<section id="{name}">\n<h2>{escape(title)}</h2>\n{text}\n</section>' for name, title, text in parts
    )
    assets = resources.files("ddlight.report")
    counts = frame["status"].value_counts()
    summary = ", ".join(f"{counts[status]} {text}" for status, text in STATUSES.items() if status in counts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ddlight report</title>
<style>
{(assets / "page.css").read_text()}</style>
</head>
<body>
<main>
<h1>ddlight report</h1>
<p>{summary}. Click a heading to sort by it.</p>
<nav aria-label="Contents"><ul>{contents}</ul></nav>
{body}
</main>
<script>
{(assets / "page.js").read_text()}</script>
</body>
</html>
"""


def _runs(done: Sequence[Record]) -> list[Part]:
    """Every run, one row each, whose last cell leads to its request; each request once; where the runs were trained."""
    if not done:
        return []
    requests: dict[tuple[object, ...], tuple[int, Record]] = {}
    rows = []
    for record in done:
        key = tuple(record[name] for name in REQUEST.values())
        request, _ = requests.setdefault(key, (len(requests) + 1, record))
        rows.append(_run(record, request))
    heads = [Head("run", number=False), *(Head(name, number=key in NUMBERS) for name, key in LISTED.items())]
    heads += [Head("test accuracy"), Head("asked", number=False)]
    caption = "One training of one student on one condensed set each. Accuracy in percent, of the last step."
    runs = PrintedTable(f"Runs: {len(rows)}", caption, heads, rows)
    details = "\n".join(_request(k, record) for k, record in requests.values())
    machines = _environment(done)
    return [
        ("runs", runs.title, f"<p>{caption}</p>\n{_table(runs)}"),
        ("asked", "What was asked", f"<p>Every setting that the runs had, seeds aside.</p>\n{details}"),
        ("environment", machines.title, f"<p>{machines.caption}</p>\n{_table(machines)}"),
    ]


def _run(record: Record, request: int) -> list[PrintedCell]:
    folder = PurePosixPath(record["file"]).parent.as_posix()
    cells = [PrintedCell(record["run"] if folder == "." else folder)]
    for name in LISTED.values():
        if record[name] is None or name in NUMBERS:
            cells.append(number(record[name], lambda value: str(int(value))))
        else:
            cells.append(PrintedCell(str(record[name])))
    accuracy = number(record["acc.test"], "{:.2f}".format)
    return [*cells, accuracy, PrintedCell(f"asked {request}", target=f"asked-{request}")]


def _request(k: int, record: Record) -> str:
    parts = {name: json.loads(record[key]) if key in OBJECTS else record[key] for name, key in REQUEST.items()}
    length = f"{record['budget.asked']:,.10g} {record['budget.unit'].replace('_', ' ')}"
    title = f"{k}: {record['set.method']}, {record['regime']}, {record['protocol']}, {length}"
    text = escape(json.dumps(parts, indent=1, ensure_ascii=False))
    return f'<details id="asked-{k}"><summary>{escape(title)}</summary><pre>{text}</pre></details>'


def _environment(done: Sequence[Record]) -> PrintedTable:
    names = [f"{kind.__name__.lower()}.{part.name}" for kind in (Machine, Versions) for part in fields(kind)]
    counts = Counter(tuple(str(record[name]) for name in names) for record in done)
    rows = [[*words(*key), PrintedCell(str(count), count)] for key, count in sorted(counts.items())]
    heads = [*(Head(name.split(".")[1], number=False) for name in names), Head("runs")]
    return PrintedTable("Environment", "Where the runs were trained, and with which versions.", heads, rows)


def _titled_table(table: PrintedTable) -> str:
    title = f"<h3>{escape(table.title)}</h3>" if table.title else ""
    notes = [note(text, escape, lambda word: f"<strong>{word}</strong>") for text in table.notes]
    parts = [title, f"<p>{escape(table.caption)}</p>", _list(map(escape, table.intro)), _table(table), _list(notes)]
    return "\n".join(filter(None, parts))


def _list(items: Iterable[str]) -> str:
    lines = "".join(f"<li>{item}</li>" for item in items)
    return f'<ul class="notes">{lines}</ul>' if lines else ""


def _table(table: PrintedTable) -> str:
    label = escape(table.title or table.caption)
    rows = "\n".join(f"<tr>{_row(row, table.heads)}</tr>" for row in table.rows)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table>\n'
        f"<thead>{_heads(table)}</thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _heads(table: PrintedTable) -> str:
    """Headings that sort, below the groups that they share."""
    groups = "".join(
        f'<th colspan="{width}" scope="colgroup" class="group">{escape(group)}</th>'
        if group
        else f'<td colspan="{width}"></td>'
        for group, width in table.groups()
    )
    labels = "".join(
        f'<th scope="col" data-column="{k}"{_classes(number=head.number)}>'
        f'<button type="button">{escape(head.label)}</button></th>'
        for k, head in enumerate(table.heads)
    )
    return f"{f'<tr>{groups}</tr>' if groups else ''}<tr>{labels}</tr>"


def _row(row: Sequence[PrintedCell], heads: Sequence[Head]) -> str:
    texts = [f'<th scope="row">{_text(row[0])}</th>']
    for cell, head in zip(row[1:], heads[1:], strict=True):
        key = "" if cell.value is None else repr(float(cell.value))  # what a number is sorted by
        attributes = _classes(number=head.number, sentence=head.sentence, weak=cell.weak)
        attributes += f' data-value="{key}"' if head.number else ""
        texts.append(f"<td{attributes}>{_text(cell)}</td>")
    return "".join(texts)


def _text(cell: PrintedCell) -> str:
    text = escape(cell.text)
    if cell.target:
        text = f'<a href="#{cell.target}">{text}</a>'
    return " ".join(filter(None, [f"<strong>{text}</strong>" if cell.strong else text, escape(cell.marks)]))


def _classes(**chosen: bool) -> str:
    names = " ".join(name for name, on in chosen.items() if on)
    return f' class="{names}"' if names else ""

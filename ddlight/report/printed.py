"""What a report says before it becomes Markdown, LaTeX or HTML: printed tables, whose cells are text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

MISSING = "–"
UNKNOWN = "—"


@dataclass(frozen=True)
class PrintedCell:
    """One cell of a printed table."""

    text: str
    value: float | None = None  # the number behind the text, to sort by; None for words and for what is missing
    marks: str = ""  # signs that follow it, such as "†"
    strong: bool = False  # set in bold
    weak: bool = False  # set in grey where there are colours: worth less than it looks
    target: str = ""  # id of the part of the page that it leads to


@dataclass(frozen=True)
class Head:
    """Heading of a column."""

    label: str
    group: str = ""  # what it shares with its neighbours; "" for none
    number: bool = True  # whether its cells are numbers
    sentence: bool = False  # whether they are texts that may be broken into lines

    @property
    def title(self) -> str:
        """Group and label as one text."""
        return " ".join(filter(None, [self.group, self.label]))


@dataclass(frozen=True)
class PrintedTable:
    """One printed table."""

    title: str  # what it shows; "" where the section's title says so
    caption: str  # how to read it
    heads: Sequence[Head]  # of the columns; the first column names the row
    rows: Sequence[Sequence[PrintedCell]]
    intro: Sequence[str] = ()  # sentences above it
    notes: Sequence[str] = ()  # sentences below it; where one begins with the word "Bold", that word is bold

    def turned(self, corner: str) -> "PrintedTable":
        """The same with rows as columns; `corner` heads what was the columns' headings."""
        names = [" ".join(filter(None, [row[0].text, row[0].marks])) for row in self.rows]
        columns = enumerate(self.heads[1:], start=1)
        rows = [[PrintedCell(head.title), *(row[k] for row in self.rows)] for k, head in columns]
        return replace(self, heads=[Head(corner, number=False), *map(Head, names)], rows=rows)

    def groups(self) -> list[tuple[str, int]]:
        """What neighbouring columns share ("" for nothing), and the number of columns; empty where none share any."""
        spans = [(group, len(list(heads))) for group, heads in groupby(self.heads, key=lambda head: head.group)]
        return spans if any(group for group, _ in spans) else []


def words(*texts: str) -> list[PrintedCell]:
    """Cells that are only text."""
    return [PrintedCell(text) for text in texts]


def number(value: float | None, text: Callable[[Any], str], missing: str = MISSING) -> PrintedCell:
    """The cell of a number, which `text` writes; `missing` where it is None."""
    return PrintedCell(missing, weak=True) if value is None else PrintedCell(text(value), value)


def note(text: str, escape: Callable[[str], str], bold: Callable[[str], str]) -> str:
    """A note as a format writes it."""
    first = "Bold" if text.startswith("Bold") else ""
    return (bold(first) if first else "") + escape(text.removeprefix(first))


def signed(value: float, digits: int) -> str:
    """A difference with its sign: "+2.1", "−0.3"."""
    return f"{value:+.{digits}f}".replace("-", "−")

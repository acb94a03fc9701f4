"""What a report says before it becomes Markdown, LaTeX or HTML: sections of printed tables, whose cells are text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

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
class Note:
    """One sentence below a table; `strong` comes first, in bold."""

    text: str
    strong: str = ""


@dataclass(frozen=True)
class PrintedTable:
    """One printed table."""

    title: str  # what it shows; "" where the section's title says so
    caption: str  # how to read it
    heads: Sequence[Head]  # of the columns; the first column names the row
    rows: Sequence[Sequence[PrintedCell]]
    intro: Sequence[str] = ()  # sentences above it
    notes: Sequence[Note] = ()  # sentences below it

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


@dataclass(frozen=True)
class Section:
    """All printed tables of one dataset and student."""

    title: str
    tables: Sequence[PrintedTable]


@dataclass(frozen=True)
class Losses:
    """Files without a result: (file, which cell it was as far as it says, error) each."""

    title: str
    items: Sequence[tuple[str, str, str]]


METHOD_AND_COLUMN = (Head("method", number=False), Head("column", number=False))
"""First headings of a table of which each row is one cell of the main table."""


def words(*texts: str) -> list[PrintedCell]:
    """Cells that are only text."""
    return [PrintedCell(text) for text in texts]


def signed(value: float, digits: int) -> str:
    """A difference with its sign: "+2.1", "−0.3"."""
    return f"{value:+.{digits}f}".replace("-", "−")

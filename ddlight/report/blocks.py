"""What a report says, before it becomes Markdown, LaTeX or HTML: sections of grids, whose entries are plain text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

MISSING = "–"
UNKNOWN = "—"


@dataclass(frozen=True)
class Entry:
    """One cell of a printed table.

    Attributes:
        text: as it is read.
        value: the number behind it, to sort by; None for words, and for what is missing.
        marks: signs that follow it, such as "†".
        strong: set in bold.
        weak: set in grey where there are colours: worth less than it looks.
        target: id of the part of the page that it leads to.
    """

    text: str
    value: float | None = None
    marks: str = ""
    strong: bool = False
    weak: bool = False
    target: str = ""


@dataclass(frozen=True)
class Head:
    """Heading of a column.

    Attributes:
        label: its own.
        group: what it shares with its neighbours; "" for none.
        number: whether its entries are numbers.
        sentence: whether they are texts that may be broken into lines.
    """

    label: str
    group: str = ""
    number: bool = True
    sentence: bool = False

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
class Grid:
    """One printed table.

    Attributes:
        title: what it shows; "" where the section's title says so.
        caption: how to read it.
        heads: headings of the columns; the first column names the row.
        rows: as many entries each.
        intro: sentences above it.
        notes: sentences below it.
    """

    title: str
    caption: str
    heads: Sequence[Head]
    rows: Sequence[Sequence[Entry]]
    intro: Sequence[str] = ()
    notes: Sequence[Note] = ()

    def turned(self, corner: str) -> "Grid":
        """The same with rows as columns; `corner` heads what was the columns' headings."""
        names = [" ".join(filter(None, [row[0].text, row[0].marks])) for row in self.rows]
        heads = [Head(corner, number=False), *map(Head, names)]
        columns = enumerate(self.heads[1:], start=1)
        return replace(self, heads=heads, rows=[[Entry(h.title), *(row[k] for row in self.rows)] for k, h in columns])


@dataclass(frozen=True)
class Section:
    """All grids of one dataset and student."""

    title: str
    grids: Sequence[Grid]


@dataclass(frozen=True)
class Listing:
    """Files without a result: (file, which cell it was as far as it says, error) each."""

    title: str
    items: Sequence[tuple[str, str, str]]


def words(*texts: str) -> list[Entry]:
    """Entries that are only text."""
    return [Entry(text) for text in texts]


def signed(value: float, digits: int) -> str:
    """A difference with its sign: "+2.1", "−0.3"."""
    return f"{value:+.{digits}f}".replace("-", "−")

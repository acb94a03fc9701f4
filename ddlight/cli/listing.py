"""`ddlight methods, regimes, protocols, datasets, configs`: what there is, one a line, without importing torch."""

import argparse
import fnmatch
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ddlight.cli.configs import shipped
from ddlight.core.discover import Entry, dataset_entries, methods, regimes
from ddlight.core.errors import UsageError, nearest
from ddlight.data import table as data_table

T = TypeVar("T")
START = ("quickstart", "my_photos")
"""Configs to begin with."""
PAPERS = ("ht_", "dvc_")
"""Beginnings of the names of studies that are a paper's table or figure."""
GROUPS = {
    "start": "Start here",
    "coresets": "Methods: coresets, which choose real images",
    "decoupled": "Methods: decoupled distillation, which recovers images from trained networks, and mosaics",
    "matching": "Methods: distillation by matching gradients, features, trajectories or kernels",
    "generative": "Methods: distillation by generators, which draw the images",
    "": "Papers: one run of a published recipe",
    "papers": "Papers: their tables and figures, as studies",
    "studies": "Studies: many runs in one file",
    "teachers": "Teachers",
    "generators": "Generators, which ddlight trains",
    "sweeps": "Sweeps of Weights & Biases",
    "base": "Fragments, which other files name",
}
"""Folder below configs/, or kind: the title of its group, in the order in which groups are listed."""


def methods_command(argv: Sequence[str]) -> int:
    """Run `ddlight methods [PATTERN]`. Returns the exit code."""
    pattern = _parser("methods", "every coreset and distillation method").parse_args(argv).pattern
    return _list_entries("method", methods(), pattern, ("name", "kind", "family", "summary", "source"))


def regimes_command(argv: Sequence[str]) -> int:
    """Run `ddlight regimes [PATTERN]`. Returns the exit code."""
    pattern = _parser("regimes", "every label regime: what the student is asked to match").parse_args(argv).pattern
    return _list_entries("regime", regimes(), pattern, ("name", "summary", "source"))


def protocols_command(argv: Sequence[str]) -> int:
    """Run `ddlight protocols [PATTERN]`; one protocol alone is described in full. Returns the exit code."""
    from ddlight.recipes.table import PROTOCOLS, describe

    pattern = (
        _parser("protocols", "every published recipe: regime, optimiser, schedule, augmentation, length")
        .parse_args(argv)
        .pattern
    )
    chosen = _choose("protocol", list(PROTOCOLS.values()), pattern, lambda p: (p.name, p.regime))
    if pattern and len(chosen) == 1:
        lines = [chosen[0].name, *(f"  {line}" for line in describe(chosen[0].name))]
        return write_lines([*lines, *fact_lines({"file": chosen[0].rule.__code__.co_filename})])
    rows = [(p.name, p.regime, p.summary, p.source) for p in chosen]
    return write_lines(table(("name", "regime", "summary", "source"), rows))


def datasets_command(argv: Sequence[str]) -> int:
    """Run `ddlight datasets [PATTERN]`; one dataset alone is shown with how to get it. Returns the exit code.

    Datasets without a row in the table, such as `NoisyLabels` and one's own, are listed by their class.
    """
    pattern = _parser("datasets", "every real dataset, with its numbers of images").parse_args(argv).pattern
    every: list[data_table.DatasetInfo | Entry] = list(data_table.TABLE.values())
    every += [entry for entry in dataset_entries() if entry.name not in data_table.TABLE]
    chosen = _choose("dataset", every, pattern, lambda dataset: (dataset.name,))
    infos, others = [i for i in chosen if not isinstance(i, Entry)], [e for e in chosen if isinstance(e, Entry)]
    if pattern and len(chosen) == len(others) == 1:
        return _list_entries("dataset", others, pattern, ())
    if pattern and len(chosen) == 1:
        return write_lines([infos[0].name, *(f"  {line}" for line in data_table.describe(infos[0]))])
    rows = [
        (i.name, _count(i.num_classes), f"{i.channels}x{i.size}x{i.size}", _count(i.train), _count(i.test), i.note)
        for i in infos
    ]
    rows += [(e.name, "", "", "", "", e.summary) for e in others]
    return write_lines(table(("name", "classes", "size", "train", "test", "note"), rows))


def configs_command(argv: Sequence[str]) -> int:
    """Run `ddlight configs [PATTERN]`: files below ./configs and those that are shipped. Returns the exit code."""
    parser = _parser("configs", "configuration files, with their first comment")
    parser.add_argument("--all", action="store_true", help="fragments too, which other files name")
    options = parser.parse_args(argv)
    files = configs()
    if not files:
        raise UsageError(f"No configuration found below {Path.cwd() / 'configs'} or {shipped()}.")
    chosen = _choose("config", list(files), options.pattern, lambda name: (name, name.rpartition("/")[2]))
    groups: dict[str, list[tuple[str, str]]] = {title: [] for title in GROUPS.values()}
    for name in chosen:
        groups.setdefault(_group(name), []).append((name, first_comment(files[name])))
    fragments = groups.pop(GROUPS["base"])
    if options.all or options.pattern:
        groups[GROUPS["base"]] = fragments
    rows = table(("", ""), [row for group in groups.values() for row in group])[1:]
    lines = ["ddlight fit --config NAME, for a study ddlight grid NAME, in any folder:"]
    for title, group in groups.items():
        lines += ["", title, *(f"  {rows.pop(0)}" for _ in group)] if group else []
    return write_lines(lines)


def configs() -> dict[str, Path]:
    """Every config by name, such as "coresets/herding": those below ./configs go before those that are shipped."""
    folders = (shipped(), Path("configs"))
    files = {f.relative_to(top).with_suffix("").as_posix(): f for top in folders for f in top.rglob("*.yaml")}
    return dict(sorted(files.items()))


def _group(name: str) -> str:
    """Title of the group that a config is listed in."""
    if name.rpartition("/")[2] in START:
        return GROUPS["start"]
    folder, _, rest = name.rpartition("/")
    top = folder.partition("/")[0]
    if top == "studies" and rest.startswith(PAPERS):
        return GROUPS["papers"]
    return GROUPS.get(top, f"Methods: {top}")


def first_comment(file: Path) -> str:
    """Return the first comment line of a file, without its mark; "" where it has none."""
    with file.open(encoding="utf-8") as lines:
        return next((line.strip().lstrip("#").strip() for line in lines if line.lstrip().startswith("#")), "")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Align rows under a header, cutting the widest columns so that each line fits.

    Args:
        header: column names; a column that is empty in every row is left out.
        rows: cells, one line each.
        width: characters a line may have; the terminal's by default, without limit where there is no terminal.
    """
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    cells = [[row[i] for i in kept] for row in (header, *rows)]
    width = shutil.get_terminal_size(fallback=(100_000, 24)).columns if width is None else width
    widths = _fit([max(map(len, column)) for column in zip(*cells, strict=True)], width)
    return ["  ".join(_cell(c, w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]


def _fit(widths: list[int], width: int) -> list[int]:
    """Shrink the widest columns evenly until all of them, two blanks apart, take `width` characters."""
    room = width - 2 * (len(widths) - 1)
    cap = max(widths, default=0)
    while sum(min(w, cap) for w in widths) > room and cap > 8:
        cap -= 1
    return [min(w, cap) for w in widths]


def _cell(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[: width - 1].rstrip().ljust(width - 1) + "…"


def _count(number: int) -> str:
    return f"{number:,}" if number else "as found"


def fact_lines(facts: Mapping[str, str]) -> list[str]:
    """Write one `name  value` line each, where there is a value."""
    return [f"  {name:<10}  {value}" for name, value in facts.items() if value]


def _parser(command: str, what: str) -> argparse.ArgumentParser:
    """A parser of the one argument that the listing commands take."""
    parser = argparse.ArgumentParser(prog=f"ddlight {command}", description=f"List {what}.", allow_abbrev=False)
    parser.add_argument(
        "pattern", nargs="?", help="part of a name, or a pattern such as 'dc*'; an exact name tells more"
    )
    return parser


def _choose(what: str, things: Sequence[T], pattern: str | None, words: Callable[[T], Sequence[str]]) -> list[T]:
    """Return the things that `pattern` matches; those whose first word it equals go alone.

    Args:
        what: singular name of the things, for the message.
        things: what there is.
        pattern: part of a word, or an fnmatch pattern, in any case; None takes everything.
        words: gives the words of a thing, its name first.

    Raises:
        UsageError: nothing matches.
    """
    if pattern is None:
        return list(things)
    exact = [t for t in things if words(t)[0].lower() == pattern.lower()]
    found = exact or [t for t in things if _matches(pattern, words(t))]
    if not found:
        close = nearest(pattern, [words(t)[0] for t in things])
        raise UsageError(f"No {what} matches '{pattern}'.{close} All {len(things)} of them: ddlight {what}s")
    return found


def _matches(pattern: str, words: Sequence[str]) -> bool:
    """Whether a pattern is part of a word, or an fnmatch pattern of one, in any case."""
    wild = pattern.lower() if any(mark in pattern for mark in "*?[") else f"*{pattern.lower()}*"
    return any(fnmatch.fnmatchcase(word.lower(), wild) for word in words)


def list_methods(pattern: str = "*") -> list[str]:
    """Names of the methods that a pattern matches, as `ddlight methods` does: by name, kind or family.

    >>> list_methods("*kmeans*")
    ['KMeans']

    Args:
        pattern: part of a name, of "select" or "synthesise", or of a family; or an fnmatch pattern; in any case.
    """
    return [e.name for e in methods() if _matches(pattern, (e.name, e.kind, e.family))]


def _list_entries(what: str, entries: list[Entry], pattern: str | None, columns: Sequence[str]) -> int:
    """Write entries as a table, or one that the pattern singles out with everything known of it."""
    chosen = _choose(what, entries, pattern, lambda e: (e.name, e.kind, e.family))
    if pattern and len(chosen) == 1:
        e = chosen[0]
        facts = {"kind": e.kind.strip("-"), "paper": e.paper, "class_path": f"{e.module}.{e.name}", "file": str(e.file)}
        return write_lines([f"{e.name}: {e.summary}", *fact_lines(facts)])
    return write_lines(table(columns, [[getattr(e, column) for column in columns] for e in chosen]))


def write_lines(lines: Iterable[str]) -> int:
    """Write lines to the standard output. Returns the exit code, 0."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0

"""Whether two lists of classes mean the same: the one place where names of classes are compared.

Names decide wherever both sides have them, as they are or but for case and punctuation, also after a number
(`00012_tench`). A number alone (12, 00012, new012, class12) is a class's name where classes are called by numbers, else
a position among the classes; or in ImageNet-1K, where there are more numbers than classes and these are its wnids.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from ddlight.core.errors import DataError

NUMBERED = re.compile(r"(?:new|class)?_?(\d+)(?:_(.*))?", re.DOTALL)
WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Matched:
    """Class of each name of others, None where the dataset has no such class; and how that was told."""

    labels: dict[str, int | None]
    how: str


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """ImageNet-1K's 1,000 classes in the order in which networks count them."""
    from timm.data import ImageNetInfo

    return tuple(sorted(ImageNetInfo("imagenet-1k").label_names()))


def plain(name: str) -> str:
    """A name without case and punctuation."""
    return re.sub(r"[\W_]+", "_", name.casefold()).strip("_")


def match_classes(names: Iterable[str], classes: Sequence[str], of: str) -> Matched:
    """Say which of a dataset's `classes` each of the `names` is; `of` is the dataset's name, for messages.

    Raises:
        DataError: a name is neither a class's nor a number, no name is of this dataset, or two are the same class.
    """
    theirs = sorted(set(names))
    numbers = {name: NUMBERED.fullmatch(name) for name in theirs}
    behind = {name: match[2] or "" if match else name for name, match in numbers.items()}
    ways: list[tuple[str, Callable[[str], str], Callable[[str], str]]] = [
        ("by name", lambda name: name, lambda own: own),
        ("by name, whatever its case", plain, plain),
        ("by the name behind its number", lambda name: plain(behind[name]), plain),
    ]
    for how, read, call in ways:
        own = {call(name): label for label, name in enumerate(classes)}
        if len(own) == len(classes) and any(read(name) in own for name in theirs):
            return _different({name: own.get(read(name)) for name in theirs}, classes, how)
    if all(WNID.fullmatch(name) for name in theirs):
        raise DataError(f"None of the {len(theirs)} wnids, such as {theirs[0]}, is a class of {of}.")
    positions = {name: int(match[1]) for name, match in numbers.items() if match}
    if other := sorted(set(theirs) - set(positions)):
        raise DataError(f"{other[0]!r} is no class of {of}, no wnid and no number.")
    if all(name.isdecimal() for name in classes):
        called = {int(name): label for label, name in enumerate(classes)}
        found = {name: called.get(number) for name, number in positions.items()}
        return _different(found, classes, "by number, which is a class's name here")
    if max(positions.values()) < len(classes):
        return _different(dict(positions), classes, f"by position: 0 is {classes[0]}")
    if not all(WNID.fullmatch(name) for name in classes):
        raise DataError(f"The classes go up to {max(positions.values())}, and {of} has {len(classes)} classes.")
    labels, wnids = {name: label for label, name in enumerate(classes)}, imagenet_wnids()
    whole = {name: labels.get(wnids[n]) if n < len(wnids) else None for name, n in positions.items()}
    return _different(whole, classes, "by position in ImageNet-1K")


def _different(labels: dict[str, int | None], classes: Sequence[str], how: str) -> Matched:
    first: dict[int, str] = {}
    for name, label in labels.items():
        if label is not None and first.setdefault(label, name) != name:
            raise DataError(f"{first[label]!r} and {name!r} both are the class {classes[label]!r}. Keep one of them.")
    if not first:
        raise DataError(f"None of {', '.join(sorted(labels)[:5])} is a class of the dataset: {', '.join(classes[:5])}.")
    return Matched(labels, how)

"""Overrides: dataclasses generated from those whose numbers they replace, so that a number is written in one place."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from docstring_parser import parse

D = TypeVar("D")
O = TypeVar("O", bound="Overriding")  # noqa: E741


@dataclass(frozen=True)
class Overriding:
    """Base of an override: numbers that replace others of the same name, each null where it replaces nothing."""

    if TYPE_CHECKING:  # what `override` generates

        def __init__(self, **numbers: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

    def given(self) -> dict[str, Any]:
        """The numbers that are not null, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}


def override(*kinds: type) -> Callable[[type[O]], type[O]]:
    """Decorator that gives a class the fields of dataclasses, with their types or null, and their help text.

    A field that is a dataclass itself gives its own fields in its place; its field `name` takes the outer field's name.

    Example:
        >>> @dataclass(frozen=True)
        ... class Recipe:
        ...     lr: float
        ...     batch: int = 128
        >>> @override(Recipe)
        ... class Override(Overriding):
        ...     'Numbers that replace those of a recipe.'
        >>> Override(lr=0.1)
        Override(lr=0.1, batch=None)
        >>> replaced(Recipe(0.5), Override(lr=0.1).given())
        Recipe(lr=0.1, batch=128)
    """

    def build(cls: type[O]) -> type[O]:
        found = {name: typed for kind in kinds for name, typed in _described(kind).items()}
        cls.__annotations__ = {name: hint | None for name, (hint, _) in found.items()}
        for name in found:
            setattr(cls, name, None)
        lines = [f"    {name}: {text}" for name, (_, text) in found.items()]
        cls.__doc__ = "\n".join([inspect.cleandoc(cls.__doc__ or ""), "", "Args:", *lines])
        return dataclass(frozen=True)(cls)

    return build


def _described(kind: type) -> dict[str, tuple[Any, str]]:
    """Type and help text of each number of a dataclass, those of inner dataclasses in their place."""
    texts = {p.arg_name: " ".join((p.description or "").split()) for p in parse(kind.__doc__ or "").params}
    found: dict[str, tuple[Any, str]] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if isinstance(field.type, type) and is_dataclass(field.type):
            inner = _described(field.type)
            found |= {field.name if name == "name" else name: typed for name, typed in inner.items()}
        else:
            found[field.name] = field.type, texts.get(field.name, "")
    return found


def flat(value: Any) -> dict[str, Any]:
    """The numbers of a dataclass under the names that an override of it has."""
    found: dict[str, Any] = {}
    for field in fields(value):
        inner = getattr(value, field.name)
        numbers = flat(inner) if is_dataclass(inner) else {"name": inner}
        found |= {field.name if name == "name" else name: number for name, number in numbers.items()}
    return found


def replaced(value: D, numbers: Mapping[str, Any]) -> D:
    """A dataclass with those of `numbers` in place of its own that it has; others are left alone.

    Args:
        value: the dataclass.
        numbers: under the names that an override of it has, all of them checked by the dataclass.
    """
    changed = {}
    for field in fields(value):  # type: ignore[arg-type]
        inner = getattr(value, field.name)
        if is_dataclass(inner):
            named = {"name": numbers[field.name]} if field.name in numbers else {}
            changed[field.name] = replaced(inner, {**numbers, **named})
        elif field.name in numbers:
            changed[field.name] = numbers[field.name]
    return replace(value, **changed)  # type: ignore[type-var]

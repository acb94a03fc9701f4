"""What names an artefact: the arguments that shape it, as JSON. An option that is added later changes no older name."""

import ast
import hashlib
import inspect
import json
import textwrap
from dataclasses import MISSING, Field, fields, is_dataclass
from inspect import Parameter
from typing import Any

from ddlight.core.sources import settled

VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def parameters(cls: type) -> dict[str, Parameter]:
    """Arguments of a class's constructor by name, those included that it hands on as `*args, **kwargs`.

    Args:
        cls: a class whose constructor, where it takes `**kwargs`, hands them to that of the next class of its MRO.
    """
    arguments: dict[str, Parameter] = {}
    passed: set[str] = set()
    for init in (vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)):
        signature = inspect.signature(init).parameters
        named = {name: p for name, p in signature.items() if name != "self" and p.kind not in VARIADIC}
        arguments = {**{name: p for name, p in named.items() if name not in passed}, **arguments}
        if not any(p.kind == Parameter.VAR_KEYWORD for p in signature.values()):
            break
        passed |= _settled(init)
    return arguments


def _settled(init: Any) -> set[str]:
    try:
        return settled(ast.parse(textwrap.dedent(inspect.getsource(init))))
    except (OSError, TypeError, SyntaxError):  # typed at a prompt, not Python, or edited meanwhile
        return set()


def named(value: Any) -> Any:
    """An argument as JSON: datasets by identity, teachers by their loaded weights, dataclasses by what they say.

    Of a dataclass, the class and the fields that differ from their defaults.
    """
    if hasattr(value, "identity"):
        return value.identity()
    if hasattr(value, "fingerprint"):
        return {"class": type(value).__name__, "weights": value.fingerprint()}
    if is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name) != _default(f)}
        return {"class": type(value).__name__, **{name: named(v) for name, v in changed.items()}}
    if isinstance(value, list | tuple):
        return [named(v) for v in value]
    return value


def digest(parts: Any) -> str:
    """16 hex digits of something that is JSON, whatever the order of its keys: the name of an artefact."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _default(field: "Field[Any]") -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()

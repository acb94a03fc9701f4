"""The real datasets: one table of facts, and readers that load on first use, each as `ddlight.data.NAME`."""

from importlib import import_module
from typing import Any

from ddlight.core import discover


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that commands which only read the table import neither numpy nor torch."""
    modules = {} if name.startswith("_") else discover.datasets()
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(modules[name]), name)


def __dir__() -> list[str]:
    return sorted(discover.datasets())

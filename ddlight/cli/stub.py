"""The stub `ddlight/__init__.pyi`, which tells editors and type checkers what `ddlight` offers.

    python -m ddlight.cli.stub

writes it anew; a test compares it with what is there.
"""

from ddlight import OTHERS
from ddlight.core.discover import PACKAGE, public_classes
from ddlight.core.files import write_bytes

FILE = PACKAGE / "__init__.pyi"


def text() -> str:
    """The stub: each name imported from where it is."""
    places = {name: cls.module for name, cls in public_classes().items() if cls.module.startswith("ddlight.")}
    lines = [f"from {module} import {name} as {name}" for name, module in {**OTHERS, **places}.items()]
    head = ["# ruff: noqa: I001", "# What `ddlight` offers, for type checkers; written by: python -m ddlight.cli.stub"]
    return "\n".join([*head, *sorted(lines), "", "OTHERS: dict[str, str]", "__version__: str", ""])


if __name__ == "__main__":
    write_bytes(FILE, text().encode())

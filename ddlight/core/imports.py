"""What the libraries of a training command would import at its start, and no run uses."""

import sys

UNUSED = ("scipy", "transformers", "torchvision", "matplotlib")
"""Packages that torchmetrics imports for metrics of sound, text, detection and plots."""


def import_torchmetrics() -> None:
    """Import torchmetrics, which Lightning imports, as if the packages of `UNUSED` were not installed.

    They are more than 2 of the 6 CPU seconds that Lightning takes to import where they are. They can be imported
    afterwards; torchmetrics' own metrics that need them cannot be used in this process.
    """
    if "torchmetrics" in sys.modules:
        return
    from lightning_utilities.core import imports

    cache, available, hidden = imports.RequirementCache.__bool__, imports.package_available, True

    def without(self: imports.RequirementCache) -> bool:
        return not str(self.requirement).startswith(UNUSED) and cache(self)

    def visible(name: str) -> bool:
        return not (hidden and name in UNUSED) and bool(available(name))

    imports.RequirementCache.__bool__, imports.package_available = without, visible  # type: ignore[method-assign,assignment]
    try:
        import torchmetrics  # noqa: F401
    finally:
        imports.RequirementCache.__bool__, imports.package_available = cache, available  # type: ignore[method-assign]
        hidden = False

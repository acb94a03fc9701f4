"""ddlight makes and judges condensed training sets: dataset distillation and coresets.

Every method, regime, student, teacher and dataset goes by its name here, such as `ddlight.Herding`, and is imported
when it is asked for: `import ddlight` alone imports neither torch nor numpy. `dir(ddlight)` lists them.

>>> import ddlight
>>> ddlight.list_methods("*kmeans*")
['KMeans']
"""

from importlib import import_module

__version__ = "0.1.0"
OTHERS = {
    **dict.fromkeys(("select", "load", "judge"), "ddlight.cli.python"),
    "list_methods": "ddlight.cli.listing",
    "Budget": "ddlight.recipes.budget",
    "Override": "ddlight.recipes.plan",
    "InMemory": "ddlight.data.in_memory",
    "RealDataset": "ddlight.data.base",
    "Selector": "ddlight.methods.base",
    "Synthesiser": "ddlight.methods.base",
    "Regime": "ddlight.regimes.base",
    "Student": "ddlight.networks.students",
    "Teacher": "ddlight.networks.teachers",
    "Result": "ddlight.core.result",
    "Trainer": "ddlight.train.trainer",
}
"""What is offered beside the classes that configurations name, and where it is."""


def __getattr__(name: str) -> object:
    if name in OTHERS:
        return getattr(import_module(OTHERS[name]), name)
    if not name.startswith("_"):
        from ddlight.core import discover

        if name in discover.public_classes():
            return discover.load_class(name)
    raise AttributeError(f"module 'ddlight' has no attribute {name!r}: dir(ddlight) lists what it offers")


def __dir__() -> list[str]:
    from ddlight.core import discover

    return sorted({*OTHERS, *discover.public_classes(), "__version__"})

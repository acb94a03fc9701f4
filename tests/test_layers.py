"""The house's order: folders only at the top, imports in one direction, short lines of inheritance."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import ddlight
from ddlight.core import discover

PACKAGE = Path(ddlight.__file__).parent
UNDER = {
    "core": (),
    "data": ("core",),
    "networks": ("core",),
    "recipes": ("core",),
    "views": ("core", "data", "recipes"),
    "sets": ("core", "data", "networks", "views"),
    "regimes": ("core", "data", "networks", "recipes", "views", "sets"),
    "train": ("core", "data", "networks", "recipes", "views", "sets", "regimes"),
    "methods": ("core", "data", "networks", "recipes", "views", "sets", "regimes", "train"),
    "cli": ("core", "data", "networks", "recipes", "views", "sets", "regimes", "train", "methods"),
    "report": ("core", "data", "sets"),
    "studies": ("core", "train", "cli"),
    "analyze": ("core", "data", "networks", "views", "sets", "cli"),
    "bench": ("core", "data", "networks", "recipes", "views", "sets", "regimes", "train", "methods", "cli"),
}
"""Folders that a folder may import from, lazily too. `__main__` names commands as text and imports core alone."""
STEPS = (
    "baselines.full",
    "scoring",
    "base",
    "scoring.search",
    "baselines",
    "scores",
    "geometry",
    "patches",
    "recovery",
    "matching",
    "generative",
)
"""Below methods/: each may import from those before it. A scoring run trains on `FullData`; selectors hold runs."""
FEW = 4
"""Classes of ours above Lightning's, a method's own included."""


def imported(file: Path) -> Iterator[str]:
    """Dotted names of ddlight's modules that a file imports anywhere, names that it takes from them included."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports by a relative name"
            if node.module == "ddlight" or (node.module or "").startswith("ddlight."):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("ddlight."))


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    files = [f for folder in UNDER for f in (PACKAGE / folder).rglob("*.py")] + list(PACKAGE.glob("*.py"))
    return {
        ".".join(("ddlight", *f.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): f for f in files
    }


def edges() -> Iterator[tuple[str, str]]:
    """Module and module that it imports."""
    known = modules()
    for name, file in known.items():
        for target in imported(file):
            module = target if target in known else target.rpartition(".")[0]
            if module in known and module != name:
                yield name, module


def part(module: str, depth: int) -> str:
    """The folder, or loose module, that a module belongs to: "data" of ddlight.data.base at depth 1."""
    return (module.split(".") + [""] * depth)[depth]


def test_only_folders_lie_at_the_top():
    assert {p.name for p in PACKAGE.iterdir() if p.is_file()} == {
        *("__init__.py", "__init__.pyi", "__main__.py", "py.typed")
    }
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert folders == {*UNDER, "configs"}  # the latter is a link: the repository's configs are part of the wheel


def test_imports_go_in_one_direction():
    wrong = [
        f"{name} imports {target}"
        for name, target in edges()
        if (above := part(name, 1)) in UNDER
        and (below := part(target, 1)) not in ("", above)
        and below not in UNDER[above]
    ]
    assert not wrong, "\n".join(wrong)


def step(module: str) -> int:
    """Place among the steps of a module below methods/; the longest name counts. -1 for the package itself."""
    fitting = [name for name in STEPS if f"{module}.".startswith(f"ddlight.methods.{name}.")]
    return STEPS.index(max(fitting, key=len)) if fitting else -1


def test_families_of_methods_stand_on_those_before_them():
    inside = [(n, t) for n, t in edges() if part(n, 1) == part(t, 1) == "methods"]
    assert all(step(name) >= 0 for name, _ in inside)
    wrong = [f"{name} imports {target}" for name, target in inside if step(target) > step(name)]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_through_others():
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for name, target in edges():
        if part(target, 1):  # the package itself offers all names lazily
            graph[name].add(target)
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for target in graph[name]:
                walk(target, (*path, name))
            done.add(name)

    for name in graph:
        walk(name, ())


@pytest.mark.parametrize("entry", [*discover.methods(), *discover.regimes()], ids=lambda entry: entry.name)
def test_few_classes_stand_above_a_method(entry):
    kind = getattr(importlib.import_module(entry.module), entry.name)
    own = [cls.__name__ for cls in inspect.getmro(kind) if cls.__module__.startswith("ddlight.")]
    assert len(own) <= FEW, " < ".join(own)

"""What is there: methods, regimes, protocols, datasets and configs, found without importing torch.

Classes are found by reading source files, never by importing them, so that the listing commands answer at once and a
new file is listed as soon as it exists. `import_all` is for the parser, which needs the classes themselves.
"""

import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ddlight.core.errors import DDLightError, UsageError, nearest
from ddlight.core.sources import Source, Sources, read

PACKAGE = Path(__file__).parents[1]
EXTRA_VARIABLE = "DDLIGHT_METHODS"
EXTRA_PACKAGE = "ddlight_extra"
FOLDERS = ("data", "networks", "recipes", "sets", "methods", "regimes", "train")
"""Folders of the package whose classes a configuration may name."""
FAMILIES = {
    "Regime": "regime",
    "CondensedDataModule": "method",
    "RealDataset": "dataset",
    "Student": "student",
    "Teacher": "teacher",
    "Backbone": "generator",
}
"""Base classes of what a configuration names: what one of them is called."""
HIDDEN = ("Selector", "Synthesiser", "ArrayDataset", "IdxDataset", "FolderDataset", "InMemory")
"""Classes that others are derived from and that do nothing by themselves, and what only a program can construct."""
METHOD_ROOTS = ("CondensedDataModule", "Selector", "Synthesiser", "LightningDataModule")
REGIME_ROOTS = ("Regime", "LightningModule")
KINDS = {"Selector": "select", "Synthesiser": "synthesise"}


@dataclass(frozen=True)
class Entry:
    """One class that a configuration can name.

    Attributes:
        name: the class's name, which is what `class_path` takes.
        kind: "select" or "synthesise" for a method that does so, "-" for everything else.
        summary: first line of the class's docstring, or of its file's where the class has none.
        paper: what follows `Paper:` in the docstring of the class or of its file; "" where nothing does.
        module: dotted name to import it by.
        file: the source file.
    """

    name: str
    kind: str
    summary: str
    paper: str
    module: str
    file: Path

    @property
    def family(self) -> str:
        """Name of the folder that the file lies in, such as "scores"."""
        return self.file.parent.name

    @property
    def source(self) -> str:
        """The first arXiv number that `paper` names; the whole of it where it names none."""
        match = re.search(r"arXiv[: ]\d{4}\.\d{4,5}", self.paper)
        return match.group() if match else self.paper


def sources() -> Sources:
    """Every class that a configuration may name, those outside the package included, and those that these build on.

    Raises:
        UsageError: a file is not valid Python, or DDLIGHT_METHODS names a folder that does not exist.
    """
    return Sources([*_package(), *(cls for folder in extra_folders() for cls in _read_extra(folder))])


@lru_cache
def _package() -> tuple[Source, ...]:
    return tuple(cls for folder in FOLDERS for cls in _read_folder(PACKAGE / folder, PACKAGE))


def choices(family: str, every: Sources) -> list[str]:
    """Names of the concrete classes of a family, such as Student."""
    public = (c for c in every.classes if family in every.ancestors(c) and not c.name.startswith("_"))
    return sorted({c.name for c in public if c.name not in HIDDEN and not c.abstract})


@lru_cache
def datasets() -> dict[str, str]:
    """Module of every real dataset of the package, by the name of its class."""
    every = Sources(_read_folder(PACKAGE / "data", PACKAGE))
    return {name: cls.module for name in choices("RealDataset", every) if (cls := every.find(name))}


@lru_cache
def public_classes() -> dict[str, Source]:
    """What `ddlight.NAME` offers: every class of every family by name; those outside the package are read once."""
    every = sources()
    names = [name for family in FAMILIES for name in choices(family, every)]
    return {name: cls for name in names if (cls := every.find(name))}


def load_class(name: str) -> Any:
    """Import the class of a name.

    Raises:
        UsageError: there is none.
    """
    cls = public_classes().get(name)
    if cls is None:
        raise UsageError(f"There is no class '{name}'.{nearest(name, public_classes())}")
    if cls.module.startswith(EXTRA_PACKAGE):
        import_extra()
    return getattr(importlib.import_module(cls.module), name)


def methods(package: Path = PACKAGE) -> list[Entry]:
    """List every method: the package's `methods/<family>/*.py`, then the folders that DDLIGHT_METHODS names.

    Args:
        package: folder of the ddlight package.

    Raises:
        UsageError: a file is not valid Python, or DDLIGHT_METHODS names a folder that does not exist.
    """
    entries = _entries(_read_folder(package / "methods", package), METHOD_ROOTS)
    return entries + [entry for folder in extra_folders() for entry in extra_methods(folder, package)]


def extra_methods(folder: Path, package: Path = PACKAGE) -> list[Entry]:
    """List the methods in the `*.py` files of a folder outside the package; they may subclass the package's.

    Args:
        folder: holds one file per method; subfolders are not read.
        package: folder of the ddlight package.

    Raises:
        UsageError: a file is not valid Python.
    """
    return _entries(_read_extra(folder), METHOD_ROOTS, above=_read_folder(package / "methods", package))


def regimes(package: Path = PACKAGE) -> list[Entry]:
    """List every label regime in the package's `regimes/*.py` and in the folders of DDLIGHT_METHODS.

    Raises:
        UsageError: a file is not valid Python, or DDLIGHT_METHODS names a folder that does not exist.
    """
    return _in_and_outside(package / "regimes", package, REGIME_ROOTS)


def dataset_entries(package: Path = PACKAGE) -> list[Entry]:
    """List every dataset's class in the package's `data/*.py` and in the folders of DDLIGHT_METHODS.

    Raises:
        UsageError: a file is not valid Python, or DDLIGHT_METHODS names a folder that does not exist.
    """
    return [e for e in _in_and_outside(package / "data", package, ("RealDataset",)) if e.name not in HIDDEN]


def extra_folders() -> list[Path]:
    """Return the folders that the environment variable DDLIGHT_METHODS names, each once, in order.

    Raises:
        UsageError: one of them is not a folder.
    """
    names = [name for name in os.environ.get(EXTRA_VARIABLE, "").split(os.pathsep) if name]
    folders = list(dict.fromkeys(Path(name).expanduser().resolve() for name in names))
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(
                f"{EXTRA_VARIABLE} names {folder}, which is not a folder. It takes folders that hold method files, "
                f"separated by '{os.pathsep}': export {EXTRA_VARIABLE}=path/to/folder"
            )
    return folders


def import_all() -> None:
    """Import every method and regime, so that the parser finds them as subclasses.

    Raises:
        UsageError: as `import_extra`.
    """
    for folder in ("methods", "regimes"):
        for file in _listed(sorted((PACKAGE / folder).rglob("*.py"))):
            importlib.import_module(_module(file, PACKAGE))
    import_extra()


def import_extra() -> None:
    """Import files in the folders of DDLIGHT_METHODS as modules `ddlight_extra.<file name>`, each once.

    Raises:
        UsageError: a file cannot be imported, or two of them have the same name.
    """
    files = [file for folder in extra_folders() for file in _listed(sorted(folder.glob("*.py")))]
    if not files:
        return
    by_stem: dict[str, Path] = {}
    for file in files:
        if by_stem.setdefault(file.stem, file) != file:
            raise UsageError(
                f"{EXTRA_VARIABLE} names two files called {file.name}: {by_stem[file.stem]} and {file}. "
                f"Each needs a name of its own: mv {file} {file.with_stem(file.stem + '_2')}"
            )
    parent = sys.modules.setdefault(EXTRA_PACKAGE, ModuleType(EXTRA_PACKAGE, "Methods outside the package."))
    parent.__path__ = list(dict.fromkeys(str(file.parent) for file in files))  # lets one file import another
    for file in files:
        _import_file(file, f"{EXTRA_PACKAGE}.{file.stem}")


def _import_file(file: Path, name: str) -> None:
    """Import one file under `name`, unless that module already comes from this file."""
    known = getattr(sys.modules.get(name), "__file__", None)
    if known is not None and Path(known).resolve() == file:
        return
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file} cannot be imported as a Python module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        if isinstance(error, DDLightError):
            raise
        raise UsageError(f"{_where(error, file)} cannot be imported: {type(error).__name__}: {error}") from error


def _where(error: Exception, file: Path) -> str:
    """Return `file:line` of the innermost line of `file` that led to `error`."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"{file}:{error.lineno}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
    return f"{file}:{lines[-1]}" if lines else str(file)


def source_digest(cls: type) -> str | None:
    """Hash of the code of a class outside the package and of what it builds on there; None for one of the package.

    Of files in the folders of DDLIGHT_METHODS it is the whole of them, and those that they import from each other.
    """
    outside = [c for c in cls.__mro__ if not c.__module__.startswith(("ddlight.", "builtins", "torch", "lightning"))]
    modules = [sys.modules[c.__module__] for c in outside if c.__module__.startswith(f"{EXTRA_PACKAGE}.")]
    for module in modules:  # grows while it is read
        origins = (getattr(v, "__module__", None) or getattr(v, "__name__", "") for v in vars(module).values())
        names = {name for name in origins if isinstance(name, str) and name.startswith(f"{EXTRA_PACKAGE}.")}
        modules += [
            sys.modules[name] for name in sorted(names) if name in sys.modules and sys.modules[name] not in modules
        ]
    texts = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in modules]
    for c in outside:
        if not c.__module__.startswith(f"{EXTRA_PACKAGE}."):
            with suppress(OSError, TypeError):  # typed at a prompt: there is no text
                texts.append(inspect.getsource(c))
    return hashlib.sha256("\0".join(sorted(set(texts))).encode()).hexdigest()[:16] if texts else None


# Reading source files


def _module(file: Path, package: Path) -> str:
    return ".".join(("ddlight", *file.relative_to(package).with_suffix("").parts))


def _listed(files: Iterable[Path]) -> list[Path]:
    """Leave out files that hold base classes or are private."""
    return [file for file in files if file.stem != "base" and not file.stem.startswith("_")]


def _read_folder(folder: Path, package: Path) -> list[Source]:
    return [cls for file in sorted(folder.rglob("*.py")) for cls in read(file, _module(file, package))]


def _read_extra(folder: Path) -> list[Source]:
    files = sorted(folder.resolve().glob("*.py"))
    return [cls for file in files for cls in read(file, f"{EXTRA_PACKAGE}.{file.stem}")]


def _in_and_outside(folder: Path, package: Path, roots: Sequence[str]) -> list[Entry]:
    """Entries below one of `roots` in a folder of the package, then in the folders of DDLIGHT_METHODS."""
    inside = _read_folder(folder, package)
    outside = [entry for extra in extra_folders() for entry in _entries(_read_extra(extra), roots, inside)]
    return _entries(inside, roots) + outside


def _entries(classes: Sequence[Source], roots: Sequence[str], above: Sequence[Source] = ()) -> list[Entry]:
    """Return the public, concrete ones of `classes` below one of `roots`, perhaps through some of `above`."""
    every, entries = Sources([*classes, *above]), []
    for cls in classes:
        names = every.ancestors(cls)
        hidden = cls.name.startswith("_") or cls.name in roots or cls.abstract or not _listed([cls.file])
        if hidden or names.isdisjoint(roots):
            continue
        kind = next((kind for root, kind in KINDS.items() if root in names), "-")
        summary = next((text.splitlines()[0].strip() for text in (cls.text, cls.file_text) if text), "")
        paper = next(filter(None, map(_paper, (cls.text, cls.file_text))), "")
        entries.append(Entry(cls.name, kind, summary, paper, cls.module, cls.file))
    return entries


def _paper(doc: str) -> str:
    """Return what follows `Paper:` in a docstring, up to an empty line or the next `Word:`."""
    match = re.search(r"^[ \t]*Papers?:(.*(?:\n(?![ \t]*(?:\n|\w+:[ \t])).+)*)", doc, re.MULTILINE)
    return " ".join(match.group(1).split()) if match else ""

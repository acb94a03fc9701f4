"""Texts of concepts: a shipped list of visual attributes, the user's JSON, or a captioning model behind a hook.

A hook is a function of the user's, named module:function, that looks at images of each class and describes them:

    def describe(classes: list[str], images: dict[str, numpy.ndarray]) -> dict[str, list[str]]:
        return {name: my_model(images[name], f"What does a {name} look like?") for name in classes}

It is called once; what it says is sealed, so that every later set of the same data reads the same texts.
"""

import hashlib
import importlib
import importlib.util
import json
import logging
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ddlight.core import files
from ddlight.core.artefact import Artefact, Unit, Workspace
from ddlight.core.errors import DataError, DDLightError, UsageError
from ddlight.core.randomness import generator
from ddlight.data.base import RealDataset

log = logging.getLogger("ddlight")
GENERIC = Path(__file__).parents[2] / "data" / "generic_concepts.json"
"""Attributes that say nothing of any dataset, by kind."""
TEXTS = "concepts.json"

Hook = Callable[[list[str], dict[str, np.ndarray]], Mapping[str, list[str]]]
"""(class names, {class: images uint8 (n, C, H, W)}) -> {class: concepts}."""


class Phrases(Artefact):
    """Concepts of a dataset's classes, and what names them. A hook's answer is kept on disk: it is called once.

    Args:
        source: a JSON file, "module:function", or None for the shipped list.
        examples: images per class that a hook is shown: drawn once, the same for every seed.
        dataset: whose classes and images they are of.
        cache: folder of condensed sets; a hook's answer lies in <cache>/<dataset>/phrases/<fingerprint>.
    """

    kind = "folder of concepts"
    suffix = ".json"

    def __init__(self, source: str | None, examples: int, dataset: RealDataset, cache: Path) -> None:
        super().__init__(cache / dataset.info.name / "phrases")
        self.source, self.examples, self.dataset = source, examples, dataset

    @cached_property
    def hook(self) -> str | None:
        """The hook's name, where the texts come from one."""
        named = self.source is not None and ":" in self.source and not Path(self.source).expanduser().is_file()
        return self.source if named else None

    @cached_property
    def digest(self) -> str:
        """sha256 of the texts' file; of a hook, of its source file and of what it is shown.

        Raises:
            UsageError: there is no such file or module.
        """
        if self.hook is None:
            return files.sha256(self._file())
        module, _, function = self.hook.rpartition(":")
        named = [function, files.sha256(source_file(module)), self.examples, self.dataset.identity()]
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()

    def identity(self) -> dict[str, Any]:
        """The hook's source and what it is shown, wherever the module lies."""
        return {"digest": self.digest}

    def _file(self) -> Path:
        path = GENERIC if self.source is None else Path(self.source).expanduser()
        if not path.is_file():
            raise UsageError(
                f"There is no file of concepts {path}. Give --data.concepts=FILE.json, a hook "
                "(--data.concepts=my_module:function), or leave it out for the shipped list."
            )
        return path

    def read(self) -> tuple[str, ...]:
        """All concepts, each once: those of the first class first. A hook is called where it never was.

        Raises:
            UsageError: the hook cannot be imported, or raised.
            DataError: a class has no concepts, or there is something else than texts.
        """
        if self.source is None:
            kinds: dict[str, list[str]] = files.read_json(GENERIC)
            return tuple(phrase for phrases in kinds.values() for phrase in phrases)
        if self.hook is None:
            concepts, source = files.read_json(self._file()), str(self._file())
        else:
            self.ensure()
            self.verified()
            concepts, source = files.read_json(self.folder / TEXTS), self.hook
        checked = check_concepts(concepts, self.dataset.info.classes, source)
        return tuple(dict.fromkeys(phrase for phrases in checked.values() for phrase in phrases))

    def make_unit(self, work: Workspace, unit: Unit) -> None:
        """Ask the hook. Raises UsageError where it raises, DataError where what it says are no concepts."""
        hook, classes = self.hook, self.dataset.info.classes
        assert hook is not None
        log.info("asking %s for concepts of %d classes", hook, len(classes))
        call = load_hook(hook)
        try:
            answer = call(list(classes), self.shown())
        except DDLightError:
            raise
        except Exception as error:  # the user's code, whatever it raises
            raise UsageError(f"The hook {hook} raised {type(error).__name__}: {error}") from error
        work.write(unit, json.dumps(check_concepts(answer, classes, hook)).encode())

    def collect(self, place: Path, work: Workspace) -> dict[str, Any]:
        """Write what it said."""
        files.write_bytes(place / TEXTS, work.read(Unit(0)))
        return {"hook": self.hook, "examples": self.examples}

    def shown(self) -> dict[str, np.ndarray]:
        """What a hook is shown: some training images of each class, uint8 (n, C, H, W)."""
        labels, names = self.dataset.index("train").labels, self.dataset.info.classes
        draws = [generator(0, "phrases", c).permutation(np.flatnonzero(labels == c)) for c in range(len(names))]
        return {
            name: self.dataset.take("train", drawn[: self.examples]) for name, drawn in zip(names, draws, strict=True)
        }


def check_concepts(concepts: Any, classes: tuple[str, ...], source: str) -> dict[str, list[str]]:
    """Return the concepts of each class, in the order of the classes, without blanks around them.

    Args:
        concepts: {class name: [phrases]}; other classes than the dataset's are left out, saying so.
        classes: of the dataset.
        source: the file or hook, for messages.

    Raises:
        DataError: a class is missing or has no concepts, or something is no text.
    """
    if not isinstance(concepts, Mapping):
        raise DataError(
            f"{source} gives {type(concepts).__name__}, and concepts are an object of class names and lists of "
            f'phrases: {{"{classes[0]}": ["a round shape", ...], ...}}.'
        )
    missing = [name for name in classes if name not in concepts]
    if missing:
        raise DataError(
            f"{source} has no concepts for {len(missing)} of {len(classes)} classes: {', '.join(missing[:5])}"
            f"{', ...' * (len(missing) > 5)}. It names {', '.join(map(str, list(concepts)[:5])) or 'none'}"
            f"{', ...' * (len(concepts) > 5)}; every class of the dataset needs a list of phrases under its own name."
        )
    for name in classes:
        phrases = concepts[name]
        if not isinstance(phrases, list | tuple) or not phrases:
            raise DataError(f"{source} has no list of phrases for class '{name}', but {phrases!r}.")
        wrong = next((p for p in phrases if not isinstance(p, str) or not p.strip()), None)
        if wrong is not None:
            raise DataError(f"{source} has a concept of class '{name}' that is no phrase: {wrong!r}.")
    if len(concepts) > len(classes):
        log.info(
            "%s names %d classes that are not in the dataset; they are left out", source, len(concepts) - len(classes)
        )
    return {name: [phrase.strip() for phrase in concepts[name]] for name in classes}


def source_file(module: str) -> Path:
    """The file of a hook's module: a path that ends in .py, a file in the working folder, or an installed module.

    Raises:
        UsageError: there is none.
    """
    if (file := _own_file(module)).is_file():
        return file.resolve()
    try:
        spec = None if module.endswith(".py") else importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise UsageError(
            f"There is no module {module} for the hook: neither {file} in {Path.cwd()} nor an installed one. Name it "
            "as my_module:function or path/to/my_module.py:function."
        )
    return Path(spec.origin)


def _own_file(module: str) -> Path:
    return Path(module if module.endswith(".py") else f"{module.replace('.', '/')}.py").expanduser()


def load_hook(name: str) -> Hook:
    """Import a hook.

    Args:
        name: "module:function", the module as in `source_file`.

    Raises:
        UsageError: the module cannot be imported or has no such function.
    """
    module, _, function = name.rpartition(":")
    file = source_file(module)
    try:
        loaded = _import_file(file) if _own_file(module).is_file() else importlib.import_module(module)
    except Exception as error:  # the user's code, whatever it raises
        raise UsageError(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
    hook: Hook | None = getattr(loaded, function, None)
    if not callable(hook):
        raise UsageError(f"{file} has no function {function!r}; the hook was named {name}.")
    return hook


def _import_file(file: Path) -> ModuleType:
    name = f"ddlight_hook_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickles look for it
    spec.loader.exec_module(module)
    return module

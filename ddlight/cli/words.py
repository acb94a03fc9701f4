"""The words of a command line and of its configs, checked against the sources before anything heavy is imported.

A misspelt option, class or file is so reported at once. What cannot be told from the sources (values, classes of other
packages, defaults) is left to the parser, and passes here.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from ddlight.cli.configs import config_chain, find_config, read
from ddlight.core.discover import FAMILIES, choices
from ddlight.core.errors import UsageError, nearest
from ddlight.core.sources import Option, Source, Sources

FLAGS = ("tiny", "dry-run")
"""Options of the training commands that are taken out before the others are parsed."""
WITHOUT_MODEL = ("condense", "score", "generator", "experts")
"""Commands that need no `model`."""
LENGTHS = ("max_epochs", "max_steps", "max_time", "min_epochs", "min_steps", "limit_train_batches")
FILLED = ("model", "datamodule")
"""Arguments of the Trainer's commands that come from `--model` and `--data`."""


def unknown_class(family: str, value: str, every: Sources) -> str:
    """The message for a class that does not exist, or is of another family."""
    allowed = choices(family, every)
    return f"Unknown {FAMILIES[family]} '{value}'.{nearest(value, allowed)} Allowed: {', '.join(allowed)}."


def no_option(cls: Source, option: str, every: Sources) -> str:
    """The message for an option that a class does not have."""
    allowed = every.options(cls)
    inner = {name: taken(o, every) for name, o in allowed.items()}
    within = [
        f"{name}.{option}" for name, c in inner.items() if c and c.fields is not None and option in every.options(c)
    ]
    close = f" Did you mean {' or '.join(within)}?" if within else nearest(option.split(".")[0], allowed)
    return f"{cls.name} has no option '{option}'.{close} Its options: {', '.join(allowed)}."


def unknown_option(option: str, known: Collection[str], command: str, every: Sources) -> str:
    """The message for an option that a command does not have.

    Args:
        option: its name, without dashes.
        known: the command's options.
        command: such as "ddlight fit".
        every: the sources.
    """
    if get_close_matches(option.split(".")[-1], LENGTHS, cutoff=0.8):
        return (
            f"'{option}' is not an option here: a run's length is its budget, and the schedule ends with it. "
            "Write for example --model.budget.epochs=300 (or steps, images, full_epochs)."
        )
    if option.split(".")[0] not in {name.split(".")[0] for name in known}:
        option = option.split(".")[0]
    bases = {"data": every.find("CondensedDataModule"), "model": every.find("Regime")}
    common = [f"{key}.{name}" for key, base in bases.items() if base for name in every.options(base)]
    close = nearest(option, [*known, *FLAGS]) or nearest(option, common)
    return f"Unknown option '{option}'.{close} '{command} --help' lists all of them."


def stray_word(word: str, command: str) -> str:
    """The message for a word that is no option."""
    return f"Unexpected word '{word}': an option is written --name=value. '{command} --help' lists all."


def split_flags(arguments: Sequence[str]) -> tuple[set[str], list[str]]:
    """The flags among some arguments, which may stand anywhere, and the other arguments."""
    flags = {word[2:] for word in arguments if word[:2] == "--" and word[2:] in FLAGS}
    return flags, [word for word in arguments if word[2:] not in flags or word[:2] != "--"]


def needed(command: str) -> tuple[str, ...]:
    """The keys that a command needs a class for."""
    return ("data",) if command in WITHOUT_MODEL else ("model", "data")


def missing_class(key: str, command: str) -> str:
    """The message where no class is given for `model` or `data`."""
    return (
        f"There is no {key}: give --config, or --{key} with a class. 'ddlight configs' lists configs. "
        f"For example: ddlight {command} --config configs/quickstart.yaml"
    )


def taken(option: Option, every: Sources) -> Source | None:
    """What an option takes: a dataclass of ddlight, or the base class of a family; None for everything else."""
    names = re.findall(r"\w+", re.sub(r"'[^']*'", "", option.annotation))
    classes = [c for c in map(every.find, names) if c and (c.name in FAMILIES or c.fields is not None)]
    return classes[0] if len(classes) == 1 else None


def command_options(command: str, every: Sources) -> dict[str, Option]:
    """Options of a training command that are not those of the classes it is given: the Trainer's, and its own."""
    trainer = every.find("Trainer")
    assert trainer is not None
    options = {f"trainer.{name}": option for name, option in every.options(trainer).items()}
    own = trainer.arguments(command) if command in trainer.functions else []
    options |= {option.name: option for option in own if option.name not in FILLED}
    return options | {"wandb": Option("wandb", "str | None", "None", "W&B project to log to; offline-safe.")}


class Words:
    """Follows the classes that a command line and its configs name, in the order in which they are given.

    Args:
        command: fit, condense, ...
        every: the sources.

    Attributes:
        classes: place, such as "model.student", to the class that is named there last.
        named: every class that is named anywhere.
    """

    def __init__(self, command: str, every: Sources) -> None:
        self.command, self.every = command, every
        known = command_options(command, every)
        self.known = {*known, "config", "c", "print_config", "trainer", "model", "data"}
        self.classes: dict[str, Source] = {}
        self.named: set[Source] = set()
        self.seen: set[str] = set()
        self._wrong: dict[str, str] = {}

    def check(self, arguments: Sequence[str]) -> "Words":
        """Read a command line. Raises UsageError where a word of it, or of a config that it names, is wrong."""
        for name, value in self._assignments(list(arguments)):
            self._assign(name.split("."), value, Path())
        for message in self._wrong.values():
            raise UsageError(message)
        for key in needed(self.command):
            if key not in self.seen:
                raise UsageError(missing_class(key, self.command))
        return self

    def _assignments(self, words: list[str]) -> Iterator[tuple[str, Any]]:
        """Options with their values: `--name=value` or `--name value`."""
        while words:
            word = words.pop(0)
            if not word.startswith("-"):
                raise UsageError(stray_word(word, f"ddlight {self.command}"))
            name, equals, value = word.lstrip("-").partition("=")
            if not equals and name != "print_config" and words and not words[0].startswith("--"):
                value = words.pop(0)
            yield name.removesuffix("+"), _value(value) if value.startswith(("{", "[")) else value

    def _assign(self, path: list[str], value: Any, folder: Path) -> None:
        """Take an option at its full name; names of files in its value are relative to `folder`."""
        top, *rest = path
        self.seen.add(top)
        if top in ("config", "c"):
            for file in config_chain(find_config(str(value))):
                for key, content in read(file).items():
                    if key != "config":
                        self._assign(str(key).split("."), content, file.parent)
        elif top in ("model", "data"):
            self._object(top, "Regime" if top == "model" else "CondensedDataModule", rest, value, folder)
        elif top == "trainer" and not rest:
            for key in value if isinstance(value, dict) else ():
                self._assign([top, *str(key).split(".")], value[key], folder)
        elif ".".join(path[:2] if top == "trainer" else path) not in self.known and path[-1] != "help":
            message = unknown_option(".".join(path), self.known, f"ddlight {self.command}", self.every)
            raise UsageError(message)

    def _object(self, place: str, family: str, rest: list[str], value: Any, folder: Path) -> None:
        """Take what is said of an option that takes a class, or several: the class, or one of its options."""
        rest = [name for name in rest if name != "init_args"]
        if rest and rest != ["class_path"]:
            if place in self.classes:
                self._option(place, self.classes[place], rest, value, folder)
        elif isinstance(value, list):
            for number, item in enumerate(value):
                self._object(f"{place}.{number}", family, [], item, folder)
        elif isinstance(value, dict):
            if isinstance(value.get("class_path"), str):
                self._choose(place, family, value["class_path"])
            for key, content in (value.get("init_args") or {}).items():
                self._object(place, family, str(key).split("."), content, folder)
        elif isinstance(value, str) and value.endswith((".yaml", ".yml")):
            if (file := folder / value).is_file():
                self._object(place, family, [], read(file), file.parent)
        elif isinstance(value, str):
            self._choose(place, family, value)

    def _choose(self, place: str, family: str, name: str) -> None:
        before, cls = self.classes.pop(place, None), self.every.find(name)
        if cls is not before:  # options that the former class did not have are dropped with it
            self._wrong = {at: text for at, text in self._wrong.items() if not f"{at}.".startswith(f"{place}.")}
        if cls and cls.name in choices(family, self.every):
            self.classes[place] = cls
            self.named.add(cls)
        elif re.fullmatch(r"(ddlight\.[\w.]+\.)?[A-Za-z_]\w*", name) and name != "null":
            self._wrong[place] = unknown_class(family, name.rpartition(".")[2], self.every)

    def _option(self, place: str, cls: Source, rest: list[str], value: Any, folder: Path) -> None:
        """Take an option of a class, or of what that option takes."""
        name, *deeper = rest
        option = self.every.options(cls).get(name)
        if option is None:
            if rest[-1] != "help":
                self._wrong.setdefault(place, no_option(cls, ".".join(rest), self.every))
            return
        inner = taken(option, self.every)
        if inner is None:
            return
        if inner.name in FAMILIES:
            self._object(f"{place}.{name}", inner.name, deeper, value, folder)
        elif deeper:
            self._option(f"{place}.{name}", inner, deeper, value, folder)
        elif isinstance(value, Mapping):
            for key, content in value.items():
                self._option(f"{place}.{name}", inner, str(key).split("."), content, folder)


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text

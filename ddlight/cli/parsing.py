"""The command line of the training commands: LightningCLI with short class names and errors that say what to type."""

import argparse
import importlib
import logging
import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from jsonargparse import ActionConfigFile
from lightning.pytorch.cli import LightningArgumentParser

from ddlight.cli import words
from ddlight.cli.configs import config_chain, find_config
from ddlight.core import discover
from ddlight.core.errors import DDLightError, UsageError
from ddlight.core.sources import Source
from ddlight.networks.teachers import Teacher

log = logging.getLogger("ddlight")

FAMILIES = {
    "model": "Regime",
    "data": "CondensedDataModule",
    "dataset": "RealDataset",
    "student": "Student",
    "backbone": "Backbone",
    **dict.fromkeys(("teacher", "teachers", "features", "fid_features"), "Teacher"),
}
"""Keys that take a class: its base class."""
NO_CLASS = (
    r"Expected a dot import path string: (\S+)",
    r"Unexpected import path format: (\S+)",
    r"class_path '([\w.]+)':\s+No module named",
    r"does not correspond to a subclass of [\s\S]*?Given value: (?:\{'class_path': ')?([\w.]+)",
)
"""How jsonargparse says that a name is no class, or one of another family."""


def import_choices(methods: Iterable[Source]) -> None:
    """Import the classes that may be named, so that the parser takes their short names.

    Args:
        methods: those that are named; of all other families every class is imported.
    """
    networks = ("ddlight.networks.students", "ddlight.networks.teachers")
    for module in (*networks, *(e.module for e in discover.regimes()), *discover.datasets().values()):
        importlib.import_module(module)
    discover.import_extra()
    for method in methods:
        importlib.import_module(method.module)


class Parser(LightningArgumentParser):
    """LightningCLI's parser, whose errors name the value, what is allowed and the nearest names."""

    def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
        """Add an argument; `--config` becomes one whose files may build on others."""
        if kwargs.get("action") is ActionConfigFile:
            kwargs["action"] = ConfigFile
        return super().add_argument(*args, **kwargs)

    def add_lightning_class_args(self, *args: Any, **kwargs: Any) -> list[str]:
        """Add a class's arguments as not required: the commands themselves say which of them is missing."""
        return super().add_lightning_class_args(*args, **{**kwargs, "required": False})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Turn a parse error into one clear message (exit code 2); parsers of nested classes pass theirs on."""
        if not self.exit_on_error:
            super().error(message, ex)
        raise own_error(ex) or UsageError(explain(message, self))


def parse_teacher(config: Any) -> Teacher:
    """Construct a teacher from what a config says of it: a class's name, or class_path and init_args.

    Raises:
        UsageError: there is no such teacher, or no such option of it.
    """
    parser = Parser(logger=parser_logger())
    parser.add_argument("--teacher", type=Teacher)
    teacher: Teacher = parser.instantiate_classes(parser.parse_object({"teacher": config})).teacher
    return teacher


class ConfigFile(ActionConfigFile):
    """`--config FILE`, where `config: OTHER` in FILE means OTHER first, then FILE over it, key by key.

    jsonargparse reads such a key too, but lets FILE's `model:` replace the whole of OTHER's.
    """

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        """Apply the files that `values` builds on, then `values`."""
        for path in config_chain(find_config(values)):
            self.apply_config(parser, cfg, self.dest, str(path))


def own_error(error: BaseException | None) -> DDLightError | None:
    """Find ddlight's own error below those that were wrapped around it."""
    seen = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, DDLightError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


# Parse errors in words


def explain(message: str, parser: argparse.ArgumentParser) -> str:
    """Say in words what a parse error means.

    Args:
        message: jsonargparse's text; the errors of nested classes stand below those of the classes around them.
        parser: the parser that raised it.
    """
    keys = re.findall(r'Parser key "([\w.]+)"', message)
    rules: tuple[Callable[[str, list[str]], str | None], ...] = (_class_option, _class, _missing, _file, _value)
    found = (rule(message, keys) for rule in rules)
    return _option(message, parser) or next(filter(None, found), message.strip())


def _option(message: str, parser: argparse.ArgumentParser) -> str | None:
    """An option of a command (not of a class) that does not exist."""
    match = re.search(r"^[Uu]nrecognized arguments: (\S+)|^\w+ '\w+' does not accept option '([\w.]+)'", message)
    if not match:
        return None
    word, command = (match[1] or match[2]).split("=")[0], re.sub(r"^(?!ddlight \w+$).*", "ddlight fit", parser.prog)
    option = word.lstrip("-")
    if match[1] and option == word:
        return words.stray_word(word, command)
    return words.unknown_option(option, _known(parser), command, discover.sources())


def _known(parser: argparse.ArgumentParser) -> set[str]:
    """Names of the options of a parser and of its subcommands."""
    inner = [a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    names = {s.lstrip("-") for action in parser._actions for s in action.option_strings if s.startswith("--")}
    for subparsers in inner:
        names = names.union(*(_known(sub) for sub in (subparsers or {}).values()))
    return {name for name in names if not name.endswith((".help", "+")) and name != "help"}


def _class_option(message: str, keys: list[str]) -> str | None:
    """An option that a class does not have."""
    pattern = r"class_path '([\w.]+)':\s+(?:Option '([\w.]+)' is not accepted|[Uu]nrecognized arguments: --([\w.]+))"
    matches = re.findall(pattern, message)
    if not matches:
        return None
    path, *options = matches[-1]
    every = discover.sources()
    cls = every.find(path)
    return words.no_option(cls, next(filter(None, options)), every) if cls else None


def _class(message: str, keys: list[str]) -> str | None:
    """A class that does not exist, or is not of the family that its key takes."""
    match = next(filter(None, (re.search(pattern, message) for pattern in NO_CLASS)), None)
    given = [key.split(".")[-1] for key in keys if key.split(".")[-1] in FAMILIES]
    if not match or not given:
        return None
    value = match[1].rstrip(".")
    if "/" in value or value.endswith(".yaml"):
        return f"{'.'.join(keys)}: there is no file {value}."
    return words.unknown_class(FAMILIES[given[-1]], value, discover.sources())


def _missing(message: str, keys: list[str]) -> str | None:
    """A required option that is not given."""
    pattern = r'Key "([\w.]+)" is required|Missing required (?:key|argument|option):? "?([\w.]+)|are required: ([\w.]+)'
    match = re.search(pattern, message)
    if not match:
        return None
    key = next(filter(None, match.groups())).removeprefix("init_args.")
    family = FAMILIES.get(key.split(".")[-1])
    allowed = f" Allowed: {', '.join(words.choices(family, discover.sources()))}." if family else ""
    place = ".".join([*keys, key])
    return f"'{place}' is missing: give it in the config, or as --{place}=...{allowed}"


def _file(message: str, keys: list[str]) -> str | None:
    """A fragment that cannot be read."""
    match = re.search(r"Unable to load config ['\"](\S+)['\"]", message)
    return f"{'.'.join(keys[:1])}: the file {match[1]} cannot be read." if match else None


def _value(message: str, keys: list[str]) -> str | None:
    """A value of another type than the option's."""
    expected = [e for e in re.findall(r"Expected an? (.+?)(?:\. Got value|$)", message, re.M) if "NoneType" not in e]
    given = re.search(r"Got value: (.*)|Given value: (.*)", message)
    if not keys or not expected or not given:
        return None
    types = " or ".join(dict.fromkeys(map(_plain_type, expected)))
    return f"{'.'.join(keys)}: expected {types}; given: {next(filter(None, given.groups()), '')}."


def _plain_type(text: str) -> str:
    if literal := re.match(r"typing\.Literal\[(.*)\]", text):
        return "one of " * ("," in literal[1]) + literal[1].replace("'", "")
    return re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)


# Dropped options


class Dropped(logging.Filter):
    """Says in one line each which options a change of class drops; jsonargparse does so only when debugging."""

    def __init__(self) -> None:
        super().__init__()
        self.said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Show dropped options, each once; hide the rest of the parser's log."""
        match = re.search(r"from '([\w.]+)' to '([\w.]+)', discarding init_args: \{(.*)\}\.$", record.getMessage())
        if match:
            old, new = (path.rsplit(".", 1)[-1] for path in match.groups()[:2])
            for option in _keys(match[3]):
                self._say(f"{new} in place of {old}: the option '{option}' of the config is dropped.")
        return False

    def _say(self, line: str) -> None:
        if line not in self.said:
            self.said.add(line)
            log.warning("%s", line)


def _keys(text: str) -> list[str]:
    """Keys at the outermost level of a printed dictionary, its braces left out."""
    depth, outer = 0, []
    for character in text:
        depth -= character in ")]}"
        outer.append(character if depth == 0 else "")
        depth += character in "([{"
    return re.findall(r"'(\w+)': ", "".join(outer))


def parser_logger() -> logging.Logger:
    """The logger to give to jsonargparse, which shows dropped options only, each once after this call."""
    logger = logging.getLogger("ddlight.cli.parsing")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.filters[:] = [Dropped()]
    return logger

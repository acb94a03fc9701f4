"""The command line of the training commands: LightningCLI with short class names and errors that say what to type."""

import importlib
import inspect
import logging
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

import ddlight.datasets as datasets
from ddlight import discover
from ddlight.datasets.base import RealDataset
from ddlight.errors import DDLightError, UsageError, nearest
from ddlight.methods.base import CondensedDataModule
from ddlight.models.students import Student
from ddlight.models.teachers import Teacher
from ddlight.regimes.base import Regime

log = logging.getLogger("ddlight")

LENGTHS = ("max_epochs", "max_steps", "max_time", "min_epochs", "min_steps", "limit_train_batches")
FAMILIES = {
    "model": Regime,
    "data": CondensedDataModule,
    "dataset": RealDataset,
    "student": Student,
    "teacher": Teacher,
    "teachers": Teacher,
}


def import_choices() -> None:
    """Import every class that may be named, so that short names work and misspelt ones find their neighbours."""
    discover.import_all()
    for name in datasets.__all__:
        getattr(datasets, name)


def choices(family: type) -> list[str]:
    """Names of the concrete classes of a family."""

    def below(cls: type) -> Iterator[type]:
        sub: type
        for sub in cls.__subclasses__():
            yield sub
            yield from below(sub)

    hidden = {"Selector", "Synthesiser", "ArrayDataset"}
    found = {c.__name__ for c in below(family) if not inspect.isabstract(c)}
    return sorted(name for name in found - hidden if not name.startswith("_"))


class Parser(LightningArgumentParser):
    """LightningCLI's parser, whose errors name the value, what is allowed and the nearest names."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Turn a parse error into one clear message (exit code 2)."""
        raise own_error(ex) or UsageError(explain(message, self))


def own_error(error: BaseException | None) -> DDLightError | None:
    """Find ddlight's own error below those that were wrapped around it."""
    seen = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, DDLightError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def explain(message: str, parser: Any) -> str:
    """Say in words what a parse error means.

    Args:
        message: jsonargparse's text.
        parser: the parser that raised it.
    """
    for rule in (_unknown_argument, _unknown_option, _unknown_class, _missing, _wrong_value):
        if text := rule(message, parser):
            return text
    return message.strip().splitlines()[0] if message.strip() else "The command line could not be read."


def _unknown_argument(message: str, parser: Any) -> str | None:
    match = re.search(r"[Uu]nrecognized arguments: (\S+)", message) or re.search(
        r"(?:Option|Key) '?\"?(trainer\.\w+)'?\"? is not (?:accepted|expected)", message
    )
    if not match:
        return None
    option = match[1].split("=")[0].lstrip("-")
    if option.split(".")[-1] in LENGTHS:
        return (
            f"'{option}' is not an option here: a run's length is its budget, and the schedule ends with it. "
            "Write for example --model.budget.epochs=300 (or steps, images, full_epochs)."
        )
    known = {s.lstrip("-") for action in parser._actions for s in action.option_strings if s.startswith("--")}
    return f"Unknown option '--{option}'.{nearest(option, known)} 'ddlight fit --help' lists all of them."


def _unknown_option(message: str, parser: Any) -> str | None:
    matches = re.findall(r"class_path '([\w.]+)':\s+Option '([\w.]+)' is not accepted", message)
    if not matches:
        return None
    path, option = matches[-1]
    module, name = path.rsplit(".", 1)
    allowed = [n for n in inspect.signature(getattr(importlib.import_module(module), name)).parameters if n != "self"]
    return f"{name} has no option '{option}'.{nearest(option, allowed)} Its options: {', '.join(allowed)}."


def _unknown_class(message: str, parser: Any) -> str | None:
    match = re.search(r"Expected a dot import path string: (\S+)", message)
    match = match or re.search(r"Unexpected import path format: (\S+)", message)
    if not match:
        return None
    key = ([k for k in re.findall(r'Parser key "([\w.]+)"', message) if k.split(".")[-1] in FAMILIES] or ["data"])[-1]
    allowed = choices(FAMILIES[key.split(".")[-1]])
    value = match[1].rstrip(".")
    return f"Unknown {key.split('.')[-1]} '{value}'.{nearest(value, allowed)} Allowed: {', '.join(allowed)}."


def _missing(message: str, parser: Any) -> str | None:
    match = re.search(r'Key "([\w.]+)" is required|Missing required (?:key|argument|option):? "?([\w.]+)', message)
    if not match:
        return None
    key = (match[1] or match[2]).removeprefix("init_args.")
    family = FAMILIES.get(key.split(".")[-1])
    allowed = f" Allowed: {', '.join(choices(family))}." if family else ""
    return f"'{key}' is missing: give it in the config or on the command line.{allowed}"


def _wrong_value(message: str, parser: Any) -> str | None:
    keys = re.findall(r'Parser key "([\w.]+)"', message)
    lines = [line.strip(" -") for line in message.splitlines()]
    expected = [line for line in lines if line.startswith("Expected") and "NoneType" not in line]
    if not keys or not expected:
        return None
    return f"{keys[-1]}: {_plain_types(expected[-1])}"


def _plain_types(line: str) -> str:
    return re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", line).replace("Expected a ", "expected ").replace("Got", "got")


class Dropped(logging.Filter):
    """Passes on, in one line each, the options that changing a class drops: jsonargparse hides them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Show dropped options; hide the rest of the parser's log."""
        match = re.search(r"from '([\w.]+)' to '([\w.]+)', discarding init_args: (.*)\.$", record.getMessage())
        if match:
            old, new = (path.rsplit(".", 1)[-1] for path in match.groups()[:2])
            log.warning("%s in place of %s: these options of the config are dropped: %s", new, old, match[3])
        return False


def parser_logger() -> logging.Logger:
    """The logger to give to jsonargparse, which shows dropped options only."""
    logger = logging.getLogger("ddlight.parsing")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
        logger.addFilter(Dropped())
    return logger

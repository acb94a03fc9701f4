"""`--help` of the commands that train or condense, written from the sources: one screen, then every option."""

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence

from ddlight.cli.words import FAMILIES, command_options, needed, taken, unknown_class
from ddlight.core.errors import UsageError
from ddlight.core.sources import Option, Source, Sources

ABOUT = {
    "fit": "Train a student on a condensed set and report its accuracy. The set is made first where it is missing and "
    "quick to make; the test split is read once, after the last step; result.json has everything.",
    "condense": "Make a condensed set: choose real images of each class (a coreset), or make new ones. It is sealed in "
    "a folder of its own, which is never written again; a stopped command goes on where it was; devices and nodes "
    "share the work. 'ddlight fit' with the same options trains on it.",
    "score": "Train on the full data once and record, for each image, what score-based coresets need. 'ddlight "
    "condense' does so by itself where it is missing.",
    "generator": "Train the generator that a generative method samples from, on one device, and keep samples of it. "
    "'ddlight condense' does so by itself where it is missing.",
    "experts": "Train networks on the full data and keep their weights after each pass, for methods that match "
    "trajectories. 'ddlight condense' does so by itself where they are missing.",
    "validate": "Score a finished run's student on the images that the dataset holds out.",
    "test": "Score a finished run's student on the test split.",
}
EXAMPLES = {
    "fit": ("--config quickstart", "--config my_photos --data.dataset.root=my_photos"),
    "condense": (
        "--config quickstart --data=Herding --data.ipc=20",
        "--data=FacilityLocation --data.dataset=ImageFolder --data.dataset.root=my_photos --files=kept",
    ),
    "score": ("--config coresets/aum --csv=scores.csv",),
    "generator": ("--config generators/fashion5k",),
    "experts": ("--config matching/mtt_fashion5k",),
}
COMMON = (
    "data.ipc",
    "data.dataset",
    "data.dataset.root",
    "data.seed",
    "model.student",
    "model.protocol",
    "model.budget.epochs",
    "model.seed",
    "trainer.run",
    "trainer.devices",
)
"""Options that are shown first, beside `--config`, `--data` and `--model`."""
FIRST = {
    "config": ("FILE", "a YAML file, or the name of a shipped one ('ddlight configs'); options after it replace its"),
    "data": ("METHOD", "how the set is made ('ddlight methods')"),
    "model": ("REGIME", "what the student is asked to match ('ddlight regimes')"),
}
LAST = {
    "dry-run": ("", "say what would be done and what is missing, and do nothing"),
    "tiny": ("", "shrink any config to seconds, and say what was changed"),
    "print_config": ("", "print the resolved config, which is itself a config"),
}
TEXTS = {
    "trainer.devices": "devices to use; 'auto' takes all",
    "trainer.run": "folder of the run; one is chosen by default",
}
"""What the first screen says of options whose own text needs the others around it."""
ROOTS = {"data": "CondensedDataModule", "model": "Regime"}


def help_of(command: str, words: Sequence[str], every: Sources) -> str:
    """The help that is asked for by `--help`, or by `--data.help=CLASS` and the like; "" where none is.

    Raises:
        UsageError: there is no such class.
    """
    for number, word in enumerate(words):
        name, _, value = word.partition("=")
        if name in ("-h", "--help"):
            return command_help(command, every)
        place = name.removeprefix("--").removesuffix(".help")
        base = every.find(ROOTS.get(place.split(".")[0], "")) if name.endswith(".help") else None
        for part in place.split(".")[1:]:
            option = every.options(base).get(part) if base else None
            base = taken(option, every) if option else None
        if base is not None:
            return class_help(place, base, value or "".join(words[number + 1 : number + 2]), every)
    return ""


def command_help(command: str, every: Sources) -> str:
    """Help of a command: what it does, examples, the most used options; then all of them."""
    roots = {key: base for key in needed(command)[::-1] if (base := every.find(ROOTS[key]))}
    own = command_options(command, every)
    options = {**own, **{name: o for key, base in roots.items() for name, o in _flat(key, base, every)}}
    options |= {f"data.dataset.{name}": o for name, o in every.options(_found("RealDataset", every)).items()}
    first = {name: (_type(options[name]), TEXTS.get(name, options[name].text)) for name in COMMON if name in options}
    others = {n: (_type(o), _text(o)) for n, o in options.items() if not n.startswith("trainer.")}
    trainer = {n: (_type(o), _text(o)) for n, o in options.items() if n.startswith("trainer.")}
    head = {key: FIRST[key] for key in ("config", *roots)}
    named = {n: (_type(o), o.text) for n, o in own.items() if not n.startswith(("trainer.", "wandb"))}
    return "\n".join(
        [
            *_wrapped(f"ddlight {command}: {ABOUT[command]}"),
            "",
            *(f"  ddlight {command} {example}" for example in EXAMPLES.get(command, ("--config quickstart",))),
            "",
            *_lines({**head, **first, **named, **LAST}, 26, short=True),
            "",
            *_wrapped(
                "A class has options of its own: --data.help=Herding, --model.help=TeacherLabel, "
                "--model.student.help=ConvNet, --data.dataset.help=ImageFolder list them."
            ),
            "",
            "Options of every method and regime, and of the whole command:",
            *_lines(others, 34),
            "",
            "Options of the run:",
            *_lines(trainer, 34),
            "",
        ]
    )


def class_help(place: str, base: Source, name: str, every: Sources) -> str:
    """Help of a class, with the options of the dataclasses that it takes.

    Args:
        place: the option that takes the class, such as "data".
        base: what the option takes.
        name: of the class; "" where none is named: then `base` itself.
        every: the sources.

    Raises:
        UsageError: there is no such class.
    """
    cls = every.find(name) if name else base
    if cls is None or (name and base.name not in every.ancestors(cls)):
        raise UsageError(unknown_class(base.name, name, every))
    options = {name: (_type(o), _text(o)) for name, o in _flat(place, cls, every)}
    about = cls.text.split("\n\nArgs:")[0].split("\n\n")
    paragraphs = [line for part in about for line in [*_wrapped(" ".join(part.split())), ""]]
    return "\n".join([f"{cls.name} ({cls.module})", "", *paragraphs, *_lines(options, 34), ""])


def _flat(place: str, cls: Source, every: Sources) -> Iterator[tuple[str, Option]]:
    """Options of a class by full name, those of dataclasses in their place."""
    for name, option in every.options(cls).items():
        inner = taken(option, every)
        if inner is None or inner.name in FAMILIES:
            yield f"{place}.{name}", option
        else:
            yield from _flat(f"{place}.{name}", inner, every)


def _found(name: str, every: Sources) -> Source:
    cls = every.find(name)
    assert cls is not None
    return cls


def _type(option: Option) -> str:
    text = option.annotation.replace(" | None", "")
    text = FAMILIES.get(text, text)
    if literal := re.fullmatch(r"Literal\[(.*)\]", text):
        text = literal[1].replace("'", "").replace(", ", "|")
    return text if len(text) < 40 else "VALUE"


def _text(option: Option) -> str:
    if option.default is None:
        return f"{option.text} (must be given)"
    plain = {"None": "null", "True": "true", "False": "false"}
    default = plain.get(option.default, option.default.strip("'"))
    return f"{option.text} (default {default})" if default else option.text


def _lines(options: dict[str, tuple[str, str]], column: int, short: bool = False) -> list[str]:
    """Option, type and text, aligned; a long name has its text on the next line. `short` keeps the first sentence."""
    lines = []
    for name, (kind, text) in options.items():
        text = re.split(r"[;.:] |\. ", text)[0].rstrip(".") if short else text
        head = f"  --{name}" + f"={kind.upper() if kind.islower() and kind.isalpha() else kind}" * bool(kind)
        body = textwrap.wrap(text, max(40, _width() - column)) or [""]
        if len(head) < column:
            head, body = head.ljust(column) + body[0], body[1:]
        lines += [head.rstrip(), *(" " * column + line for line in body)]
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _width())


def _width() -> int:
    return min(120, shutil.get_terminal_size(fallback=(100, 24)).columns)

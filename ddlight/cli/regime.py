"""The regime that follows from a protocol: where none is given, the one that the protocol was published with.

jsonargparse wants a class before its options, so that the words of a command are completed before they are parsed.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from ddlight.cli.configs import config_chain, find_config
from ddlight.core.errors import UsageError
from ddlight.recipes.table import Protocol, find

OPTION = re.compile(r"--(config|model(?:\.init_args)?(?:\.\w+)*)(?:=(.*))?", re.DOTALL)
Said = dict[str, Any]


def with_regime(words: Sequence[str]) -> list[str]:
    """The words of a command, with the regime and the teachers of its protocol where they give no regime.

    Only options of the model before the first one that gives its class are looked at. A protocol that is named later
    replaces an earlier one, and brings its regime along; teachers that are given somewhere stay.

    Args:
        words: the command and its options, such as fit --config X --model.protocol=rded.

    Raises:
        UsageError: the model has options, and neither a class nor a protocol; or there is no such protocol.
    """
    said = list(_said(words))
    count = next((n for n, (_, says) in enumerate(said) if "class_path" in says), len(said))
    named = [(place, find(says["protocol"])) for place, says in said[:count] if "protocol" in says]
    if not named:
        if said and count == len(said):
            raise UsageError(
                "There is no regime: give --model with a class, such as --model=HardLabel, or --model.protocol, such "
                "as --model.protocol=rded, which brings the regime that it was published with. 'ddlight regimes' and "
                "'ddlight protocols' list them."
            )
        return list(words)
    named[0] = said[0][0], named[0][1]  # options of the model that come first need a class too
    given = {key for _, says in said for key in ("teacher", "teachers") if _is_whole(says.get(key))}
    completed, done, before = list[str](), 0, None
    for place, protocol in named:
        if before is None or (protocol.regime, protocol.teachers) != (before.regime, before.teachers):
            completed += [*words[done:place], *_words_of(protocol, given)]
            done = place
        before = protocol
    return [*completed, *words[done:]]


def regime_of(words: Sequence[str]) -> str:
    """Name of the class of a command's regime, be it given or implied; "" where there is neither."""
    classes = [says["class_path"] for _, says in _said(with_regime(words)) if "class_path" in says]
    return str(classes[-1]).rsplit(".", 1)[-1] if classes else ""


def _said(words: Sequence[str]) -> Iterator[tuple[int, Said]]:
    """What the words say of the model, in order: place of the word, and options of the model with `class_path`."""
    for place, word in enumerate(words):
        if not (match := OPTION.fullmatch(word)) or match[1].endswith(".help"):
            continue
        key, value = match[1], match[2] if match[2] is not None else "".join(words[place + 1 : place + 2])
        if key == "config":
            for file in config_chain(find_config(value)):
                model = yaml.safe_load(file.read_text(encoding="utf-8")).get("model")
                if model is not None:
                    yield place, _options(model, file.parent)
        elif key in ("model", "model.init_args"):
            with suppress(yaml.YAMLError):  # which the parser explains
                yield place, _options(yaml.safe_load(value), Path())
        else:
            option, *inner = key.removeprefix("model.").removeprefix("init_args.").split(".")
            yield place, {option: {".".join(inner): value} if inner else value}


def _options(model: Any, folder: Path) -> Said:
    """Options of a model as a config or `--model` gives it: a class's name, a file, or class_path and init_args."""
    if isinstance(model, str) and model.endswith((".yaml", ".yml")) and (folder / model).is_file():
        model = yaml.safe_load((folder / model).read_text(encoding="utf-8"))
    if not isinstance(model, dict):
        return {"class_path": model}
    return {**{key: value for key, value in model.items() if key != "init_args"}, **(model.get("init_args") or {})}


def _is_whole(teacher: Any) -> bool:
    """Whether this gives teachers, and not options of one alone."""
    return teacher is not None and (not isinstance(teacher, dict) or "class_path" in teacher)


def _words_of(protocol: Protocol, given: set[str]) -> list[str]:
    """Regime and published teachers, but for teachers that are given elsewhere."""
    words, key = [f"--model={protocol.regime}"], "teachers" if protocol.regime == "MultiTeacherLabel" else "teacher"
    if protocol.teachers and key not in given:
        weights = [{"model": name, "weights": "IMAGENET1K_V1"} for name in protocol.teachers]
        teachers = [{"class_path": "TorchvisionTeacher", "init_args": arguments} for arguments in weights]
        words.append(f"--model.{key}={json.dumps(teachers if key == 'teachers' else teachers[0])}")
    return words

"""Config files: where they are, which others they build on, which fragments they name. Imports no torch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ddlight.core.discover import PACKAGE
from ddlight.core.errors import UsageError, nearest


def shipped() -> Path:
    """The folder of the configs that ddlight ships; in a clone it is a link to the one at the top."""
    return PACKAGE / "configs"


def find_config(name: str | Path, folder: str = "") -> Path:
    """The file that a name means: as it stands, below `configs/` here, or one of those that are shipped.

    Args:
        name: a path, with or without `configs/` and `.yaml`; of a shipped config the file's name alone will do.
        folder: below `configs/` to search first, such as "studies".

    Returns:
        Path: the file; `name` itself where there is none.
    """
    path = Path(name)
    file = path if path.suffix in (".yaml", ".yml") else path.parent / f"{path.name}.yaml"
    below = Path(*file.parts[1:]) if file.parts[:1] == ("configs",) else file
    places = [path, file]
    if not path.is_absolute():
        places += [base / part / below for part in (folder, "") for base in (Path("configs"), shipped())]
        places += (
            sorted(f for f in shipped().rglob(below.name) if "base" not in f.parts) if file.name == str(file) else []
        )
    return next((place for place in places if place.is_file()), path)


def config_chain(path: Path, above: tuple[Path, ...] = ()) -> list[Path]:
    """Files that a config builds on by `config:` (relative to the file that says so), each after its own, then itself.

    Args:
        path: a YAML file of keys such as data:, model:, trainer:.
        above: files that led here.

    Raises:
        UsageError: a file is missing, is not valid YAML, holds no keys, is a study, or builds on itself.
    """
    if path.resolve() in above:
        raise UsageError(f"The config {path} builds on itself: see the key config: in {above[-1]}.")
    named = read_config(path).get("config") or []
    bases = [named] if isinstance(named, str) else named
    below = [file for base in bases for file in config_chain(path.parent / base, (*above, path.resolve()))]
    return [*below, path]


def contents(path: Path, above: tuple[Path, ...] = ()) -> list[Any]:
    """What a YAML file holds, followed by the contents of the fragments that it names, as nested lists.

    Args:
        path: the file.
        above: files that led here; a fragment that names one of them ends there.

    Raises:
        UsageError: a file is missing or is not valid YAML.
    """
    content, led = read(path), (*above, path.resolve())
    named = [file for file in fragments(content, path.parent) if file.resolve() not in led]
    return [content, *(contents(file, led) for file in named)]


def fragments(value: Any, folder: Path) -> list[Path]:
    """YAML files that strings in a value name, at any depth, in order; `config:` is left to `config_chain`.

    Args:
        value: as read from YAML.
        folder: what the names are relative to.
    """
    named = (folder / text for text in _texts(value) if text.endswith((".yaml", ".yml")))
    return [file for file in named if file.is_file()]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        value = [item for key, item in value.items() if key != "config"]
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)


def read_config(path: Path) -> dict[str, Any]:
    """What a config holds, without what it builds on. Raises UsageError as `config_chain`."""
    content = read(path)
    if not isinstance(content, dict):
        raise UsageError(f"{path} is not a config: it holds no keys such as data:, model: or trainer:.")
    if "axes" in content:
        raise UsageError(f"{path} is a study, many runs in one file: ddlight grid {path}")
    return content


def read(path: Path) -> Any:
    """What a YAML file holds. Raises UsageError where it is missing or not valid YAML."""
    if not path.is_file():
        close = nearest(path.stem, {file.stem for file in shipped().rglob("*.yaml")}, n=1)
        raise UsageError(f"There is no config {path}. 'ddlight configs' lists those that are shipped.{close}")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error

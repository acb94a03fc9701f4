"""Writing files so that a reader sees the old or the new content and never half of it."""

import csv
import errno
import hashlib
import io
import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ddlight.core.errors import DataError

UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.ENOENT)
"""What the system says where a folder cannot be made."""
SIGNATURE = "sha256"
"""Field of a JSON file that holds the checksum of its other fields."""


def cache_folder(cache: str | None = None) -> Path:
    """Where condensed sets lie: `cache`, else $DDLIGHT_CACHE, else ~/.cache/ddlight/condensed."""
    return Path(cache or os.environ.get("DDLIGHT_CACHE") or "~/.cache/ddlight/condensed").expanduser()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        DataError: it cannot be made there, or the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except ValueError as error:
        raise DataError(f"The folder {str(folder)!r} cannot be made: {error}.") from error
    except OSError as error:
        if error.errno in UNWRITABLE:
            text = f"The folder {folder} cannot be made: {error.strerror}. Name one in a place where you may write."
            raise DataError(text) from error
        raise explain(error, folder) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` under a temporary name beside `path`, flush it to disk and rename it into place.

    Raises:
        DataError: the disk is full, or the folder cannot be made; what was there before stays.
    """
    make_folder(path.parent)
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise explain(error, path) from error


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON; NaN and infinity are refused with ValueError."""
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows, one or more with the same keys in the same order, under a header of these keys."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: harmless(value) for name, value in row.items()} for row in rows)
    write_bytes(path, text.getvalue().encode())


def harmless(value: object) -> object:
    """A cell of a table that no spreadsheet takes for a formula: a text that begins as one gets an apostrophe."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        try:
            float(value)
        except ValueError:
            return f"'{value}"
    return value


def require_file(path: Path) -> None:
    """Raise DataError where something else than a file has this name: a pipe would be waited for."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is no file: a folder, pipe or device is not read.")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises DataError naming the file where it is missing or damaged."""
    require_file(path)
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged or not JSON: {error}") from error


def signed(content: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with the field `sha256`: the checksum of all the others, which `unsigned` checks."""
    return {**content, SIGNATURE: _checksum(json.loads(json.dumps(content, allow_nan=False)))}


def unsigned(content: dict[str, Any]) -> dict[str, Any]:
    """A JSON object that was read, without the field that `signed` gave it; one without that field is not checked.

    Raises:
        DataError: it is not what was signed.
    """
    fields = {key: value for key, value in content.items() if key != SIGNATURE}
    if SIGNATURE in content and content[SIGNATURE] != _checksum(fields):
        raise DataError(f"its content is not what was written: '{SIGNATURE}' in it is another checksum")
    return fields


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sealed(content: bytes) -> bytes:
    """Bytes after their checksum, which `unsealed` checks."""
    return hashlib.sha256(content).hexdigest().encode() + content


def unsealed(content: bytes) -> bytes:
    """What `sealed` was given. Raises DataError where it is not that any more."""
    checksum, rest = content[:64], content[64:]
    if hashlib.sha256(rest).hexdigest().encode() != checksum:
        raise DataError("its content is not what was written: its checksum is another")
    return rest


def sha256(path: Path) -> str:
    """Hash of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def explain(error: OSError, path: Path) -> Exception:
    """Turn 'no space left' into a DataError that says what to do; other errors pass unchanged."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(
            f"The disk is full: {path} was not written. Nothing finished was changed. "
            "Free space (or set DDLIGHT_CACHE or --trainer.run elsewhere) and run the same command again: it continues."
        )
    return error

"""Pictures below a folder: each real file once, hidden and system entries left out, and a line that says what was."""

import os
from collections import Counter
from pathlib import Path

from PIL import features

from ddlight.core.errors import DataError

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp", ".gif"),
    *((".avif",) if features.check("avif") else ()),
)
"""Endings of pictures that are read; of those that move, the first frame."""
UNREAD = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw")
"""Endings of pictures that are not."""
LITTER = ("__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "system volume information", "lost+found")
"""Folders that systems leave beside those of a user."""


def is_image(name: str) -> bool:
    """Whether a file is an image, by its ending; hidden ones are not."""
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


def is_litter(name: str) -> bool:
    """Whether an entry of a folder is hidden or a system's."""
    return name.startswith(".") or name.lower() in LITTER


def folders_in(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden and system ones. Raises DataError where it is closed."""
    try:
        names = sorted(e.name for e in folder.iterdir() if e.is_dir() and not is_litter(e.name))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}.") from error
    for name in names:
        _check_name(str(folder), name)
    return names


class Walk:
    """One look at a dataset's folders, in which no picture is found twice.

    Links are followed where they lead out of the folders that are listed anyway, each to its end once.

    Args:
        listed: these folders.
    """

    def __init__(self, *listed: Path) -> None:
        self.left_out: Counter[str] = Counter()
        self._listed = [os.path.realpath(folder) for folder in listed]
        self._folders: dict[str, Path] = {}
        self._files: set[str] = set()

    def pictures(self, folder: Path) -> list[str]:
        """Paths of the pictures below a folder, relative to it, sorted.

        Raises:
            DataError: a folder cannot be read, was looked at before under another name, or a name is not UTF-8.
        """
        real = os.path.realpath(folder)
        if real in self._folders:
            raise DataError(
                f"{folder} and {self._folders[real]} are one folder: its pictures would count twice. Remove the link."
            )
        self._folders[real] = folder
        found, pending = [], [(str(folder), "")]
        while pending:
            place, prefix = pending.pop()
            try:
                with os.scandir(place) as entries:
                    for entry in entries:
                        name = entry.name
                        if is_litter(name):
                            self.left_out["hidden or system entries"] += 1
                        elif entry.is_dir() if not entry.is_symlink() else self._leads_to_folder(entry):
                            pending.append((entry.path, f"{prefix}{name}/"))
                        elif name.lower().endswith(EXTENSIONS) and self._is_picture(entry):
                            _check_name(place, name)
                            found.append(prefix + name)
                        elif name.lower().endswith(UNREAD) and not name.lower().endswith(EXTENSIONS):
                            self.left_out[f"pictures that end in {Path(name).suffix.lower()}, which is not read"] += 1
            except OSError as error:
                raise DataError(f"{place} cannot be read: {error.strerror}.") from error
        return sorted(found)

    def _leads_to_folder(self, link: "os.DirEntry[str]") -> bool:
        """Whether a link leads to a folder that is not looked at otherwise."""
        if not link.is_dir():
            return False
        real = os.path.realpath(link.path)
        within = any(_below(real, listed) or _below(listed, real) for listed in self._listed)
        if within or real in self._folders:
            self.left_out["links to folders that are looked at anyway"] += 1
            return False
        self._folders[real] = Path(link.path)
        return True

    def _is_picture(self, entry: "os.DirEntry[str]") -> bool:
        """Whether an entry with a picture's ending is a file that was not found before."""
        if not entry.is_file():
            if not entry.is_dir():
                self.left_out["broken links, pipes and devices"] += 1
            return False
        if not entry.is_symlink():
            return True
        real = os.path.realpath(entry.path)
        if real in self._files or any(_below(real, listed) for listed in self._listed):
            self.left_out["links to pictures that are there"] += 1
            return False
        self._files.add(real)
        return True

    def line(self, classes: int, images: int, least: int, most: int) -> str:
        """What was found and left out, as one line."""
        span = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        left = ", ".join(f"{count:,} {what}" for what, count in sorted(self.left_out.items()))
        return f"{images:,} pictures of {classes:,} classes, {span} a class{f'; left out: {left}' if left else ''}"


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _check_name(folder: str, name: str) -> None:
    """Raise DataError where a name is not text."""
    if not name.isascii() and not name.isprintable():
        try:
            name.encode()
        except UnicodeEncodeError:
            place = os.fsencode(folder).decode(errors="replace")
            raise DataError(f"{place} holds a name that is not UTF-8: {os.fsencode(name)!r}. Rename it.") from None

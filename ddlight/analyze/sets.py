"""Which condensed sets are meant by folders on a command line: sets, runs on them, or folders that hold some."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddlight.core.artefact import MANIFEST, read_manifest
from ddlight.core.errors import DataError, UsageError
from ddlight.core.result import Result
from ddlight.sets.opened import RESULT, find


@dataclass(frozen=True)
class LabelledSet:
    """A condensed set, and a run that labelled it in its own way, if any."""

    folder: Path  # of the set
    run: Path | None = None  # folder of the run
    result: Result | None = None  # of the run

    def manifest(self) -> dict[str, Any]:
        """The set's manifest. Raises DataError where it is no more, damaged, or not of the set that the run had."""
        if self.run is not None and not (self.folder / MANIFEST).is_file():
            raise DataError(
                f"The set of the run {self.run} lay in {self.folder} and is there no more. Make it again: "
                f"ddlight condense --config {self.run / 'config.yaml'}"
            )
        manifest = read_manifest(self.folder)
        if self.result is not None and manifest["fingerprint"] != self.result.set.fingerprint:
            raise DataError(
                f"The run {self.run} had the set {self.result.set.fingerprint}, and in {self.folder} lies "
                f"{manifest['fingerprint']}: folders were exchanged or renamed. Move them back."
            )
        return manifest


def find_sets(paths: Sequence[Path]) -> list[LabelledSet]:
    """Find the sets, in the order of paths; each comes once, and once for every way in which runs labelled it.

    Args:
        paths: folders of sets or runs, their manifest.json or result.json, or folders that hold such at any depth.

    Raises:
        DataError: a path is missing, damaged or holds neither.
        UsageError: a path is something else that was sealed, such as a scoring run.
    """
    sets: dict[str, LabelledSet] = {}
    for path in paths:
        holds_others = path.is_dir() and not any((path / name).is_file() for name in (MANIFEST, RESULT))
        for one in _below(path) if holds_others else [_one(find(path))]:
            sets.setdefault(_key(one), one)
    return list(sets.values())


def _one(folder: Path) -> LabelledSet:
    if (folder / RESULT).is_file():
        result = Result.read(folder)
        return LabelledSet(Path(result.set.path), folder, result)
    manifest = read_manifest(folder)
    if not _is_set(manifest):
        raise UsageError(
            f"{folder} is no condensed set but: {manifest.get('what', 'something else')}. "
            "Give the folder of a set, or of a run: ddlight analyze FOLDER"
        )
    return LabelledSet(folder)


def _is_set(manifest: dict[str, Any]) -> bool:
    return {"method", "kind", "ipc"} <= set(manifest)


def _below(folder: Path) -> Iterator[LabelledSet]:
    """Every finished set and run below a folder, by name."""
    count = 0
    for place, inner, names in os.walk(folder):
        inner[:] = [] if MANIFEST in names else sorted(name for name in inner if not name.endswith(".partial"))
        here = Path(place)
        if RESULT in names or (MANIFEST in names and _is_set(read_manifest(here))):
            count += 1
            yield _one(here)
    if not count:
        raise DataError(
            f"{folder} holds no condensed set and no finished run. Give a folder that does: ddlight condense"
        )


def _key(one: LabelledSet) -> str:
    """Sets are told apart by folder; runs by that and by what labelled it."""
    result = one.result
    labels: list[object] = []
    if result is not None:
        teachers = [teacher.fingerprint for teacher in result.teachers]
        labels = [result.regime, result.recipe.get("temperature"), teachers]
    return json.dumps([str(one.folder.resolve()), labels])

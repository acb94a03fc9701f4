"""Published trajectories: the replay_buffer_*.pt of MTT, TESLA, FTD, DATM and SelMatch.

A file is a list of trajectories, a trajectory a list of snapshots, a snapshot the list of a network's parameters.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddlight.core.errors import DataError, UsageError
from ddlight.data.contents import content_hashes
from ddlight.networks.torch_file import read_torch_file

PATTERN = "replay_buffer_*.pt"


class Buffer:
    """A folder of replay buffers, in the order of their numbers.

    Args:
        folder: holds the files.

    Raises:
        DataError: it holds none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = sorted(folder.glob(PATTERN), key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])
        if not self.paths:
            raise DataError(f"{folder} holds no {PATTERN}. Give the folder that MTT's buffer.py wrote, or none.")

    def identity(self) -> list[Any]:
        """Names of the files, and hashes of what they hold."""
        names = [path.name for path in self.paths]
        return [[name, *found] for name, found in zip(names, content_hashes(self.folder, names), strict=True)]

    def trajectory(self, number: int, epochs: int, shapes: Sequence[torch.Size]) -> Iterator[Tensor]:
        """Weights of a trajectory at first and after each pass, float32 (P,).

        Args:
            number: of the trajectory, through all files.
            epochs: passes that are read.
            shapes: of the network's parameters.

        Raises:
            UsageError: there are fewer trajectories or passes, or they are of another network or dataset.
            DataError: a file cannot be read.
        """
        first = 0
        for path in self.paths:
            trajectories = _read(path)
            if number < first + len(trajectories):
                return self._checked(path, trajectories[number - first], epochs, shapes)
            first += len(trajectories)
        raise UsageError(f"{self.folder} holds {first} trajectories. Give --data.experts.count={first} or less.")

    def _checked(self, path: Path, found: list[Any], epochs: int, shapes: Sequence[torch.Size]) -> Iterator[Tensor]:
        if len(found) <= epochs:
            raise UsageError(
                f"The trajectories in {path} have {len(found) - 1} passes. Give --data.experts.epochs={len(found) - 1} "
                "or less."
            )
        theirs, ours = [tuple(value.shape) for value in found[0]], [tuple(shape) for shape in shapes]
        if theirs != ours:
            pairs = [f"{a} for {b}" for a, b in zip(theirs, ours, strict=False) if a != b]
            raise UsageError(
                f"{path} is of another network or dataset: {len(theirs)} tensors for {len(ours)}; "
                f"{', '.join(pairs[:2]) or 'the first ones agree'}. Give their network as --data.student."
            )
        return (torch.cat([value.float().flatten() for value in snapshot]) for snapshot in found[: epochs + 1])


@lru_cache(maxsize=1)
def _read(path: Path) -> list[list[list[Tensor]]]:
    """A file's trajectories; the last file that was read is kept, since one holds ten. Raises DataError."""
    content = read_torch_file(path)
    with suppress(TypeError, LookupError):
        if isinstance(content[0][0][0], Tensor):
            return list(content)
    raise DataError(f"{path} is no replay buffer: it holds no list of lists of lists of tensors.")

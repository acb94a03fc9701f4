"""What a person sees of a recovery at work: a bar with the terms of the loss, and a picture of the images."""

import logging
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torchvision.utils import make_grid, save_image

from ddlight.methods.images import NormalisedSpace

log = logging.getLogger("ddlight")
DRAW_SECONDS = 0.5
"""The bar moves, and the terms of the loss are read, once in this time."""
PICTURE_SECONDS = 20.0
PICTURE = "preview.png"
"""Written into the set's working folder, which goes when the set is sealed."""
SHOWN = 100
"""Most images of one picture."""


class RecoveryBar:
    """A context that is called after each iteration, and reads from tensors only when it draws.

    Args:
        title: what is worked on.
        iterations: length of the bar.
        space: of the images.
        folder: where the picture goes; nothing is written where that folder does not exist.
    """

    def __init__(self, title: str, iterations: int, space: NormalisedSpace, folder: Path) -> None:
        self.title, self.iterations, self.space, self.folder = title, iterations, space, folder
        self._drawn = self._pictured = self._start = time.perf_counter()
        self._bar: Progress | None = None

    def __enter__(self) -> "RecoveryBar":
        if sys.stderr.isatty() and log.isEnabledFor(logging.INFO):
            text = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            self._bar = Progress(*text, TextColumn("{task.fields[terms]}"), refresh_per_second=2, transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.iterations, terms="")
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, iteration: int, terms: Mapping[str, Tensor], images: Tensor) -> None:
        """Move the bar where it is time to, draw the picture where it is time to, say how it ended."""
        now, ended = time.perf_counter(), iteration + 1 == self.iterations
        if self._bar is not None and (ended or now - self._drawn > DRAW_SECONDS):
            self._drawn = now
            self._bar.update(self._task, completed=iteration + 1, terms=described(terms))
        if ended or now - self._pictured > PICTURE_SECONDS:
            self._pictured = now
            self.picture(images)
        if ended:
            log.info("%s: %s, %.0f s", self.title, described(terms), now - self._start)

    def picture(self, images: Tensor) -> None:
        """Write some of the images as one picture; a full disk or a folder that is gone costs the picture only."""
        shown, (mean, std) = images.detach()[:SHOWN], self.space.statistics(images.device)
        part = self.folder / f".{PICTURE}.{os.getpid()}.part"
        with suppress(OSError):
            save_image(make_grid((shown * std + mean).clamp(0, 1).cpu(), nrow=10), part, format="png")
            part.replace(self.folder / PICTURE)


def described(terms: Mapping[str, Tensor]) -> str:
    """Terms of a loss in words, such as 'ce 0.012, statistics 1.3'."""
    values = torch.stack([value.detach() for value in terms.values()]).tolist()
    return ", ".join(f"{name} {value:.3g}" for name, value in zip(terms, values, strict=True))

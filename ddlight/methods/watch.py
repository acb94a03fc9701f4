"""What a person sees of images being moved: a bar with the terms of the loss, lines in a log, a picture."""

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torchvision.utils import make_grid, save_image

from ddlight.core.result import peak_host_memory

log = logging.getLogger("ddlight")
DRAW_SECONDS = 0.5
"""The bar moves, and the terms of the loss are read, once in this time."""
LINE_SECONDS = 60.0
"""Where there is no bar, a line says how far it is, once in this time."""
PICTURE_SECONDS = 20.0
PICTURE = "preview.png"
"""Written into the set's working folder, which goes when the set is sealed."""
SHOWN = 100
"""Most images of one picture."""


class IterationBar:
    """A context that is called after each iteration, and reads from tensors only when it draws.

    Args:
        title: what is worked on.
        iterations: length of the bar.
        unit: turns the images that it is called with into pixels in [0, 1].
        folder: where the picture goes; nothing is written where that folder does not exist.
        first: iteration that it begins with.
    """

    def __init__(
        self, title: str, iterations: int, unit: Callable[[Any], Tensor], folder: Path, first: int = 0
    ) -> None:
        self.title, self.iterations, self.unit, self.folder, self.first = title, iterations, unit, folder, first
        self._drawn = self._said = self._pictured = self._start = time.perf_counter()
        self._bar: Progress | None = None

    def __enter__(self) -> "IterationBar":
        if sys.stderr.isatty() and log.isEnabledFor(logging.INFO):
            text = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            self._bar = Progress(*text, TextColumn("{task.fields[terms]}"), refresh_per_second=2, transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.iterations, completed=self.first, terms="")
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, iteration: int, terms: Mapping[str, Tensor], images: Any) -> None:
        """Move the bar where it is time to, draw the picture where it is time to, say how it ended."""
        now, ended = time.perf_counter(), iteration + 1 == self.iterations
        if self._bar is not None and (ended or now - self._drawn > DRAW_SECONDS):
            self._drawn = now
            self._bar.update(self._task, completed=iteration + 1, terms=described(terms))
        if self._bar is None and not ended and now - self._said > LINE_SECONDS:
            self._said = now
            left = (now - self._start) / (iteration + 1 - self.first) * (self.iterations - iteration - 1)
            done = f"{iteration + 1} of {self.iterations}, {described(terms)}"
            log.info("%s: %s, %.0f s left, %.1f GB at most", self.title, done, left, peak_memory() / 1e9)
        if ended or now - self._pictured > PICTURE_SECONDS:
            self._pictured = now
            self.picture(images)
        if ended:
            log.info("%s: %s, %.0f s", self.title, described(terms), now - self._start)

    @torch.no_grad()
    def picture(self, images: Any) -> None:
        """Write some of the images as one picture; a full disk or a folder that is gone costs the picture only."""
        shown = self.unit(images)[:SHOWN]
        part = self.folder / f".{PICTURE}.{os.getpid()}.part"
        with suppress(OSError):
            save_image(make_grid(shown.clamp(0, 1).cpu(), nrow=10), part, format="png")
            part.replace(self.folder / PICTURE)


def peak_memory() -> int:
    """Most bytes that this process has held: of a GPU where there is one, else of the machine."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_host_memory()


def described(terms: Mapping[str, Tensor]) -> str:
    """Terms of a loss in words, such as 'ce 0.012, statistics 1.3'."""
    values = torch.stack([value.detach() for value in terms.values()]).tolist()
    return ", ".join(f"{name} {value:.3g}" for name, value in zip(terms, values, strict=True))

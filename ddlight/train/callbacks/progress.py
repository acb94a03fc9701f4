"""Seconds of training, carried over stops; one progress bar for the whole run, or a few lines without a terminal."""

import logging
import sys
import time
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ddlight.train.callbacks.each_step import EachStep, is_due

log = logging.getLogger("ddlight")
LINES = 4


class TrainingClock(Callback):
    """Counts the seconds between the first and the last step, over all processes that a run was continued in."""

    def __init__(self) -> None:
        self.before = 0.0
        self.started: float | None = None
        self.ended: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        if self.started is None:
            return self.before
        return self.before + (self.ended or time.perf_counter()) - self.started

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start."""
        self.started, self.ended = time.perf_counter(), None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop."""
        self.ended = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Seconds so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.before = float(state_dict["seconds"])


class RunBar(EachStep, ProgressBar):
    """Shows optimiser steps out of the budget, twice a second, and reads nothing from tensors."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: Progress | None = None
        self._drawn = 0.0
        self._start = 0.0

    def disable(self) -> None:
        """Show nothing (ranks other than 0)."""
        self._enabled = False

    def enable(self) -> None:
        """Show the bar."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
        super().on_train_start(trainer, pl_module)
        self._start = time.perf_counter()
        self._total = int(trainer.estimated_stepping_batches)
        if self._enabled and sys.stderr.isatty():
            columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, refresh_per_second=2)
            self._bar.start()
            self._task = self._bar.add_task("training", total=self._total, completed=trainer.global_step)

    def after_step(self, trainer: Trainer, model: Any, step: int) -> None:
        """Move the bar, or write a line at each quarter."""
        if self._bar is not None:
            if time.perf_counter() - self._drawn > 0.5 or step == self._total:
                self._drawn = time.perf_counter()
                self._bar.update(self._task, completed=step)
        elif self._enabled and is_due(step, self._total, LINES):
            log.info("step %d of %d, %.0f s", step, self._total, time.perf_counter() - self._start)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar."""
        self.on_train_end(trainer, pl_module)

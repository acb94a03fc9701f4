"""One progress bar for the whole run; a few plain lines where there is no terminal."""

import logging
import sys
import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger("ddlight")
LINES = 4


class RunBar(ProgressBar):
    """Shows optimiser steps out of the budget, twice a second, and reads nothing from tensors."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: Progress | None = None
        self._drawn = 0.0
        self._start = 0.0
        self._seen = 0

    def disable(self) -> None:
        """Show nothing (ranks other than 0)."""
        self._enabled = False

    def enable(self) -> None:
        """Show the bar."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
        self._start, self._seen = time.perf_counter(), trainer.global_step
        self._total = int(trainer.estimated_stepping_batches)
        if self._enabled and sys.stderr.isatty():
            columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, refresh_per_second=2)
            self._bar.start()
            self._task = self._bar.add_task("training", total=self._total, completed=trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar, or write a line at each quarter."""
        step = trainer.global_step
        if step == self._seen:
            return
        self._seen = step
        if self._bar is not None:
            if time.perf_counter() - self._drawn > 0.5 or step == self._total:
                self._drawn = time.perf_counter()
                self._bar.update(self._task, completed=step)
        elif self._enabled and step * LINES // self._total > (step - 1) * LINES // self._total:
            log.info("step %d of %d, %.0f s", step, self._total, time.perf_counter() - self._start)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

"""Seconds of training, carried over stops."""

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer


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

"""The training curve: loss and learning rate at a hundred points, `metrics.csv`, and a stop where the loss is NaN."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from ddlight.core import files
from ddlight.core.errors import DataError, DDLightError
from ddlight.train.callbacks.each_step import EachStep

POINTS = 100
WRITE_SECONDS = 1.0
"""`metrics.csv` is written at a point at most this often: to flush it to disk takes as long as many small steps."""


class TrainingError(DDLightError):
    """Training broke down (exit code 1)."""


def check_loss(loss: float, step: int) -> None:
    """Raise TrainingError where a loss is not a number, or infinite."""
    if loss != loss or abs(loss) == float("inf"):
        raise TrainingError(
            f"The loss became {loss} before step {step}. Lower the learning rate (--model.recipe.lr=...), "
            "or use --trainer.precision=32-true if the run was in 16 bit."
        )


class Curve(EachStep):
    """Reads the loss a hundred times per run and keeps the rows; nothing is read from the device in between.

    Args:
        folder: run folder; `metrics.csv` is rewritten there at points, and when the run ends or breaks down.
    """

    saved = ("rows", "sum", "count")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, float]] = []
        self.sum: Tensor | None = None
        self.count = 0
        self._rate = 0.0
        self._written = (0, -float("inf"))  # rows in the file, and when they were written

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start where the checkpoint ended."""
        super().on_train_start(trainer, pl_module)
        self.sum = torch.zeros((), device=pl_module.device) if self.sum is None else self.sum.to(pl_module.device)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Note the rate of this step; after it, the scheduler has moved on."""
        self._rate = float(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the loss, which Lightning has divided by the number of micro-batches."""
        assert self.sum is not None
        self.sum += outputs["loss"].detach()
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def after_step(self, trainer: Trainer, model: Any, step: int) -> None:
        """At a point, read the loss."""
        self.count += 1
        total = int(trainer.estimated_stepping_batches)
        if step % max(1, total // POINTS) == 0 or step == total:
            self._point(trainer, model, step)

    def _point(self, trainer: Trainer, model: Any, step: int) -> None:
        assert self.sum is not None
        loss = float(trainer.strategy.reduce(self.sum / self.count, reduce_op="mean"))
        check_loss(loss, step)
        self.rows.append({"step": step, "images": model.images_seen(step), "loss": loss, "lr": self._rate})
        self.sum, self.count = torch.zeros_like(self.sum), 0
        if time.monotonic() - self._written[1] >= WRITE_SECONDS:
            self._write(trainer)
        for logger in trainer.loggers if trainer.is_global_zero else ():
            logger.log_metrics({f"train/{k}": v for k, v in self.rows[-1].items()}, step=step)

    def check(self, trainer: Trainer) -> None:
        """Raise TrainingError where the loss since the last point is not a number: no checkpoint may keep that."""
        if self.sum is not None:
            check_loss(float(trainer.strategy.reduce(self.sum, reduce_op="sum")), trainer.global_step)

    def _write(self, trainer: Trainer) -> None:
        if not trainer.is_global_zero or self._written[0] == len(self.rows):
            return
        files.write_csv(self.folder / "metrics.csv", self.rows)
        self._written = len(self.rows), time.monotonic()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write what there is; where that fails, what broke the run is the thing to tell."""
        with suppress(DataError, OSError):
            self._write(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the curve; stop where the last update left weights that are not numbers: no loss followed it."""
        self._write(trainer)
        weights = [parameter.detach() for parameter in pl_module.parameters()]
        if not torch.stack([weight.isfinite().all() for weight in weights]).all():
            raise TrainingError(
                "The last update left weights that are infinite or not numbers. Lower the learning rate "
                "(--model.recipe.lr=...)."
            )

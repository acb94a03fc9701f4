"""Reading the test split during training, for protocols that report the best of several readings."""

from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer

from ddlight.core import files
from ddlight.regimes.judge import Judge
from ddlight.train.callbacks.each_step import EachStep, is_due
from ddlight.train.callbacks.ema import averaged


class TestCurve(EachStep):
    """Reads the test split at evenly spaced optimiser steps, `test_curve` times; the result then says how often.

    It is always among the Trainer's callbacks and does nothing where the regime asks for no curve.

    Args:
        folder: run folder; `test_curve.csv` is written there when the run ends, one line a reading: step, images seen
            by the student, acc in percent.
    """

    saved = ("readings",)
    __test__ = False  # not a test class, whatever pytest thinks of its name

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.readings: list[dict[str, float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start where the checkpoint ended."""
        super().on_train_start(trainer, pl_module)
        self.readings = self.readings if trainer.global_step else []

    def after_step(self, trainer: Trainer, model: Any, step: int) -> None:
        """Read where a reading is due."""
        if not model.test_curve:
            return
        total = int(trainer.estimated_stepping_batches)
        if step < total and is_due(step, total, model.test_curve + 1):
            self.readings.append({"step": step, "acc": self._read(trainer, model)})

    @torch.no_grad()
    def _read(self, trainer: Trainer, model: Any) -> float:
        judge = Judge(model.data.dataset.num_classes, model.device)
        with averaged(trainer, model):
            model.eval()
            model.share_buffers()
            with trainer.precision_plugin.forward_context():
                for images, labels in model.data.test_dataloader():
                    judge.update(model.logits(images.to(model.device)), labels.to(model.device))
            model.train()
        return judge.scores().acc

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the readings, where there are any."""
        model: Any = pl_module
        if self.readings and trainer.is_global_zero:
            rows = [{"step": r["step"], "images": model.images_seen(r["step"]), "acc": r["acc"]} for r in self.readings]
            files.write_csv(self.folder / "test_curve.csv", rows)

"""Reading the test split during training, for protocols that report the best of several readings."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from ddlight.callbacks.ema import StudentEMA
from ddlight.metrics.judge import Judge


class TestCurve(Callback):
    """Reads the test split at evenly spaced optimiser steps; the result then says how often.

    Args:
        times: readings during training, the last of them before the end.
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    def __init__(self, times: int) -> None:
        self.times = times
        self.readings: list[dict[str, float]] = []
        self._seen = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start where the checkpoint ended."""
        self._seen = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read where a reading is due."""
        step = trainer.global_step
        if step == self._seen:
            return
        self._seen = step
        total = int(trainer.estimated_stepping_batches)
        if step < total and step * (self.times + 1) // total > (step - 1) * (self.times + 1) // total:
            self.readings.append({"step": step, "acc": self._read(trainer, pl_module)})

    @torch.no_grad()
    def _read(self, trainer: Trainer, model: Any) -> float:
        averages = [c for c in trainer.callbacks if isinstance(c, StudentEMA)]  # type: ignore[attr-defined]
        judge = Judge(model.data.dataset.num_classes, model.device)
        for average in averages:
            average.swap_in(model)
        model.eval()
        for images, labels in model.data.test_dataloader():
            judge.update(model.logits(images.to(model.device)), labels.to(model.device))
        model.train()
        for average in averages:
            average.swap_out(model)
        return judge.scores().acc

    def state_dict(self) -> dict[str, Any]:
        """The readings so far."""
        return {"readings": list(self.readings)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.readings = list(state_dict["readings"])

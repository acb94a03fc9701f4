"""The trained student as plain files that timm and torchvision load without ddlight."""

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from ddlight.callbacks.ema import StudentEMA
from ddlight.models.export import save_student


class Export(Callback):
    """Writes `student.safetensors` and `student.json` at the end, and `student_epoch<k>.safetensors` where asked.

    With an average of weights, the average is what is written.

    Args:
        folder: run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start where the checkpoint ended."""
        self._seen = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Export after a pass that was asked for."""
        model: Any = pl_module
        step, per_pass = trainer.global_step, model.run.steps_per_pass
        if step != self._seen and step % per_pass == 0 and step // per_pass in model.save_epochs:
            self._write(trainer, pl_module, step // per_pass)
        self._seen = step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export the final student."""
        self._write(trainer, pl_module, None)

    @torch.no_grad()
    def _write(self, trainer: Trainer, model: Any, epoch: int | None) -> None:
        if not trainer.is_global_zero:
            return
        averages = [c for c in trainer.callbacks if isinstance(c, StudentEMA)]  # type: ignore[attr-defined]
        for average in averages:
            average.swap_in(model)
        data, whitened = model.data.dataset, model.data.whitening is not None
        info = data.info
        save_student(
            self.folder,
            model.network,
            model.student,
            num_classes=data.num_classes,
            channels=info.channels,
            size=info.size,
            mean=info.mean,
            std=info.std,
            classes=info.classes,
            epoch=epoch,
            whitening=model.data.space if whitened else None,
        )
        for average in averages:
            average.swap_out(model)

"""The trained student as plain files that timm and torchvision load without ddlight."""

from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer

from ddlight.networks.export import StudentCard, save_student
from ddlight.train.callbacks.each_step import EachStep
from ddlight.train.callbacks.ema import averaged


class Export(EachStep):
    """Writes `student.safetensors` and `student.json` at the end, and `student_epoch<k>.safetensors` where asked.

    With an average of weights, the average is what is written.

    Args:
        folder: run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Export the initial student, where it was asked for; a continued run has done so."""
        super().on_train_start(trainer, pl_module)
        if trainer.global_step == 0 and 0 in pl_module.save_epochs:
            self._write(trainer, pl_module, 0)

    def after_step(self, trainer: Trainer, model: Any, step: int) -> None:
        """Export after a pass that was asked for."""
        per_pass = model.run.steps_per_pass
        if step % per_pass == 0 and step // per_pass in model.save_epochs:
            self._write(trainer, model, step // per_pass)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export the final student."""
        self._write(trainer, pl_module, None)

    @torch.no_grad()
    def _write(self, trainer: Trainer, model: Any, epoch: int | None) -> None:
        if not trainer.is_global_zero:
            return
        data, space = model.data.dataset, model.data.space if model.data.whitening is not None else None
        info = data.info
        card = StudentCard(
            model.student, data.num_classes, info.channels, info.size, info.mean, info.std, info.classes, space
        )
        with averaged(trainer, model):
            save_student(self.folder, model.network, card, epoch)

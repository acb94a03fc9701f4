"""EachStep: what callbacks share that act after optimiser steps."""

from copy import copy
from typing import Any, ClassVar

from lightning import Callback, LightningModule, Trainer


class EachStep(Callback):
    """Hears of every optimiser step once, however many micro-batches it has, and of none again after a restart."""

    saved: ClassVar[tuple[str, ...]] = ()
    """Attributes that a checkpoint holds, so that a continued run has what one that was never stopped has."""
    _seen = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start where the checkpoint ended."""
        self._seen = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Call `after_step` where this was the last micro-batch of a step."""
        if trainer.global_step != self._seen:
            self._seen = trainer.global_step
            self.after_step(trainer, pl_module, self._seen)

    def after_step(self, trainer: Trainer, model: Any, step: int) -> None:
        """What is done after optimiser step `step`, counted from 1."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """What is saved, as plain types and tensors."""
        return {name: copy(getattr(self, name)) for name in self.saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        for name in self.saved:
            setattr(self, name, state_dict[name])


def is_due(step: int, total: int, times: int) -> bool:
    """Whether one of `times` evenly spaced moments falls on optimiser step `step` of `total`; the last ends the run."""
    return step * times // total > (step - 1) * times // total

"""The exponential average of the student's weights, evaluated in the student's place."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from ddlight.train.callbacks.each_step import EachStep


class StudentEMA(EachStep):
    """Averages the student's parameters after each optimiser step and swaps them in for evaluation.

    Buffers (BatchNorm statistics) stay the live student's, as in EDC's code (arXiv 2404.13733). Teachers are not seen.

    Deviation: EDC starts from the initial weights with a constant decay. Here step t uses
    min(decay, (1 + t) / (10 + t)), so that a short run never evaluates nearly untrained weights; at 0.99 both use the
    same decay from step 890 on.

    It is always among the Trainer's callbacks and does nothing where the recipe's decay, `ema`, is 0.
    """

    saved = ("steps", "average")

    def __init__(self) -> None:
        self.steps = 0
        self._decay = 0.0
        self.average: dict[str, Tensor] = {}
        self._live: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin at the student's weights, or go on from a checkpoint."""
        super().on_train_start(trainer, pl_module)
        model: Any = pl_module
        self._decay = model.run.plan.recipe.ema
        if not self._decay:
            return
        named = dict(model.network.named_parameters())
        if trainer.global_step == 0:
            self.steps, self.average = 0, {name: p.detach().clone() for name, p in named.items()}
        self.average = {name: value.to(named[name].device) for name, value in self.average.items()}

    @torch.no_grad()
    def after_step(self, trainer: Trainer, model: Any, step: int) -> None:
        """Move the average towards the student."""
        if not self._decay:
            return
        self.steps = step
        weight = 1 - min(self._decay, (1 + step) / (10 + step))
        live = dict(model.network.named_parameters())
        names = list(self.average)
        torch._foreach_lerp_([self.average[n] for n in names], [live[n].detach() for n in names], weight)

    @torch.no_grad()
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average into the student; keep the student's own weights aside."""
        model: Any = pl_module
        if self.steps == 0 or self._live:
            return
        for name, parameter in model.network.named_parameters():
            self._live[name] = parameter.detach().clone()
            parameter.copy_(self.average[name])

    @torch.no_grad()
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the student its own weights back."""
        model: Any = pl_module
        for name, parameter in model.network.named_parameters():
            if name in self._live:
                parameter.copy_(self._live[name])
        self._live = {}

    on_test_start, on_test_end = on_validation_start, on_validation_end


@contextmanager
def averaged(trainer: Trainer, model: LightningModule) -> Iterator[None]:
    """Put the average into the student, where the trainer keeps one, for as long as the body runs."""
    averages = [c for c in trainer.callbacks if isinstance(c, StudentEMA)]  # type: ignore[attr-defined]
    for average in averages:
        average.on_validation_start(trainer, model)
    try:
        yield
    finally:
        for average in averages:
            average.on_validation_end(trainer, model)

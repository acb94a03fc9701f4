"""Steps of AdamW on some parameters and a running average of them, that go on exactly where they were stopped."""

import logging
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ddlight.core import files
from ddlight.core.errors import DataError
from ddlight.methods.images import repeatable
from ddlight.methods.optimizers import optimizer_tensors, restore_optimizer

log = logging.getLogger("ddlight")
SAVE_SECONDS = 180.0
"""Progress is kept on disk once in this time."""
CHECK_EVERY = 50
"""Steps between two looks at whether the loss is finite; each look waits for the device."""
Averages = dict[str, Tensor]


def batch_of(step: int, batch: int, count: int, order: Callable[[int], np.ndarray]) -> np.ndarray:
    """Entries of a step's batch in the orders of the passes, laid end to end: (batch,).

    Args:
        step: its number.
        batch: entries of a step.
        count: entries of a pass.
        order: those of a pass, (count,).
    """
    places = np.arange(step * batch, (step + 1) * batch)
    return np.array([order(int(epoch))[place] for epoch, place in zip(*np.divmod(places, count), strict=True)])


@dataclass(frozen=True)
class Training:
    """How parameters are trained.

    Args:
        steps: of the optimiser.
        lr: of AdamW, without weight decay, as DiT has it.
        decay: of the average.
        warm: whether the average forgets faster at first, (1 + t) / (10 + t), so that short trainings do not keep what
            they began with.
        file: where progress is kept.
    """

    steps: int
    lr: float
    decay: float
    warm: bool
    file: Path

    def run(
        self,
        parameters: Mapping[str, nn.Parameter],
        loss: Callable[[int], Mapping[str, Tensor]],
        watch: Callable[[int, Mapping[str, Tensor], Averages, bool], None],
        carried: MutableMapping[str, Tensor],
    ) -> tuple[Averages, float]:
        """Train. Returns the averages of the parameters, and the seconds that all processes took together.

        Args:
            parameters: by name.
            loss: its terms at a step, the first of which is minimised.
            watch: told of each step: its number, the terms, the averages, and whether progress has just been kept.
            carried: what `loss` remembers from step to step, changed in place.

        Raises:
            DataError: the loss is not finite.
        """
        optimizer = torch.optim.AdamW(parameters.values(), lr=self.lr, weight_decay=0.0)
        averages = {name: p.detach().clone() for name, p in parameters.items()}
        first, before = self._restore(parameters, optimizer, averages, carried)
        begun = saved = time.perf_counter()
        with repeatable(tf32=True):
            for step in range(first, self.steps):
                terms = loss(step)
                total = next(iter(terms.values()))
                if (step % CHECK_EVERY == 0 or step + 1 == self.steps) and not total.isfinite():
                    raise DataError(f"The loss is not finite after {step} steps. Give a lower lr; it is {self.lr:g}.")
                total.backward()
                optimizer.step()
                optimizer.zero_grad()
                keep = min(self.decay, (1 + step) / (10 + step)) if self.warm else self.decay
                with torch.no_grad():
                    for name, p in parameters.items():
                        averages[name].lerp_(p, 1 - keep)
                now = time.perf_counter()
                if due := now - saved > SAVE_SECONDS:
                    self._save(step + 1, before + now - begun, parameters, optimizer, averages, carried)
                    saved = now
                watch(step, terms, averages, due)
        return averages, before + time.perf_counter() - begun

    def _save(
        self,
        step: int,
        seconds: float,
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        averages: Averages,
        carried: Mapping[str, Tensor],
    ) -> None:
        content = {
            "at": torch.tensor([step, seconds], dtype=torch.float64),
            **{f"parameter/{name}": p.detach() for name, p in parameters.items()},
            **{f"average/{name}": p for name, p in averages.items()},
            **{f"carried/{name}": p for name, p in carried.items()},
            **{f"moment/{place}": tensor for place, tensor in optimizer_tensors(optimizer).items()},
        }
        content = {name: tensor.contiguous().cpu().clone() for name, tensor in content.items()}
        files.write_bytes(self.file, files.sealed(save(content)))

    @torch.no_grad()
    def _restore(
        self,
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        averages: Averages,
        carried: MutableMapping[str, Tensor],
    ) -> tuple[int, float]:
        """Go on from what was kept: steps that are done, and seconds they took. Damaged progress begins anew."""
        if not self.file.exists():
            return 0, 0.0
        try:
            kept = load(files.unsealed(self.file.read_bytes()))
        except (DataError, SafetensorError):
            log.warning("%s is damaged: training begins anew", self.file)
            return 0, 0.0
        for kind, tensors in (("parameter", parameters), ("average", averages), ("carried", carried)):
            for name, tensor in tensors.items():
                tensor.copy_(kept[f"{kind}/{name}"])
        restore_optimizer(optimizer, kept, "moment/")
        step, seconds = kept["at"].tolist()
        log.info("training goes on after %d of %d steps", step, self.steps)
        return int(step), seconds

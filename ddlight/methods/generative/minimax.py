"""Minimax: a DiT tuned so that its guesses stay near real latents and far from its own earlier guesses; then sampled.

With x0 the clean latents that the network expects, M_c the last 64 real latents of class c and D_c the last 64 guesses:

    L_r(c)   1 - min over i, m in M_c of cos(x0_i, m)    representative: even the worst pair is near
    L_d(c)   max over i, d in D_c of cos(x0_i, d)        diverse: even the nearest pair is far
    loss     DiT's own + lambda_r mean_c L_r + lambda_d mean_c L_d
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional as F

from ddlight.core import files
from ddlight.core.artefact import Artefact, Unit, Workspace
from ddlight.core.errors import UsageError
from ddlight.core.naming import named
from ddlight.core.randomness import generator
from ddlight.data.base import RealDataset
from ddlight.methods.generative.engine import Backbone, GenerativeSynthesiser
from ddlight.methods.generative.engine.backbone import Denoiser
from ddlight.methods.generative.engine.difffit import difffit_parameters
from ddlight.methods.generative.engine.latents import mirrored, real_images
from ddlight.methods.generative.engine.schedule import LEVELS, Schedule, training_loss
from ddlight.methods.generative.engine.trained import denoiser_flops
from ddlight.methods.generative.engine.training import Training, batch_of
from ddlight.methods.scoring.cost import operations_per_second
from ddlight.methods.watch import IterationBar
from ddlight.networks.device import current_device
from ddlight.networks.flops import TRAINING

BATCH, LR, EMA, DROPOUT, MEMORY = 8, 1e-3, 0.9999, 0.1, 64
"""The code's numbers: images of a step, AdamW's rate, decay of the average, classes withheld, length of a memory."""


class Memory:
    """The last latents of each class, of which the oldest go first.

    Args:
        classes: number of classes.
        size: numbers of one image's latents.
        device: where they are kept.
    """

    def __init__(self, classes: int, size: int, device: torch.device) -> None:
        self.held = torch.zeros(classes, MEMORY, size, device=device)
        self.count = torch.zeros(classes, dtype=torch.int64)

    def push(self, label: int, latents: Tensor) -> None:
        """Remember one image's latents (D,)."""
        self.held[label, int(self.count[label]) % MEMORY] = latents
        self.count[label] += 1

    def of(self, label: int) -> Tensor:
        """What is remembered of a class, (0..64, D), in no order."""
        return self.held[label, : int(self.count[label])]


def minimax_losses(x0: Tensor, labels: Sequence[int], real: Memory, past: Memory) -> tuple[Tensor, Tensor]:
    """L_r and L_d, means over the classes of a batch; a class of which nothing is remembered counts as 0.

    Args:
        x0: guesses (B, D).
        labels: of each, as the memories count classes.
        real: real latents.
        past: earlier guesses.
    """
    near = far = x0.new_zeros(())
    classes, unit = sorted(set(labels)), F.normalize(x0, dim=1)
    for label in classes:
        own = unit[[k for k, other in enumerate(labels) if other == label]]
        if len(real.of(label)):
            near = near + 1 - (own @ F.normalize(real.of(label), dim=1).T).min()
        if len(past.of(label)):
            far = far + (own @ F.normalize(past.of(label), dim=1).T).max()
    return near / len(classes), far / len(classes)


class MinimaxTuning(Artefact):
    """Generators tuned on consecutive classes each, sealed and shared by sets of any ipc; a phase is a unit of work.

    Args:
        backbone: the generator that each phase begins with.
        dataset: whose training split it is tuned on.
        cache: folder of condensed sets; it lies in <cache>/<dataset>/minimax/<fingerprint>.
        numbers: epochs, phase, lambda_r, lambda_d and seed of `Minimax`.
    """

    kind = "tuned generator"

    def __init__(self, backbone: Backbone, dataset: RealDataset, cache: Path, numbers: Mapping[str, Any]) -> None:
        super().__init__(cache / dataset.info.name / "minimax")
        self.backbone, self.dataset, self.cache, self.numbers = backbone, dataset, cache, numbers

    def identity(self) -> dict[str, Any]:
        """Data, generator, numbers."""
        shaping = {"dataset_identity": self.dataset.identity(), "backbone": named(self.backbone)}
        return {"version": 1, **shaping, "numbers": dict(self.numbers)}

    def units(self) -> list[Unit]:
        """Phases: consecutive classes."""
        classes, size = range(self.dataset.num_classes), self.numbers["phase"]
        return [Unit(n, tuple(classes[k : k + size])) for n, k in enumerate(range(0, len(classes), size))]

    def _rows(self, unit: Unit) -> np.ndarray:
        return np.flatnonzero(np.isin(self.dataset.index("train").labels, unit.classes))

    def steps(self, unit: Unit) -> int:
        """Steps of a phase."""
        return max(1, math.ceil(self.numbers["epochs"] * len(self._rows(unit)) / BATCH))

    def make_unit(self, work: Workspace, unit: Unit) -> None:
        """Tune a phase, from where a stopped process was."""
        model = self.backbone.load(self.dataset, self.cache)
        parameters, size = difffit_parameters(model), math.prod(model.shape)
        real, past = (Memory(len(unit.classes), size, current_device()) for _ in range(2))
        carried = {"real": real.held, "real count": real.count, "past": past.held, "past count": past.count}
        title, steps = f"Minimax tunes on classes {unit.classes[0]} to {unit.classes[-1]}", self.steps(unit)
        training = Training(steps, LR, EMA, False, work.folder / f"{unit.number:06d}.progress")
        with IterationBar(title, steps, lambda images: (images + 1) / 2, work.folder) as bar:
            shown = torch.zeros(1, model.channels, 1, 1)
            loss = self._loss(model, unit, real, past)
            averages, seconds = training.run(parameters, loss, lambda t, terms, *_: bar(t, terms, shown), carried)
        files.write_json(work.folder / f"{unit.number:06d}.json", seconds)
        work.write(unit, save({name: tensor.cpu().contiguous() for name, tensor in averages.items()}))

    def _loss(self, model: Denoiser, unit: Unit, real: Memory, past: Memory) -> Callable[[int], dict[str, Tensor]]:
        """The loss of a step, which remembers the step's latents."""
        rows, labels, seed = self._rows(unit), self.dataset.index("train").labels, self.numbers["seed"]
        schedule, device, batch = Schedule(model.betas, np.arange(LEVELS)), current_device(), min(BATCH, len(rows))
        order: Callable[[int], np.ndarray] = lru_cache(2)(
            lambda epoch: generator(seed, "minimax order", unit.number, epoch).permutation(rows)
        )

        def loss(step: int) -> dict[str, Tensor]:
            chosen = batch_of(step, batch, len(rows), order)
            rng = generator(seed, "minimax step", unit.number, step)
            images = torch.cat(list(real_images(self.dataset, model, chosen, "adm")))
            images = mirrored(images, rng) if self.dataset.info.flip else images
            with torch.no_grad():
                mean, deviation = model.encode(images)
            drawn = torch.from_numpy(rng.standard_normal((2, *mean.shape), np.float32)).to(device)
            z, noise = mean + deviation * drawn[0], drawn[1]
            t = torch.from_numpy(rng.integers(LEVELS, size=len(z))).to(device)
            told = model.condition(labels[chosen].tolist())
            dropped = torch.from_numpy(rng.random(len(z)) < DROPOUT).to(device)
            x = schedule.noised(z, t, noise)
            eps, v = model(x, t, torch.where(dropped, model.null(told), told))
            assert v is not None
            x0 = schedule.clean(x, t, eps).flatten(1)
            own = [unit.classes.index(label) for label in labels[chosen].tolist()]
            near, far = minimax_losses(x0, own, real, past)
            plain = training_loss(schedule, z, t, noise, eps, v).mean()
            for k, label in enumerate(own):
                real.push(label, z[k].flatten())
                past.push(label, x0[k].detach())
            total = plain + self.numbers["lambda_r"] * near + self.numbers["lambda_d"] * far
            return {"loss": total, "denoising": plain, "representative": near, "diverse": far}

        return loss

    def collect(self, place: Path, work: Workspace) -> dict[str, Any]:
        """Put the phases' parameters into the sealed folder; what they cost."""
        for unit in self.units():
            work.link(unit, place)
        return {"seconds": sum(map(files.read_json, work.folder.glob("??????.json")))}

    def model(self, phase: int) -> Denoiser:
        """The generator of a phase, loaded."""
        model = self.backbone.load(self.dataset, self.cache)
        parameters = difffit_parameters(model)
        tuned = load((self.folder / f"{phase:06d}{self.suffix}").read_bytes())
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tuned[name])
        return model

    @property
    def images(self) -> int:
        """Images that are seen in all phases."""
        return BATCH * sum(self.steps(unit) for unit in self.units())


class Minimax(GenerativeSynthesiser):
    """Samples of a DiT that was tuned to be representative and diverse in the worst case, phase by phase of classes.

    Paper: arXiv 2311.15529, Equations 5 to 8; numbers from its scripts. The weights' average after the last step
    samples; the paper takes that of step 12,000 of about 12,900.

    Args:
        epochs: passes over the real images of a phase, eight images a step.
        phase: classes that one tuning is for; 100 at once ruin the generator.
        lambda_r: weight of representativeness.
        lambda_d: weight of diversity.
        tuning_seed: of the tuning, which sets of any seed and ipc share; null takes the set's.
    """

    tiny: ClassVar[dict[str, Any]] = {**GenerativeSynthesiser.tiny, "epochs": 0.005, "phase": 5}
    uses_real = True

    def __init__(
        self,
        *args: Any,
        epochs: float = 8.0,
        phase: int = 20,
        lambda_r: float = 0.002,
        lambda_d: float = 0.008,
        tuning_seed: int | None = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if epochs <= 0 or phase < 1:
            raise UsageError(f"epochs is above 0 and phase at least 1; given: epochs={epochs}, phase={phase}.")
        self.epochs, self.phase, self.tuning_seed = epochs, phase, tuning_seed
        self.lambda_r, self.lambda_d = lambda_r, lambda_d
        self.tuned: Callable[[int], Denoiser] = lru_cache(1)(lambda phase: self.tuning.model(phase))

    @property
    def tuning(self) -> MinimaxTuning:
        """The tuned generators."""
        numbers = {name: getattr(self, name) for name in ("epochs", "phase", "lambda_r", "lambda_d")}
        seed = self.seed if self.tuning_seed is None else self.tuning_seed
        return MinimaxTuning(self.described, self.dataset, self.place, {**numbers, "seed": seed})

    @property
    def needed(self) -> list[Artefact]:
        """The tuned generators."""
        return [self.tuning]

    def predict(self, label: int, images: Sequence[int]) -> Callable[[Tensor, int], tuple[Tensor, Tensor | None]]:
        """The generator of the class's phase, guided."""
        condition = self.condition(label, images)
        return self.tuned(label // self.phase).guided(condition, self.guidance, self.guided_channels)

    def draw(self, label: int, images: Sequence[int]) -> Tensor:
        """Plain sampling from it."""
        return self.sample(label, images)

    def estimate_seconds(self) -> float:
        """As for plain sampling, and the tuning where it is missing."""
        run = self.generator_run
        if run is None or self.tuning.exists:
            return super().estimate_seconds()
        tuning = self.epochs * self.dataset.info.train * TRAINING * run.forward_flops
        return super().estimate_seconds() + tuning / operations_per_second()

    def facts(self) -> dict[str, Any]:
        """As for plain sampling; the tuning's cost beside the generator's."""
        made, plain = self.tuning.manifest(), super().facts()
        flops = TRAINING * self.tuning.images * denoiser_flops(self.model)
        return {
            **plain,
            "tuning": made["fingerprint"],
            "scoring_seconds": plain.get("scoring_seconds", 0.0) + made["seconds"],
            "scoring_images": plain.get("scoring_images", 0) + self.tuning.images,
            "flops_scoring": plain.get("flops_scoring", 0.0) + flops,
        }

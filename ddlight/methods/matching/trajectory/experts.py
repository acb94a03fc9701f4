"""Experts: networks trained on the full data, with their weights at first and after each pass; sealed and shared.

Every method that asks for the same experts (data, space, network, recipe, length, number, seed) finds the same folder.
"""

import logging
import shutil
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, load_file, save
from torch import Tensor, nn

from ddlight.core import files
from ddlight.core.artefact import Artefact, Unit, Workspace
from ddlight.core.errors import UsageError
from ddlight.core.naming import named
from ddlight.core.randomness import generator, torch_seeded
from ddlight.data.base import RealDataset
from ddlight.methods.baselines.full import FullData
from ddlight.methods.matching.trajectory.buffer import Buffer
from ddlight.methods.matching.trajectory.flat import _FlatHardLabel
from ddlight.methods.matching.trajectory.storage import Trajectory, pack
from ddlight.methods.scoring.cost import image_flops, operations_per_second, training_facts
from ddlight.networks.device import device_options
from ddlight.networks.export import weights_file
from ddlight.networks.flops import TRAINING, build_checked
from ddlight.networks.students import Student
from ddlight.recipes.budget import Budget, images_seen
from ddlight.recipes.plan import Override, Plan, Setting
from ddlight.recipes.table import resolve
from ddlight.regimes.base import Regime, student_name
from ddlight.regimes.hard_label import HardLabel
from ddlight.sets.whitening import set_whitening
from ddlight.train.trainer import Trainer

log = logging.getLogger("ddlight")
VERSION = 1
"""Raised by hand when other weights come from the same arguments."""


@dataclass(frozen=True)
class Experts:
    """How the networks are trained whose trajectories are matched.

    Args:
        count: number of networks.
        epochs: passes over the full data; weights are kept at first and after each of them.
        protocol: recipe; see `ddlight protocols`. One that mixes images is refused.
        recipe: numbers that replace the protocol's.
        flat: train by GSAM (rho 0.01, alpha 0.3), as FTD and DATM do, in place of SGD.
        buffer: folder of MTT's replay_buffer_*.pt to read in place of training; `count` trajectories of `epochs`
            passes are taken from it.
        seed: of the networks; null takes the set's, so that another set has experts of its own.
    """

    count: int = 100
    epochs: int = 50
    protocol: str = "mtt_experts"
    recipe: Override | None = None
    flat: bool = False
    buffer: str | None = None
    seed: int | None = 0

    def __post_init__(self) -> None:
        """Check the numbers. Raises UsageError."""
        for name in ("count", "epochs"):
            if getattr(self, name) < 1:
                raise UsageError(f"experts.{name} is {getattr(self, name)}; allowed: 1 or more.")

    def identity(self) -> dict[str, Any]:
        """What names a set that asks for them: what differs from the defaults, published files by what they hold."""
        given = {f.name: named(getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != f.default}
        return given if self.buffer is None else {**given, "buffer": self.published.identity()}

    @property
    def published(self) -> Buffer:
        """The files that are read in place of training."""
        return Buffer(Path(self.buffer or "").expanduser())


class ExpertRun(Artefact):
    """Experts of a dataset: their name on disk, how they are made, their weights.

    Args:
        experts: how they are trained.
        student: the network that is trained.
        dataset: whose training split they learn.
        space: of the images they see: "normalised", or a kind of whitening.
        seed: of the set that asks, where `experts` has none.
        cache: folder of condensed sets; experts lie in <cache>/<dataset>/experts/<fingerprint>.
    """

    kind = "set of experts"
    again = "'ddlight experts'"

    def __init__(
        self, experts: Experts, student: Student, dataset: RealDataset, space: str, seed: int, cache: Path
    ) -> None:
        super().__init__(cache / dataset.info.name / "experts")
        self.experts, self.student, self.dataset, self.space, self.cache = experts, student, dataset, space, cache
        self.seed = seed if experts.seed is None else experts.seed
        self.progress = False

    @cached_property
    def plan(self) -> Plan:
        """Recipe and augmentation in explicit numbers. Raises UsageError for one that experts cannot be trained by."""
        info, how = self.dataset.info, self.experts
        setting = Setting(info.num_classes, 1, info.channels, info.flip, student_name(self.student), 1, info.size)
        plan = resolve(how.protocol, setting, how.recipe, Budget(epochs=how.epochs))
        if plan.augment.mix != "none" or plan.recipe.lr == "set" or (how.flat and plan.recipe.optimizer != "sgd"):
            raise UsageError(
                f"Experts cannot be trained by protocol {how.protocol} here: it mixes images, takes a set's learning "
                "rate, or is to be flat without sgd. Take another, such as --data.experts.protocol=mtt_experts."
            )
        return plan.over(info.train, info.train, how.recipe)

    @cached_property
    def shapes(self) -> dict[str, torch.Size]:
        """Shape of each of the network's parameters, in order: a vector of weights holds them one after another."""
        return {name: value.shape for name, value in self.network.named_parameters()}

    @cached_property
    def network(self) -> nn.Module:
        """The network, in training mode; its own weights mean nothing."""
        info = self.dataset.info
        with torch_seeded(0):
            return build_checked(self.student, self.dataset.num_classes, info.channels, info.size)

    @property
    def sizes(self) -> list[int]:
        """Number of weights of each parameter."""
        return [shape.numel() for shape in self.shapes.values()]

    def identity(self) -> dict[str, Any]:
        """Data, space, network, number, and the recipe as it is used or the files that are read."""
        how, plan = self.experts, self.plan
        recipe = [named(plan.recipe), named(plan.augment), how.flat, self.seed]
        return {
            "version": VERSION,
            "dataset_identity": self.dataset.identity(),
            "space": self.space,
            "network": named(self.student),
            "count": how.count,
            "epochs": how.epochs,
            "made_by": how.published.identity() if how.buffer else recipe,
        }

    def __str__(self) -> str:
        how = self.experts
        made = f"from {how.buffer}" if how.buffer else "flat" if how.flat else "by SGD"
        return f"{how.count} x {how.epochs} passes of {self.student} {made}, {self.space} images"

    # --- reading them ---

    def weights(self, number: int, *passes: int, device: torch.device) -> list[Tensor]:
        """Weights of an expert after so many passes, ascending: float32 (P,) each."""
        return Trajectory(self.folder / f"{number:06d}{self.suffix}", self.sizes).at(*passes, device=device)

    def parameters(self, weights: Tensor) -> dict[str, Tensor]:
        """Parameters of the network by name, views of a vector (P,), through which gradients flow."""
        parts = weights.split(self.sizes)
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    # --- making them ---

    def make(self, progress: bool = False, begin: float = 0.0) -> Path:
        """Train or read what is missing, together with any other process that does the same.

        Args:
            progress: say how far each training is.
            begin: fraction of the experts that this process skips at first.
        """
        self.progress = progress
        return self.ensure(begin)

    def units(self) -> list[Unit]:
        """The experts."""
        return [Unit(number) for number in range(self.experts.count)]

    def make_unit(self, work: Workspace, unit: Unit) -> None:
        """Train an expert on one device, or read it."""
        if self.experts.buffer is not None:
            snapshots = self.experts.published.trajectory(unit.number, self.experts.epochs, list(self.shapes.values()))
            work.write(unit, save(pack(snapshots, self.sizes)))
            return
        log.info("expert %d of %d: %s on %s", unit.number + 1, self.experts.count, self.student, self.dataset.info.name)
        run = work.folder / f"run{unit.number}"
        trainer = self._train(run, int(generator(self.seed, "expert", unit.number).integers(2**31)))
        states = (load_file(weights_file(run, epoch)) for epoch in range(self.experts.epochs + 1))
        weights = (torch.cat([state[name].flatten() for name in self.shapes]) for state in states)
        files.write_json(run.with_suffix(".json"), trainer.clock.seconds)
        work.write(unit, save(pack(weights, self.sizes)))
        shutil.rmtree(run, ignore_errors=True)

    def _train(self, run: Path, seed: int) -> Trainer:
        """Train one network from where it was stopped; its weights after each pass lie in the run's folder."""
        plan, checkpoint = self.plan, run / "last.ckpt"
        regime: type[Regime] = _FlatHardLabel if self.experts.flat else HardLabel
        model = regime(
            self.student,
            protocol=self.experts.protocol,
            recipe=Override(**plan.as_override()),
            budget=plan.budget,
            seed=seed,
            save_epochs=tuple(range(self.experts.epochs + 1)),
        )
        data = FullData(self.dataset, 1, cache=str(self.cache))
        data.whitening = set_whitening(self.space, self.dataset, self.cache)  # its images are whitened as the set's are
        trainer = Trainer(run=str(run), progress=self.progress, **device_options())
        trainer.fit(model, datamodule=data, ckpt_path=checkpoint if checkpoint.exists() else None)
        return trainer

    def collect(self, place: Path, work: Workspace) -> dict[str, Any]:
        """Put the experts into the sealed folder; how far weights are from what they were, and what it all cost."""
        error = 0.0
        for unit in self.units():
            error = max(error, load(work.read(unit))["error"].item())
            work.link(unit, place)
        return {
            "dataset": self.dataset.info.name,
            "student": {"class": type(self.student).__name__, **vars(self.student)},
            "recipe": asdict(self.plan.recipe),
            "augment": asdict(self.plan.augment),
            "storage_error": error,
            "seconds": sum(map(files.read_json, work.folder.glob("run*.json"))),
            "images_seen": self.images,
            "flops": TRAINING * self.images * image_flops(self.student, self.dataset),
        }

    # --- what they cost ---

    @property
    def images(self) -> int:
        """Images that the networks see while they train, twice where they are flat; none where they are read."""
        full, how = self.dataset.info.train, self.experts
        steps = self.plan.budget.total_steps(full, self.plan.recipe.batch, full)
        seen = images_seen(steps, full, self.plan.recipe.batch)
        return 0 if how.buffer else how.count * seen * (2 if how.flat else 1)

    def estimate_seconds(self) -> float:
        """Rough time to train them; 0 where they exist."""
        operations = TRAINING * self.images * image_flops(self.student, self.dataset)
        return 0.0 if self.exists else operations / operations_per_second()

    @property
    def bytes(self) -> int:
        """Bytes that they take on disk."""
        return self.experts.count * sum(self.sizes) * (4 + 2 * self.experts.epochs)

    def facts(self) -> dict[str, Any]:
        """What the manifest of a set says of the experts behind it."""
        return training_facts("experts", self.manifest())

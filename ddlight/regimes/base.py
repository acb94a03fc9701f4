"""What every label regime shares. A regime answers `targets(view)` and `loss(logits, targets, view)`.

A training step: the batch becomes a `View` (augmented, mixed, normalised, with both labels, mixing weight and ids), the
regime says what to match, the student answers, one loss compares. Length, learning rate and augmentation come from the
protocol, resolved in `setup` when the condensed set is known.
"""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.compiler import set_stance
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.networks import compiling
from ddlight.networks.flops import activations, build_checked
from ddlight.networks.layers import channels_together
from ddlight.networks.students import Student
from ddlight.networks.teachers import Teacher, mean_logits
from ddlight.recipes import budget as length
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override, Plan, Recipe, Setting
from ddlight.recipes.protocols.own import OWN
from ddlight.recipes.table import resolve
from ddlight.regimes.judge import Judge, Scores
from ddlight.sets.module import CondensedDataModule
from ddlight.sets.store import Steps
from ddlight.views.loader import Batch
from ddlight.views.view import View, Viewer, to_input, to_unit

log = logging.getLogger("ddlight")
Listener = Callable[[Tensor, Tensor, View], None]
"""Hears of each training step before its loss: logits (B, K) without their graph, targets, view."""


@dataclass(frozen=True)
class ResolvedRun:
    """The resolved run.

    Args:
        plan: recipe, augmentation and length, all explicit.
        images: size of the condensed set.
        full_images: size of the full training set.
        batch: global batch, not above the set's size.
        steps: optimiser steps.
        seed: of initialisation, order and augmentation.
        replay: int64 (P, 2): pass and batch that the steps visit, over and over; None visits every pass in order.
        own: batches and learning rates that were learned with the set, over and over; None has those of the plan.
    """

    plan: Plan
    images: int
    full_images: int
    batch: int
    steps: int
    seed: int
    replay: np.ndarray | None = None
    own: Steps | None = None

    @property
    def steps_per_pass(self) -> int:
        """Optimiser steps of one pass over the set."""
        return -(-self.images // self.batch)


class Regime(LightningModule):
    """A student and what it is asked to match.

    Args:
        student: the network that is trained.
        protocol: published recipe; see `ddlight protocols`.
        recipe: numbers that replace the protocol's.
        budget: length that replaces the protocol's, in one of steps, epochs, images, full_epochs.
        seed: of initialisation, order and augmentation.
        test_curve: read the test split this many times during training; 0 reads it once, at the end.
        difficulty_curve: score the set's own images this many times during training, into difficulty.csv; 0 never.
        save_epochs: also export the student after these passes over the set; 0 exports the initial student.
        compile_networks: compile the student's training steps, and teachers that label views; auto does so where the
            run is long enough to gain by it. Results then differ in their last digits.
    """

    online: ClassVar[bool] = False
    """Whether each training step asks the teachers."""

    def __init__(
        self,
        student: Student,
        protocol: str = "dcbench",
        recipe: Override | None = None,
        budget: Budget | None = None,
        seed: int = 0,
        test_curve: int = 0,
        difficulty_curve: int = 0,
        save_epochs: tuple[int, ...] = (),
        compile_networks: bool | Literal["auto"] = False,
    ) -> None:
        super().__init__()
        counts = {"seed": seed, "test_curve": test_curve, "difficulty_curve": difficulty_curve}
        if min(counts.values()) < 0:
            values = ", ".join(f"{name}={value}" for name, value in counts.items())
            raise UsageError(f"{', '.join(counts)} must be at least 0; given: {values}.")
        self.student, self.protocol, self.recipe, self.budget = student, protocol, recipe, budget
        if seed >= 2**63:
            raise UsageError(f"seed is {seed}; it lies below 2**63.")
        self.seed, self.save_epochs = seed, save_epochs
        self.test_curve, self.difficulty_curve = test_curve, difficulty_curve
        self.compile_networks, self.compiled = compile_networks, False
        self.listeners: list[Listener] = []
        self.network: nn.Module | None = None
        self.scores: dict[str, Scores] = {}
        self._judge: Judge | None = None
        self._run: ResolvedRun | None = None
        self._viewer: Viewer | None = None

    # --- what a regime answers ---

    @property
    def all_teachers(self) -> list[Teacher]:
        """The teachers, held outside module registration."""
        return []

    def view(self, batch: Batch, step: int) -> View:
        """The batch as the student sees it at this optimiser step."""
        if self._viewer is None:
            raise UsageError("A regime builds views only after setup('fit').")
        return self._viewer(batch)

    def targets(self, view: View) -> Tensor:
        """What to match on this view."""
        raise NotImplementedError

    def loss(self, logits: Tensor, targets: Tensor, view: View) -> Tensor:
        """Mean over the view's images of the distance between student and targets."""
        raise NotImplementedError

    def soft_labels(self, images: Tensor, rows: Tensor) -> Tensor | None:
        """What the teachers say of clean images of the set, at the recipe's temperature: (B, K); None without teachers.

        Of several teachers the mean of their logits; all in evaluation mode and none balanced, whatever the recipe says
        of their labels of views, so that an image's label does not depend on its neighbours.

        Args:
            images: (B, C, H, W) of the set, as it holds them.
            rows: int64 (B,): their positions in the set.
        """
        if not self.all_teachers:
            return None
        unit = to_unit(images, self.data.dataset.info, self.data.space, self.data.whitening)
        return (mean_logits(self.all_teachers, unit) / self.run.plan.recipe.temperature).softmax(1)

    # --- the run ---

    @property
    def run(self) -> ResolvedRun:
        """The resolved run. Raises UsageError before `setup`."""
        if self._run is None:
            raise UsageError("The run is not resolved yet: call setup('fit') with a data module first.")
        return self._run

    def plan(self, data: CondensedDataModule) -> Plan:
        """The protocol's explicit numbers for this data module; needs no set, no weights."""
        info = data.dataset.info
        setting = Setting(
            classes=data.dataset.num_classes,
            ipc=data.ipc,
            channels=info.channels,
            flip=info.flip,
            student=student_name(self.student),
            tile_factor=data.tile_factor,
            size=info.size,
        )
        return resolve(self.protocol, setting, self.recipe, self.budget)

    def resolve_run(self, data: CondensedDataModule, images: int, full_images: int) -> ResolvedRun:
        """Turn the plan into steps for a set of `images`.

        Raises:
            UsageError: a batch that was asked for is larger than the set, or the set has no learning rate to take.
        """
        plan = self.plan(data)
        if self.protocol == OWN:
            return self._own_run(plan, data, images, full_images)
        batch = plan.recipe.batch
        if batch > images and self.recipe is not None and self.recipe.batch is not None:
            raise UsageError(
                f"The batch of {batch} is larger than the condensed set of {images} images. "
                f"Use --model.recipe.batch={images} or less."
            )
        if batch > images:
            log.info("batch %d of protocol %s is capped at the set's %d images", batch, self.protocol, images)
        plan = plan.over(images, full_images, self.recipe)
        if plan.recipe.lr == "set":
            plan = replace(plan, recipe=replace(plan.recipe, lr=learned_lr(data)))
        batch = plan.recipe.batch
        steps = plan.budget.total_steps(images, batch, full_images)
        return ResolvedRun(plan, images, full_images, batch, steps, self.seed)

    def _own_run(self, plan: Plan, data: CondensedDataModule, images: int, full_images: int) -> ResolvedRun:
        """The training that was learned with the set, whatever batch and rate a recipe has. Raises UsageError."""
        if data.own_steps is None:
            raise UsageError(
                f"Protocol {OWN} repeats the steps that a set was learned with, and {type(data).__name__} learns none. "
                "Take another, such as --model.protocol=dcbench."
            )
        (count, batch), own = data.own_steps, data.stored.steps if data.stored else None
        recipe = replace(plan.recipe, batch=batch, lr=float(own.rates.max()) if own else "set")
        plan = replace(plan, recipe=recipe, budget=self.budget or Budget(steps=count))
        steps = plan.budget.total_steps(images, batch, full_images)
        return ResolvedRun(plan, images, full_images, batch, steps, self.seed, own=own)

    def images_seen(self, step: int) -> int:
        """Images that the student saw in `step` optimiser steps, over all ranks."""
        return length.images_seen(step, self.run.images, self.run.batch)

    def labelled_images(self) -> int:
        """Images that each teacher labels in the whole run."""
        return self.images_seen(self.run.steps)

    def label_bytes(self, run: ResolvedRun, classes: int) -> int:
        """Bytes of soft labels that the regime keeps, beside the set's own; 0 where teachers answer online."""
        return 0

    @property
    def title(self) -> str:
        """What results call the regime: its class, with the options that make it another one."""
        return type(self).__name__

    @property
    def viewer(self) -> Viewer | None:
        """What cuts this run's views, for workers that do it ahead; None where views come from elsewhere."""
        return self._viewer

    @property
    def data(self) -> CondensedDataModule:
        """The data module of this run."""
        module = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(module, CondensedDataModule):
            raise UsageError("A regime trains on a condensed set: give the trainer a ddlight data module.")
        return module

    def setup(self, stage: str) -> None:
        """Build the student, load the teachers, resolve the run."""
        data, info = self.data, self.data.dataset.info
        if self.network is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                self.network = build_checked(self.student, data.dataset.num_classes, info.channels, info.size)
        if stage != "fit":
            return
        for teacher in self.all_teachers:
            teacher.load(data.dataset.num_classes, info.channels, info.size, info.classes, info.name)
        self.check_teachers()
        stored = data.require()
        self._run = self.resolve_run(data, len(stored.images), len(data.dataset.index("train")))
        self._viewer = Viewer(
            self.run.plan.augment, info, data.space, self.run.batch, len(stored.images), self.seed, data.whitening
        )
        self._prepare_network(self.run.plan.recipe)

    def check_teachers(self) -> None:
        """Try the teachers on training images before they are asked. Raises and warns as `networks.check_teacher`."""
        self.data.check_teachers(self.all_teachers)

    def _prepare_network(self, recipe: Recipe) -> None:
        assert self.network is not None
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = recipe.bn_momentum
        if self._on_gpu and self.trainer.precision != "32-true":
            channels_together(self.network)
        self.compiled = self.compile_networks is True
        if self.compile_networks == "auto":
            info, seen = self.data.dataset.info, self.images_seen(self.run.steps)
            numbers = activations(self.network, info.channels, info.size)
            self.compiled = compiling.pays(numbers, seen, self.trainer.strategy.root_device)
        if self.compiled:
            self.network.compile()
            for teacher in self.all_teachers if self.online else []:
                teacher.compile(recipe.batch_statistics)

    @property
    def _on_gpu(self) -> bool:
        return self.trainer.strategy.root_device.type == "cuda"

    # --- steps ---

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One micro-batch. Draws inside the network depend on seed, batch and rank alone, so that resume is exact."""
        draw = generator(self.seed, "network", self.global_step, batch.rows[0])
        seed_torch(int(draw.integers(2**63)), self.device)
        view = self.view(batch, self.global_step)
        logits = self.forward(view.images)
        targets = self.targets(view)
        for listen in self.listeners:
            listen(logits.detach(), targets, view)
        return self.loss(logits, targets, view) * batch.weight

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of normalised or whitened images (B, C, H, W); compiled in training alone.

        Another program would have to be compiled to evaluate, and takes longer than most test splits.
        """
        assert self.network is not None
        with set_stance("force_eager") if self.compiled and not self.training else nullcontext():
            return self.network(images)  # type: ignore[no-any-return]

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, K) of uint8 images (B, C, H, W)."""
        return self.forward(to_input(images, self.data.dataset.info, self.data.whitening))

    def unit_images(self, images: Tensor) -> Tensor:
        """Images as a teacher takes them, in [0, 1], from images as the student takes them (B, C, H, W).

        Raises:
            UsageError: they are whitened in a way that cannot be undone.
        """
        return to_unit(images, self.data.dataset.info, "normalised", self.data.whitening)

    def on_train_start(self) -> None:
        """Refuse a trainer that would take other than the budget's steps. Raises UsageError."""
        steps = self.trainer.estimated_stepping_batches
        if steps != self.run.steps and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            raise UsageError(
                f"The trainer would take {steps:,} steps; the budget is {self.run.steps:,}, which are one epoch. Take "
                "ddlight.train.trainer.Trainer, or lightning.Trainer(max_epochs=1), and set the length by `budget`."
            )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Forget the optimiser's state at the drops of a step schedule, where the recipe says so."""
        recipe, step = self.run.plan.recipe, self.global_step
        first = batch_idx % self.trainer.accumulate_grad_batches == 0
        drops = recipe.schedule.name == "step" and self._rate(step) < self._rate(max(0, step - 1))
        if recipe.reset_momentum and first and drops:
            self.trainer.optimizers[0].state.clear()

    def _rate(self, step: int) -> float:
        if (own := self.run.own) is not None:
            return float(own.rates[step % len(own.rates)] / own.rates.max())
        return self.run.plan.recipe.schedule.at(step, self.run.steps, self.run.steps_per_pass)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser; its rate follows progress, once per optimiser step."""
        assert self.network is not None
        gradients = self.trainer.precision == "16-mixed" or self.trainer.gradient_clip_val  # that Lightning changes
        optimizer = build_optimizer(self.network, self.run.plan.recipe, fused=self._on_gpu and not gradients)
        schedule = LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # --- checkpoints ---

    def _named(self) -> dict[str, Any]:
        """What a checkpoint and the run that continues from it must have in common, by name."""
        student, content = repr(self.student), self.data.require().manifest["content_sha256"]
        teachers = [f"{teacher.name}:{teacher.fingerprint()[:12]}" for teacher in self.all_teachers]
        trainer = self.trainer
        return {
            "regime": type(self).__name__,
            "student": student,
            "teachers": teachers,
            "set": content,
            "seed": self.seed,
            "steps": self.run.steps,
            "accumulate_grad_batches": trainer.accumulate_grad_batches,
            "precision": str(trainer.precision),
            "gradient_clip_val": trainer.gradient_clip_val,
            **self.run.plan.as_override(),
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write into a checkpoint which run it belongs to."""
        checkpoint["ddlight"] = self._named()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to continue from a checkpoint of another run. Raises UsageError."""
        if self._run is None:
            return
        now, then = self._named(), checkpoint.get("ddlight", {})
        wrong = [f"{name} was {then.get(name)} and is {now[name]}" for name in now if then.get(name) != now[name]]
        if wrong:
            raise UsageError(
                f"The checkpoint in the run folder belongs to another run: {'; '.join(wrong)}. "
                "Give another --trainer.run, or --trainer.resume=false to start again there."
            )

    # --- evaluation ---

    def share_buffers(self) -> None:
        """Give every rank rank 0's BatchNorm statistics: what is tested is what is exported, one network."""
        if self.network is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, 0)

    def on_validation_epoch_start(self) -> None:
        """Begin a split."""
        self.share_buffers()
        self._judge = Judge(self.data.dataset.num_classes, self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Score a batch of a split."""
        assert self._judge is not None
        self._judge.update(self.logits(batch[0]), batch[1])

    def on_validation_epoch_end(self) -> None:
        """Log `val/acc`, `val/nll`, `val/ece` of the held-out split."""
        self._close("held_out", "val")

    on_test_epoch_start, test_step = on_validation_epoch_start, validation_step

    def on_test_epoch_end(self) -> None:
        """Log `test/acc`, `test/nll`, `test/ece`."""
        self._close("test", "test")

    def _close(self, split: str, name: str) -> None:
        assert self._judge is not None
        scores = self.scores[split] = self._judge.scores()
        values = {f"{name}/acc": scores.acc, f"{name}/nll": scores.nll, f"{name}/ece": scores.ece}
        self.log_dict(values, sync_dist=True)  # the same on all ranks; so Lightning need not warn


def learned_lr(data: CondensedDataModule) -> float | Literal["set"]:
    """The learning rate that is learned with a set, "set" before it is made. Raises UsageError where none is."""
    lr = data.learned_lr
    if lr is None:
        raise UsageError(
            f"recipe.lr is 'set', and this set of {type(data).__name__} has no learning rate of its own. Give a number "
            "(--model.recipe.lr=0.01), or null for the protocol's."
        )
    return lr


def build_optimizer(network: nn.Module, recipe: Recipe, fused: bool = False) -> Optimizer:
    """SGD, Adam or AdamW over all parameters, with or without decay of biases and norms; `fused` in one kernel."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": recipe.weight_decay if recipe.decay_1d else 0.0},
    ]
    lr = float(recipe.lr)
    if recipe.optimizer == "sgd":
        return SGD(groups, lr=lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=fused or None)
    kind = Adam if recipe.optimizer == "adam" else AdamW
    return kind(groups, lr=lr, betas=recipe.betas, fused=fused or None)


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed the generators of the CPU and of one device.

    `torch.manual_seed` also seeds all other kinds of devices, and where one of them was never used it keeps a
    formatted stack trace for later: a millisecond a call.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def student_name(student: Student) -> str:
    """Lower-case name of a student's network, as protocols look it up: the model of a zoo, else class and depth."""
    return str(getattr(student, "name", f"{type(student).__name__}{getattr(student, 'depth', '')}")).lower()

"""`--dry-run`: what a command would do, from the config, the tables and one measured step; nothing is written."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddlight.core.errors import DataError, DDLightError
from ddlight.core.result import peak_host_memory, resident_memory
from ddlight.data.table import DatasetInfo
from ddlight.networks.flops import build_checked
from ddlight.networks.teachers import Teacher
from ddlight.recipes.budget import images_seen
from ddlight.regimes.base import Regime, ResolvedRun, build_optimizer
from ddlight.sets.module import CondensedDataModule
from ddlight.views.loader import Batch, eval_batch
from ddlight.views.normalise import normalise
from ddlight.views.pixels import memory_limit
from ddlight.views.view import Viewer

PROBE_IMAGES = 16
"""Images of the largest measured step; what larger batches cost more is taken to be in proportion."""
PROBE_SECONDS = 3.0
"""No further step is measured after this long."""


@dataclass(frozen=True)
class Estimate:
    """Cost of a run on one device.

    Args:
        seconds: of training, evaluation left out.
        memory: bytes that the process grows by: network, optimiser, set, views, one step's activations, evaluation.
        disk: bytes written: student, checkpoint, stored labels.
    """

    seconds: float
    memory: int
    disk: int


@dataclass(frozen=True)
class Line:
    """Memory of a step as a line through two measured batch sizes.

    Args:
        images: the larger of them.
        bytes: taken at that size.
        slope: bytes per further image.
    """

    images: int
    bytes: int
    slope: float

    @classmethod
    def through(cls, images: Sequence[int], taken: Sequence[int]) -> "Line":
        """The line through the first and the last of some measured batch sizes, in order, and the bytes they took."""
        return cls(images[-1], taken[-1], (taken[-1] - taken[0]) / max(1, images[-1] - images[0]))

    def at(self, images: int) -> int:
        """Bytes of a step of so many images."""
        return int(self.bytes + max(0, images - self.images) * self.slope)


def estimate(run: ResolvedRun, model: Regime, data: CondensedDataModule, device: torch.device, ranks: int) -> Estimate:
    """Measure small training steps of the student and scale them to the run; loaded teachers are measured too.

    Args:
        run: resolved run.
        model: the regime; its student is built anew here.
        data: the condensed set's data module; its images are not read.
        device: where the run would go.
        ranks: processes that share each batch.
    """
    info, per_rank = data.dataset.info, -(-run.batch // ranks)
    teachers = [t for t in model.all_teachers if _loads(t, info)]
    probe = Probe(run, model, data, device, teachers)
    train, seconds, images = probe.train(min(per_rank, PROBE_IMAGES))
    memory = max(train.at(per_rank), probe.evaluation(min(eval_batch(info), info.test or PROBE_IMAGES)))
    held = run.images * info.channels * info.size**2
    memory += int(min(held, memory_limit())) + sum(_bytes(teacher.network) for teacher in teachers)
    states = 1 if run.plan.recipe.optimizer == "sgd" else 2
    disk = _bytes(probe.network) * (2 + states) + model.label_bytes(run, info.num_classes)
    return Estimate(seconds * model_images(run) / images / ranks, memory, disk)


def model_images(run: ResolvedRun) -> int:
    """Images that the student sees in the whole run."""
    return images_seen(run.steps, run.images, run.batch)


class Probe:
    """Steps of a run's own network, optimiser and views on made-up pixels.

    Args:
        run: resolved run.
        model: the regime; its student is built anew.
        data: the condensed set's data module.
        device: where the run would go.
        teachers: those that are loaded, and label each view.
    """

    def __init__(
        self, run: ResolvedRun, model: Regime, data: CondensedDataModule, device: torch.device, teachers: list[Teacher]
    ) -> None:
        info = data.dataset.info
        self.run, self.info, self.space, self.device, self.teachers = run, info, data.space, device, teachers
        self.before = _reset_peak(device)
        self.network = build_checked(model.student, info.num_classes, info.channels, info.size).to(device)
        self.optimizer = build_optimizer(self.network, replace(run.plan.recipe, lr=0.01))  # the set's may be open yet

    def train(self, most: int) -> tuple[Line, float, int]:
        """Memory of training steps, and seconds of one of so many images."""
        peaks, seconds, sizes = [], [0.0], sorted({-(-most // 2), most})
        for images in sizes:
            self._step(images)
            seconds, start = [], time.perf_counter()
            while len(seconds) < 2 and time.perf_counter() - start < PROBE_SECONDS:
                seconds.append(self._step(images))
            peaks.append(_peak(self.device) - self.before)
        return Line.through(sizes, peaks), min(seconds), most

    def _step(self, images: int) -> float:
        start = time.perf_counter()
        view = self._view(images)
        loss = self.network(view).square().mean()
        for teacher in self.teachers:
            loss = loss + teacher.logits(view).mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def _view(self, images: int) -> Tensor:
        info = self.info
        shape = (images, info.channels, info.size, info.size)
        kind = torch.uint8 if self.space == "pixel" else torch.float32
        pixels = torch.zeros(shape, dtype=kind, device=self.device)
        viewer = Viewer(self.run.plan.augment, info, self.space, images, images, 0)
        labels = torch.zeros(images, dtype=torch.long, device=self.device)
        return viewer(Batch(torch.arange(images), (0, images), 1.0, 0, 0, pixels, labels)).images

    @torch.no_grad()
    def evaluation(self, images: int) -> int:
        """Memory of evaluating so many images at once."""
        info, peaks = self.info, []
        sizes = sorted({-(-min(images, 4 * PROBE_IMAGES) // 2), min(images, 4 * PROBE_IMAGES)})
        for count in sizes:
            _reset_peak(self.device)
            pixels = torch.zeros((count, info.channels, info.size, info.size), dtype=torch.uint8, device=self.device)
            self.network(normalise(pixels, info.mean, info.std))
            peaks.append(_peak(self.device) - self.before)
        return Line.through(sizes, peaks).at(images)


def _reset_peak(device: torch.device) -> int:
    """Begin to measure the highest memory use; return what is in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return resident_memory()


def _peak(device: torch.device) -> int:
    return int(torch.cuda.max_memory_allocated()) if device.type == "cuda" else peak_host_memory()


def _bytes(network: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in network.parameters())


def _loads(teacher: Teacher, info: DatasetInfo) -> bool:
    if not teacher.at_hand():
        return False
    try:
        teacher.load(info.num_classes, info.channels, info.size, info.classes, info.name)
    except DDLightError:
        return False
    return True


def describe_run(command: str, trainer: Any, model: Regime | None, data: CondensedDataModule) -> list[str]:
    """Lines of a dry run: data, set, plan, time, memory and disk.

    Args:
        command: fit, condense, test or validate.
        trainer: the Trainer, not started.
        model: the regime; None for condense without one.
        data: the condensed set's data module.
    """
    lines = [f"dry run of '{command}': nothing is written"]
    try:
        lines += _data_lines(data)
    except DataError as error:  # a folder whose classes only its files tell
        return [*lines, f"missing   {error}"]
    images = data.expected_images
    if model is None or command != "fit" or not images:
        return lines
    run = model.resolve_run(data, images, data.dataset.info.train)
    lines += _plan_lines(run, model)
    cost = estimate(run, model, data, trainer.strategy.root_device, trainer.world_size)
    missing = _missing_teachers(model, data)
    lines += [
        f"time      about {_duration(cost.seconds)} on {trainer.world_size} x {trainer.strategy.root_device.type}",
        f"memory    about {cost.memory / 2**20:.0f} MiB beside the libraries",
        f"disk      about {cost.disk / 2**20:.1f} MiB in {trainer.run}",
    ]
    return lines + [f"missing   {text} (its time is not in the estimate)" for text in missing]


def _data_lines(data: CondensedDataModule) -> list[str]:
    info = data.dataset.info
    lines = [f"data      {info.name}: {info.num_classes} classes, {info.channels} x {info.size} x {info.size}"]
    try:
        if absent := [t for t in data.all_teachers if not t.at_hand()]:
            return [*lines, *(f"missing   {_absent(t)}" for t in absent)]
        exists = data.artefact.exists
    except DDLightError as error:
        return [*lines, f"missing   {error}"]
    state = "exists" if exists else f"to be made, about {_duration(data.estimate_seconds())}"
    if not exists and (memory := data.estimate_memory()):
        state += f" and {memory / 2**20:.0f} MiB"
    if (run := getattr(data, "generator_run", None)) is not None:
        made = "exists" if run.exists else f"to be made, about {_duration(run.estimate_seconds())}"
        lines.append(f"generator {run.how}, {run.folder}: {made}")
    if (run := getattr(data, "expert_run", None)) is not None:
        made = "exist" if run.exists else f"to be made, about {_duration(run.estimate_seconds())}"
        lines.append(f"experts   {run}, {run.folder}: {made}, {run.bytes / 2**20:.1f} MiB")
    return [*lines, f"set       {type(data).__name__}, ipc {data.ipc}, {data.folder}: {state}"]


def _plan_lines(run: ResolvedRun, model: Regime) -> list[str]:
    recipe = {k: v for k, v in run.plan.as_override().items() if v not in (None, "")}
    if run.plan.recipe.lr == "set":
        recipe["lr"] = "learned with the set"
    budget = run.plan.budget
    return [
        f"regime    {type(model).__name__}, protocol {model.protocol}",
        f"student   {model.student}",
        f"teachers  {', '.join(t.name for t in model.all_teachers) or 'none'}",
        f"recipe    {', '.join(f'{k} {v}' for k, v in recipe.items())}",
        f"budget    {budget.asked:g} {budget.unit}: {run.steps} steps of {run.batch} images, "
        f"{model_images(run):,} images seen",
    ]


def _missing_teachers(model: Regime, data: CondensedDataModule) -> list[str]:
    info, missing = data.dataset.info, []
    for teacher in model.all_teachers:
        if not teacher.at_hand():
            missing.append(_absent(teacher))
            continue
        try:
            teacher.load(info.num_classes, info.channels, info.size, info.classes, info.name)
        except DDLightError as error:
            missing.append(f"teacher {teacher.name}: {str(error).splitlines()[0]}")
    return missing


def _absent(teacher: Teacher) -> str:
    return f"teacher {teacher.name}: its weights are not on this machine yet; 'fit' downloads them"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

"""`--dry-run`: what a command would do, from the config, the tables and one measured step; nothing is written."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddlight.budget import images_seen
from ddlight.errors import DataError, DDLightError
from ddlight.methods.base import CondensedDataModule
from ddlight.models.flops import build_checked
from ddlight.models.teachers import Teacher
from ddlight.regimes.base import Regime, Run, build_optimizer

PROBE_IMAGES = 8
"""Images of the measured step; larger batches are taken to cost in proportion."""
PROBE_SECONDS = 3.0
"""No further step is measured after this long."""


@dataclass(frozen=True)
class Estimate:
    """Cost of a run on one device.

    Args:
        seconds: of training, evaluation left out.
        memory: bytes of weights, optimiser state, the set and one step's activations.
        disk: bytes written: student, checkpoint.
    """

    seconds: float
    memory: int
    disk: int


def estimate(run: Run, model: Regime, data: CondensedDataModule, device: torch.device, ranks: int) -> Estimate:
    """Measure one small training step of the student and scale it to the run; loaded teachers are measured too.

    Args:
        run: resolved run.
        model: the regime; its student is built anew here.
        data: the condensed set's data module; its images are not read.
        device: where the run would go.
        ranks: processes that share each batch.
    """
    info, images = data.dataset.info, PROBE_IMAGES
    network = build_checked(model.student, info.num_classes, info.channels, info.size).to(device)
    x = torch.randn(images, info.channels, info.size, info.size, device=device)
    seconds, saved = _step(network, x, model, run)
    for teacher in model.all_teachers:
        seconds += _teacher_seconds(teacher, x, info.num_classes)
    weights = _bytes(network)
    states = 1 if run.plan.recipe.optimizer == "sgd" else 2
    held = run.images * info.channels * info.size**2
    per_rank = -(-run.batch // ranks)
    memory = weights * (2 + states) + held + saved * per_rank // images
    memory += sum(_bytes(teacher.network) for teacher in model.all_teachers if _loads(teacher, x, info.num_classes))
    seen = model_images(run)
    disk = weights * (2 + states) + model.label_bytes(run, info.num_classes)
    return Estimate(seconds * seen / images / ranks, memory, disk)


def model_images(run: Run) -> int:
    """Images that the student sees in the whole run."""
    return images_seen(run.steps, run.images, run.batch)


def _step(network: nn.Module, x: Tensor, model: Regime, run: Run) -> tuple[float, int]:
    optimizer = build_optimizer(network, run.plan.recipe)
    seconds: list[float] = []
    weights = {p.data_ptr() for p in network.parameters()}
    saved: dict[int, int] = {}  # of the first step: later ones use the same addresses for other tensors

    def pack(tensor: Tensor) -> Tensor:
        if not seconds and tensor.data_ptr() not in weights:
            saved[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    while len(seconds) < 3 and sum(seconds) < PROBE_SECONDS:
        start = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            loss = network(x).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if x.is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds), sum(saved.values())


def _bytes(network: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in network.parameters())


def _loads(teacher: Teacher, x: Tensor, classes: int) -> bool:
    if not teacher.at_hand():
        return False
    try:
        teacher.load(classes, x.shape[1], x.shape[2])
    except DDLightError:
        return False
    return True


def _teacher_seconds(teacher: Teacher, x: Tensor, classes: int) -> float:
    if not _loads(teacher, x, classes):
        return 0.0
    teacher.logits(x)
    start = time.perf_counter()
    teacher.logits(x)
    return time.perf_counter() - start


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
        exists = (data.folder / "manifest.json").exists()
    except DDLightError as error:
        return [*lines, f"missing   {error}"]
    state = "exists" if exists else f"to be made, about {_duration(data.estimate_seconds())}"
    return [*lines, f"set       {type(data).__name__}, ipc {data.ipc}, {data.folder}: {state}"]


def _plan_lines(run: Run, model: Regime) -> list[str]:
    recipe = {k: v for k, v in run.plan.as_override().items() if v not in (None, "")}
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
            missing.append(f"teacher {teacher.name}: its weights are not on this machine yet; 'fit' downloads them")
            continue
        try:
            teacher.load(info.num_classes, info.channels, info.size)
        except DDLightError as error:
            missing.append(f"teacher {teacher.name}: {str(error).splitlines()[0]}")
    return missing


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

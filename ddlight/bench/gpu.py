"""Training steps on a GPU: what the host waits for, and what ddlight adds to a bare step. Never run on a GPU yet."""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional as F

from ddlight.bench.timing import WALL, Measure, interleaved, measured, seconds_of
from ddlight.bench.train import CROPS, FULL, QUICK, RECIPE, Size, stepper
from ddlight.core.errors import UsageError
from ddlight.data.digits import Digits
from ddlight.methods.baselines.random import Random
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.hard_label import HardLabel

STEPS, BATCH = 20, 100
NEVER = "never run on a GPU"


def measure(folder: Path, quick: bool, rounds: int) -> Iterator[Measure]:
    """Goals of a step of ResNet-18 at 224 pixels in bf16. Raises UsageError without a GPU."""
    if not torch.cuda.is_available():
        raise UsageError("bench gpu needs a CUDA device; 'ddlight doctor' says what torch finds.")
    size = QUICK if quick else Size(FULL.student, FULL.others, FULL.pixels, BATCH)
    ours, bare = steps(folder, size, "cuda")
    for step in (ours, bare) * 3:
        step()
    yield Measure("P30", f"host waits of a training step ({NEVER})", 0, waits(ours), most=True)
    works = {"ours": partial(finished, ours), "bare": partial(finished, bare)}
    seconds = interleaved({name: partial(seconds_of, work, WALL) for name, work in works.items()}, rounds)
    what = f"a step with crops, flips and CutMix / a bare one on ready images ({NEVER})"
    yield measured("P31", what, 1.1, seconds["ours"], seconds["bare"], most=True)


def steps(folder: Path, size: Size, device: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """A training step of ddlight in bf16, and a bare one: one batch on the device, channels together, fused AdamW."""
    data = Random(Digits(size=size.pixels), ipc=size.batch // 2, cache=str(folder / "cache"))
    recipe = Override(batch=size.batch, **RECIPE, **CROPS)
    model = HardLabel(size.student, "rethinkdc_hard", recipe=recipe, budget=Budget(steps=10**6))
    ours = stepper(model, data, folder / "run", {"cuda": "gpu"}.get(device, device), "bf16-mixed")
    network = size.student.build(10, 1, size.pixels).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(size.batch, 1, size.pixels, size.pixels, device=device)
    labels = torch.randint(10, (size.batch,), device=device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01, fused=True)

    def bare() -> None:
        with torch.autocast(device, torch.bfloat16):
            loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return ours, bare


def waits(step: Callable[[], None]) -> float:
    """How often a step makes the host wait for the device, as torch counts it: the mean of several."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for _ in range(STEPS):
                step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in said) / STEPS


def finished(step: Callable[[], None]) -> None:
    """Some steps, up to the last one's end on the device."""
    for _ in range(STEPS):
        step()
    torch.cuda.synchronize()

"""Where networks answer and are trained outside the run's own loop, and in which number format they are fast there."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from torch import nn

from ddlight.core import files, naming
from ddlight.core.errors import DataError
from ddlight.core.randomness import torch_seeded
from ddlight.core.system import processor

log = logging.getLogger("ddlight")
_CHOSEN: ContextVar[torch.device | None] = ContextVar("device", default=None)
ROUNDS = 5
"""Of the probe; the fastest of each format counts."""


@contextmanager
def on_device(device: torch.device) -> Iterator[None]:
    """Let `current_device` be a Trainer's device within; one that is neither a CPU nor CUDA's changes nothing."""
    token = _CHOSEN.set(device if device.type in ("cpu", "cuda") else _CHOSEN.get())
    try:
        yield
    finally:
        _CHOSEN.reset(token)


def current_device() -> torch.device:
    """The device of `on_device`; outside it this process's GPU where there is one, else the CPU."""
    return _CHOSEN.get() or torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_options() -> dict[str, Any]:
    """Options of a Trainer that takes one device: that of `on_device`; outside it Lightning's first choice."""
    chosen = _CHOSEN.get()
    if chosen is None:
        return {"accelerator": "auto", "devices": 1}
    return {"accelerator": chosen.type, "devices": 1 if chosen.index is None else [chosen.index]}


# --- number formats ---


@cache
def bf16_speed() -> float:
    """How many times as fast as in fp32 a convolution is trained in bf16 on this processor: below 1 without bf16 units.

    Measured once for a processor and a torch, in one thread and about 40 ms; later processes read it from the cache, so
    that what rests on it does not change from run to run.
    """
    facts = {"processor": processor(), "torch": torch.__version__, "isa": os.environ.get("ONEDNN_MAX_CPU_ISA", "")}
    path = files.cache_folder() / "machine" / f"{naming.digest(facts)}.json"
    with suppress(DataError, KeyError, TypeError):
        return float(files.read_json(path)["bf16_speed"])
    speed = _measured_bf16_speed()
    with suppress(DataError, OSError):
        files.write_json(path, {**facts, "bf16_speed": speed})
    return speed


@torch.inference_mode(False)
@torch.enable_grad()
def _measured_bf16_speed() -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    try:
        with torch_seeded(0):
            layer, images = nn.Conv2d(64, 64, 3, padding=1), torch.zeros(4, 64, 16, 16, requires_grad=True)
        for half in [False, True] * ROUNDS:
            start = time.thread_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                answer = layer(images)
            answer.float().sum().backward()
            seconds[half].append(time.thread_time() - start)
    finally:
        torch.set_num_threads(threads)
    return min(seconds[False]) / max(min(seconds[True]), 1e-9)


def number_format(asked: str, half: str, full: str, kind: str, what: str) -> str:
    """The number format that is meant: "auto" is `half` where bf16 is fast and `full` elsewhere, which is said once.

    `half` that is asked for where it is slow is warned of.

    Args:
        asked: `half`, `full`, "auto" or another one, which comes back.
        half: what bf16 is called.
        full: what float32 is called.
        kind: of the device: cpu, cuda or another, of which nothing is known.
        what: whose format it is, such as "trainer.precision".
    """
    if asked not in ("auto", half):
        return asked
    if kind == "cpu":
        fast, reason = bf16_speed() > 1, f"bf16 is {bf16_speed():.2g} times as fast as fp32 on this processor"
    elif kind == "cuda":
        fast, reason = torch.cuda.is_bf16_supported(including_emulation=False), "this GPU has no bf16 units"
    else:
        fast, reason = asked == half, f"nothing is known of bf16 on {kind}"
    if fast:
        return half
    if asked == half:
        _say(logging.WARNING, f"{what} is {half}, and {reason}: give {full}, or auto, which looks")
        return half
    _say(logging.INFO, f"{what} auto is {full} here: {reason}")
    return full


@cache
def _say(level: int, text: str) -> None:
    log.log(level, "%s", text)

"""Where networks answer and are trained outside the run's own loop: while sets, teachers and scores are made."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

_CHOSEN: ContextVar[torch.device | None] = ContextVar("device", default=None)


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

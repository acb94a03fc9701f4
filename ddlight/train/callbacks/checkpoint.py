"""Checkpoints that a run can be continued from exactly, and signals that end it only after one is saved."""

import io
import logging
import os
import pickle
import signal
import struct
import subprocess
import threading
import zipfile
import zlib
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from ddlight.core import files
from ddlight.core.errors import STOPPED, DataError
from ddlight.train.callbacks.curve import Curve
from ddlight.train.callbacks.each_step import EachStep

log = logging.getLogger("ddlight")
UNREADABLE = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError),
    *(struct.error, zlib.error, zipfile.BadZipFile, pickle.UnpicklingError),
)
"""What reading a damaged file of torch or zip may raise."""


class RunCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint through to the disk, and reads one only after comparing all of it with its checksums.

    torch puts a CRC-32 beside every record of the file that it writes, and does not look at it when it reads.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write the file where it is to lie: no copy is made in the system's temporary folder first.

        torch's writer, on a file, turns 'no space left' into an error of its own: so it writes into memory.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """Check and read the file. Raises DataError where it is damaged."""
        try:
            with zipfile.ZipFile(path) as records:
                damaged = records.testzip()
            if damaged is None:
                return super().load_checkpoint(path, map_location, weights_only)
            problem = f"the checksum of {damaged} is another"
        except UNREADABLE as error:
            problem = type(error).__name__
        raise DataError(
            f"The checkpoint {path} is damaged ({problem}), so that the run cannot be continued from it. Remove it, or "
            "give --trainer.resume=false, and run the same command again: the run starts again from its first step."
        )


class RunCheckpoint(EachStep, Checkpoint):
    """Keeps `last.ckpt` in the run folder, and saves it when SIGTERM or SIGUSR1 arrives.

    Lightning's own handler runs collectives inside the signal handler and can deadlock; here the handler sets a flag,
    the ranks agree on it at an optimiser step, all of them save that step, and the process exits with 143. SIGUSR1 is
    SLURM's warning before the end of the time: under SLURM the job is put back into the queue as well.

    Args:
        folder: run folder.
        every: fraction of the run between two checkpoints; 0 saves only on a signal.
    """

    def __init__(self, folder: Path, every: float = 0.1) -> None:
        self.folder, self.every = folder, every
        self.signalled: int | None = None
        self._previous: dict[int, Any] = {}

    @property
    def path(self) -> Path:
        """The checkpoint."""
        return self.folder / "last.ckpt"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over from Lightning; a run inside another thread hears none."""
        super().on_train_start(trainer, pl_module)
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGUSR1):
            self._previous[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signalled = number

    def after_step(self, trainer: Trainer, model: Any, step: int) -> None:
        """Save where a checkpoint is due; save and exit where a signal came."""
        total = int(trainer.estimated_stepping_batches)
        stop = self.signalled is not None
        if trainer.world_size > 1:
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        period = max(1, round(self.every * total)) if self.every else 0
        if stop or (period and step % period == 0 and step < total):
            self.save(trainer)
        if not stop:
            return
        warned = self.signalled == signal.SIGUSR1
        if trainer.world_size > 1:  # SLURM's warning may have reached another rank first
            warned = trainer.strategy.reduce_boolean_decision(warned, all=False)
        if warned and trainer.is_global_zero and "SLURM_JOB_ID" in os.environ:
            requeue(os.environ["SLURM_JOB_ID"])
        raise SystemExit(STOPPED)

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint under another name and rename it: a reader never sees half of one.

        Raises:
            DataError: the disk is full; the checkpoint before stays.
            TrainingError: the loss is not a number any more; the checkpoint before stays.
        """
        for curve in (c for c in trainer.callbacks if isinstance(c, Curve)):  # type: ignore[attr-defined]
            curve.check(trainer)
        part = self.path.with_suffix(".part")
        try:
            trainer.save_checkpoint(part)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise files.explain(error, self.path) from error
        if trainer.is_global_zero:
            part.replace(self.path)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self.on_train_end(trainer, pl_module)


def requeue(job: str) -> None:
    """Put a SLURM job back into the queue, or say that this failed."""
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
        problem = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        problem = str(error)
    if problem:
        log.warning("job %s could not be put back into the queue: %s. Submit it again: it continues.", job, problem)

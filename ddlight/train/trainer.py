"""The Trainer: Lightning's, with `condense` beside `fit` and `test`, a run folder, and a budget in place of epochs."""

import ctypes
import logging
import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any, Literal, get_args

import lightning
import torch
from lightning import Callback, LightningModule
from lightning.fabric import Fabric
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import Strategy

from ddlight.core.errors import STOPPED, UsageError
from ddlight.networks.device import number_format, on_device
from ddlight.sets.hand_out import hand_out
from ddlight.sets.module import CondensedDataModule
from ddlight.train.callbacks.checkpoint import RunCheckpoint, RunCheckpointIO
from ddlight.train.callbacks.curve import Curve
from ddlight.train.callbacks.difficulty import Difficulty
from ddlight.train.callbacks.ema import StudentEMA
from ddlight.train.callbacks.export import Export
from ddlight.train.callbacks.progress import RunBar, TrainingClock
from ddlight.train.callbacks.test_curve import TestCurve

log = logging.getLogger("ddlight")
MANY_PROCESSES = 32
"""More processes than this on each core are taken for a slip."""
Precision = Literal["32-true", "16-mixed", "bf16-mixed", "auto"]


class Trainer(lightning.Trainer):
    """Lightning's Trainer for runs of a given budget.

    The whole run is one Lightning epoch; its length is the regime's budget. The options of Lightning's Trainer that
    would say otherwise (max_epochs, max_steps, max_time) do not exist here.

    Args:
        run: run folder: config.yaml, metrics.csv, last.ckpt while it runs, student.safetensors and result.json; and
            test_curve.csv and difficulty.csv where the regime asks for them.
            null: `ddlight` chooses runs/<config>/seed<seed>-<hash>; in Python runs/run.
        checkpoint_every: fraction of the run between two checkpoints; 0 saves only on SIGTERM or SIGUSR1.
        resume: continue from the run folder's last.ckpt where there is one.
        progress: show the bar.
        accelerator: as Lightning's.
        strategy: as Lightning's.
        devices: as Lightning's.
        num_nodes: as Lightning's.
        precision: as Lightning's, without "bf16-true" and "64-true": they change torch's default type, and with it
            views, teachers and scores. "auto" becomes bf16-mixed where that is fast, else 32-true.
        logger: loggers beside metrics.csv.
        callbacks: callbacks beside ddlight's own.
        accumulate_grad_batches: micro-batches per optimiser step; the protocol's batch is what a step sees in all.
        gradient_clip_val: as Lightning's.
        deterministic: as Lightning's.
        sync_batchnorm: as Lightning's.
        benchmark: on a GPU let cuDNN try its algorithms on every shape and keep the fastest, as Lightning's; two runs
            may then differ in their last digits.
    """

    def __init__(
        self,
        run: str | None = None,
        checkpoint_every: float = 0.1,
        resume: bool = True,
        progress: bool = True,
        accelerator: str | Accelerator = "auto",
        strategy: str | Strategy = "auto",
        devices: int | str | list[int] = "auto",
        num_nodes: int = 1,
        precision: Precision = "32-true",
        logger: list[Logger] | Logger | bool = False,
        callbacks: list[Callback] | None = None,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: float | None = None,
        deterministic: bool | Literal["warn"] | None = None,
        sync_batchnorm: bool = False,
        benchmark: bool = False,
    ) -> None:
        if precision not in get_args(Precision):
            raise UsageError(
                f"precision is {precision!r}; allowed: {', '.join(get_args(Precision))}. For example "
                "--trainer.precision=bf16-mixed"
            )
        kind = accelerator if isinstance(accelerator, str) else accelerator.name()  # type: ignore[attr-defined]
        if kind in ("auto", "gpu"):
            kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        count, most = int(str(devices)) if str(devices).isdecimal() else 1, MANY_PROCESSES * (os.cpu_count() or 1)
        if kind == "cpu" and count > most:
            raise UsageError(f"devices is {devices}, processes on {os.cpu_count()} cores. Allowed: 1 to {most}.")
        precision = number_format(precision, "bf16-mixed", "32-true", kind, "trainer.precision")  # type: ignore[assignment]
        keep_big_blocks()
        self.run, self.resume, self.clock, self.evaluate_seconds = Path(run or "runs/run"), resume, TrainingClock(), 0.0
        folder = self.run
        every_runs = [self.clock, StudentEMA(), Curve(folder), TestCurve(folder), Difficulty(folder), Export(folder)]
        self.machine: dict[str, Any] = {
            "accelerator": accelerator,
            "strategy": strategy,
            "devices": devices,
            "num_nodes": num_nodes,
            "precision": precision,
            "accumulate_grad_batches": accumulate_grad_batches,
            "gradient_clip_val": gradient_clip_val,
            "deterministic": deterministic,
            "sync_batchnorm": sync_batchnorm,
            "benchmark": benchmark,
        }
        super().__init__(
            **self.machine,
            logger=logger,
            callbacks=[
                *([RunBar()] if progress else []),
                *every_runs,  # in the order in which they are called
                *(callbacks or []),
                RunCheckpoint(folder, checkpoint_every),
            ],
            max_epochs=1,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            enable_progress_bar=progress,
            use_distributed_sampler=False,
            default_root_dir=self.run,
            plugins=[RunCheckpointIO()],
        )

    def fit_run(self, model: Any, datamodule: CondensedDataModule) -> None:
        """Fit from the run folder's checkpoint, or from the start, and read the test split once."""
        datamodule.progress = self.progress_bar_callback is not None
        with on_device(self.strategy.root_device):
            datamodule.prepare_fit()
            checkpoint = self.run / "last.ckpt"
            again = self.resume and checkpoint.exists()
            if again:
                log.info("continuing from %s", checkpoint)
            self.fit(model, datamodule=datamodule, ckpt_path=checkpoint if again else None)
            start = time.perf_counter()
            if "held_out" not in model.scores and len(datamodule.dataset.index("held_out")):
                self.validate(model, datamodule=datamodule, verbose=False)  # skipped in a run stopped at its end
            self.test(model, datamodule=datamodule, verbose=False)
            self.evaluate_seconds = time.perf_counter() - start

    def score(
        self,
        model: LightningModule | None = None,
        datamodule: CondensedDataModule | None = None,
        csv: str | None = None,
    ) -> None:
        """Train the scoring runs that the data module's method needs, on all devices; resumable.

        Args:
            model: not used; the command takes the same YAML as `fit`.
            datamodule: the method.
            csv: file to export the scores to: a line an image, a column a statistic.
        """
        runs: list[Any] = getattr(datamodule, "scoring_runs", [])
        if not runs:
            raise UsageError(f"{type(datamodule).__name__} needs no scoring run. 'ddlight methods' lists methods.")
        missing, ranks = [run for run in runs if not run.exists], self.num_devices * self.num_nodes
        if len(missing) > 1 and ranks > 1:
            raise UsageError(
                f"{len(missing)} scoring runs are missing, and several devices make one at a time. Take one device "
                "(--trainer.devices=1 --trainer.num_nodes=1)."
            )
        for run in missing:
            run.make(self.alike, ranks)
        if self.is_global_zero:
            log.info("%s", "\n".join(f"scores: {run.folder}" for run in runs))
            if csv is not None:
                runs[0].table().write_csv(Path(csv))

    def generator(self, model: LightningModule | None = None, datamodule: CondensedDataModule | None = None) -> None:
        """Train the generator that the data module's method samples from, on one device; resumable.

        Args:
            model: not used; the command takes the same YAML as `fit`.
            datamodule: the method.
        """
        run: Any = getattr(datamodule, "generator_run", None)
        if run is None:
            raise UsageError(
                f"{type(datamodule).__name__} samples from no generator that is trained here. "
                "Take --data=DiT with --data.backbone=TrainedDiT."
            )
        with on_device(self.strategy.root_device):
            log.info("generator: %s", run.ensure())

    def experts(self, model: LightningModule | None = None, datamodule: CondensedDataModule | None = None) -> None:
        """Train the experts whose trajectories the data module's method matches, spread over devices and nodes.

        Args:
            model: not used; the command takes the same YAML as `fit`.
            datamodule: the method.
        """
        run: Any = getattr(datamodule, "expert_run", None)
        if run is None:
            raise UsageError(f"{type(datamodule).__name__} matches no experts; MTT, TESLA, DATM and SelMatch do.")
        fabric = self._launched()
        with on_device(fabric.device):
            progress = fabric.is_global_zero and self.progress_bar_callback is not None
            run.make(progress, fabric.global_rank / fabric.world_size)
        if fabric.is_global_zero:
            log.info("experts: %s", run.folder)

    def _launched(self) -> Fabric:
        """Processes on all devices, which share units of work and do not wait for each other."""
        devices = self.num_devices
        fabric = Fabric(
            accelerator=self.accelerator.name(),  # type: ignore[attr-defined]
            devices=devices,
            num_nodes=self.num_nodes,
            strategy="ddp" if devices * self.num_nodes > 1 else "auto",
        )
        fabric.launch()
        _pass_on_sigterm(fabric)
        return fabric

    def alike(self, run: str, callbacks: list[Callback]) -> "Trainer":
        """A Trainer on the same devices for another run folder, with these callbacks and without the loggers."""
        return Trainer(run=run, callbacks=callbacks, progress=self.progress_bar_callback is not None, **self.machine)

    def condense(
        self,
        model: LightningModule | None = None,
        datamodule: CondensedDataModule | None = None,
        files: str | None = None,
        copy: bool = False,
    ) -> None:
        """Make the data module's condensed set, its units spread over devices and nodes; resumable, no barrier.

        Args:
            model: not used; the command takes the same YAML as `fit`.
            datamodule: the method.
            files: folder to fill with links to the chosen image files, in class folders.
            copy: copy the files there instead of linking them.
        """
        if datamodule is None:
            raise UsageError("There is nothing to condense: give --data, for example --data=Random.")
        datamodule.progress = self.progress_bar_callback is not None
        with on_device(self.strategy.root_device):
            datamodule.prepare()
        fabric = self._launched()
        with on_device(fabric.device):
            datamodule.condense(fabric.global_rank, fabric.world_size)
        if fabric.is_global_zero:
            log.info("condensed set: %s", datamodule.folder)
            if files is not None:
                log.info("%d files in %s", hand_out(datamodule, Path(files), copy), files)


def _pass_on_sigterm(fabric: Fabric) -> None:
    """Fabric's launcher forwards no signal: end the other ranks with this one."""
    processes = getattr(fabric.strategy.launcher, "procs", [])

    def stop(number: int, frame: FrameType | None) -> None:
        for process in processes:
            process.terminate()
        raise SystemExit(STOPPED)

    signal.signal(signal.SIGTERM, stop)


def keep_big_blocks() -> None:
    """Tell glibc to keep large freed blocks: fresh ones are page-faulted again at each step. Nothing elsewhere."""
    if torch.cuda.is_available() or os.uname().sysname != "Linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 256 * 2**20)):
        mallopt(option, value)

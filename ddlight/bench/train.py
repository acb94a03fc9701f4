"""Training: what ddlight's Trainer adds to a bare loop on tensors, and what a run writes."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch.nn import functional as F

from ddlight.bench import steps
from ddlight.bench.timing import THREAD, Measure, interleaved, measured, one_thread
from ddlight.data.digits import Digits
from ddlight.methods.baselines.random import Random
from ddlight.networks.students import MLP, ConvNet, ResNet, Student
from ddlight.recipes.budget import Budget
from ddlight.regimes.hard_label import HardLabel
from ddlight.train.trainer import Trainer as RunTrainer
from ddlight.views.normalise import normalise

ALONE: dict[str, Any] = {"resume": False, "progress": False, "accelerator": "cpu", "devices": 1}
"""Options of the runs' Trainer."""
WARM = 2
"""Steps of a run before its clock starts."""
EPOCHS = 300
"""Of the published runs."""


def measure(folder: Path, quick: bool, rounds: int) -> Iterator[Measure]:
    """Goals of training: label regimes, Lightning's cost per step and per epoch, bytes written.

    Times are CPU time of one thread, which other work on the machine changes little.
    """
    linear, few = MLP(depth=1), 12 if quick else 500
    wide, narrow = (ConvNet(1, 4), ConvNet(1, 4)) if quick else (ConvNet(3, 128), ConvNet(3, 32))
    loops = [
        Loop("P10", "a step of 256 images, linear: ddlight's Trainer / bare loop", 2.0, linear, 128, few),
        Loop("P11", "the same, ConvNet-D3 of width 32", 1.05, narrow, 128, 12 if quick else 20),
        Loop("P12", "an epoch of 100 images, linear: ddlight's Trainer / bare loop", 5.0, linear, 10, few),
        Loop("P13", "the same, ConvNet-D3 of width 128", 1.05, wide, 10, 12 if quick else 10),
    ]
    yield from steps.measure(folder, quick, rounds)
    yield from (_overhead(loop, folder, rounds) for loop in loops)
    yield from _bytes(folder, ConvNet(1, 4) if quick else ResNet(18, stem="imagenet"), 12 if quick else 100)


@dataclass(frozen=True)
class Loop:
    """A run and the bare loop that it is compared with: a student, images per class, steps of at most 256 images."""

    id: str
    what: str
    goal: float
    student: Student
    ipc: int
    steps: int

    def run(self, folder: Path) -> float:
        """CPU seconds of the steps of one run, with all that a run does between them."""
        watch = Stopwatch()
        trainer = RunTrainer(run=str(folder / "run"), callbacks=[watch], **ALONE)
        trainer.fit(HardLabel(self.student, budget=Budget(steps=self.steps)), datamodule=self.data(folder))
        return watch.ended - watch.started

    def bare(self, folder: Path) -> float:
        """CPU seconds of as many steps of a loop on tensors: shuffle, index, train; normalised once, before."""
        data = self.data(folder)
        data.setup("fit")
        info, stored = data.dataset.info, data.require()
        images = normalise(torch.tensor(stored.images), info.mean, info.std)
        labels, done, start = torch.tensor(stored.labels), 0, 0.0
        network = self.student.build(info.num_classes, info.channels, info.size)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        while True:
            for rows in torch.randperm(len(images)).split(256):
                optimizer.zero_grad()
                F.cross_entropy(network(images[rows]), labels[rows]).backward()
                optimizer.step()
                done += 1
                if done == WARM:
                    start = THREAD()
                if done == self.steps:
                    return THREAD() - start

    def data(self, folder: Path) -> Random:
        """The set of both."""
        return Random(Digits(), ipc=self.ipc, cache=str(folder / "cache"))


class Stopwatch(Callback):
    """Notes the thread's CPU time when the first steps of a run were over, and when the last one was."""

    def __init__(self) -> None:
        self.started, self.ended = 0.0, 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read the clock where it is time."""
        if trainer.global_step == WARM:
            self.started = THREAD()
        if trainer.global_step == trainer.estimated_stepping_batches:
            self.ended = THREAD()


def _overhead(loop: Loop, folder: Path, rounds: int) -> Measure:
    with one_thread():
        seconds = interleaved({"run": partial(loop.run, folder), "bare": partial(loop.bare, folder)}, rounds)
    return measured(loop.id, loop.what, loop.goal, seconds["run"], seconds["bare"], most=True)


def written() -> int:
    """Bytes that this process has written so far; Linux counts them."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


def _bytes(folder: Path, student: Student, steps: int) -> list[Measure]:
    """Bytes that a reference with a checkpoint each epoch writes, over those that a whole run of ddlight writes.

    A run of ddlight writes as much whatever its length: nine checkpoints, a curve of a hundred points, the student. So
    a shorter one stands for one of EPOCHS.
    """
    if not Path("/proc/self/io").exists():
        return []
    network = student.build(10, 1, 32)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    network(torch.randn(2, 1, 32, 32)).sum().backward()
    optimizer.step()
    one = io.BytesIO()
    torch.save({"state_dict": network.state_dict(), "optimizer": optimizer.state_dict()}, one)
    reference = one.tell() * EPOCHS

    def run(every: float) -> int:
        trainer = RunTrainer(run=str(folder / "bytes"), checkpoint_every=every, **ALONE)
        before = written()
        data = Random(Digits(), ipc=1, cache=str(folder / "cache"))
        trainer.fit_run(HardLabel(student, budget=Budget(steps=steps)), data)
        return written() - before

    what = f"bytes of {EPOCHS} checkpoints with the optimiser / of a run of as many epochs, "
    return [
        Measure("P24", f"{what}continued from any tenth", 300, reference / run(0.1)),
        Measure("P24b", f"{what}checkpoint_every: 0", 300, reference / run(0.0)),
    ]

"""Training: what labels cost a student that trains on them, what ddlight's Trainer adds to a loop, bytes written."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F

from ddlight.bench.timing import THREAD, Measure, interleaved, measured, one_thread, ratio, seconds_of
from ddlight.data.digits import Digits
from ddlight.data.table import IMAGENET_MEAN, IMAGENET_STD
from ddlight.methods.baselines.full import FullData
from ddlight.methods.baselines.random import Random
from ddlight.networks.students import MLP, ConvNet, ResNet, Student, Torchvision
from ddlight.networks.teachers import Input, Precision, RunTeacher, Teacher
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.base import Regime
from ddlight.regimes.hard_label import HardLabel
from ddlight.regimes.multi_teacher_label import MultiTeacherLabel
from ddlight.regimes.stored_label import StoredLabel
from ddlight.regimes.teacher_label import TeacherLabel
from ddlight.sets.module import CondensedDataModule
from ddlight.train.trainer import Precision as Format
from ddlight.train.trainer import Trainer as RunTrainer
from ddlight.views.normalise import normalise

ALONE: dict[str, Any] = {"resume": False, "progress": False, "accelerator": "cpu", "devices": 1}
"""Options of the runs' Trainer."""
WARM = 2
"""Steps of a run before its clock starts."""
PRECISIONS: tuple[Precision, Precision] = ("fp32", "bf16")
EPOCHS = 300
"""Of the published runs."""


TEMPERATURE = 20.0
RECIPE: dict[str, Any] = {"optimizer": "adamw", "lr": 1e-3, "temperature": TEMPERATURE, "mix": "cutmix"}
CROPS: dict[str, Any] = {"patches": 1, "crop_scale": (0.5, 1.0)}


@dataclass(frozen=True)
class Size:
    """What the steps are made of: the student, which is the first teacher's network too, and images of one side."""

    student: Student
    others: tuple[Student, Student, Student]
    pixels: int
    batch: int


OTHERS = (Torchvision("mobilenet_v2"), Torchvision("shufflenet_v2_x0_5"), Torchvision("alexnet"))
FULL = Size(ResNet(18), OTHERS, pixels=224, batch=8)
"""EDC's four teachers (arXiv 2404.13733) and its student."""
QUICK = Size(ConvNet(1, 4), (ConvNet(1, 4), ConvNet(1, 5), ConvNet(1, 6)), pixels=16, batch=8)


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
    size = QUICK if quick else FULL
    yield from _steps(folder, size, rounds)
    yield _labelling(size, rounds)
    yield from _agreement(folder, 20 if quick else 100)
    yield from (_overhead(loop, folder, rounds) for loop in loops)
    yield from _bytes(folder, ConvNet(1, 4) if quick else ResNet(18, stem="imagenet"), 12 if quick else 100)


# --- what a label costs ---


class _Untrained(Teacher):
    """A teacher that knows nothing, for the time it takes: a student's network on images of `size` pixels."""

    def __init__(self, student: Student, size: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.student, self.size = student, size

    @property
    def _title(self) -> str:
        return str(self.student)

    def _open(self, num_classes: int) -> tuple[nn.Module, Input]:
        return self.student.build(num_classes, 3, self.size), Input(IMAGENET_MEAN, IMAGENET_STD, self.size)


def regimes(size: Size, folder: Path) -> dict[str, Regime]:
    """The regimes that are compared, on one student and recipe."""

    def teacher(student: Student = size.student, precision: Precision = "fp32") -> Teacher:
        return _Untrained(student, size.pixels, precision)

    common: dict[str, Any] = {"recipe": Override(batch=size.batch, **RECIPE, **CROPS), "budget": Budget(steps=10**6)}
    stored = {"labels_per_image": 1, "cache": str(folder / "cache"), **common}
    four = [teacher(), *(teacher(other) for other in size.others)]
    return {
        "hard": HardLabel(size.student, "rethinkdc_hard", **common),
        "cached": StoredLabel(size.student, teachers=[teacher()], **stored),
        "online": TeacherLabel(size.student, teacher=teacher(), **common),
        "online in bf16": TeacherLabel(size.student, teacher=teacher(precision="bf16"), **common),
        "four online": MultiTeacherLabel(size.student, teachers=four, **common),
    }


def stepper(
    model: Regime, data: CondensedDataModule, folder: Path, accelerator: str = "cpu", precision: Format = "32-true"
) -> Callable[[], None]:
    """A function that does one training step of a regime: its views, labels, loss and optimiser, without hooks."""
    trainer = RunTrainer(run=str(folder), progress=False, accelerator=accelerator, devices=1, precision=precision)
    trainer.datamodule = data  # type: ignore[attr-defined]
    trainer.strategy.connect(model)
    model.trainer = data.trainer = trainer
    data.setup("fit")
    model.setup("fit")
    model.to(trainer.strategy.root_device)
    model.on_fit_start()
    optimizer, batches = model.configure_optimizers()["optimizer"], iter(data.train_dataloader())

    def step() -> None:
        with trainer.precision_plugin.forward_context():
            loss = model.training_step(next(batches).attach(*data.tensors(model.device)), 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def rded_step(size: Size) -> Callable[[], None]:
    """One step as RDED's `validation/main.py` does it (arXiv 2312.03526), on one batch in memory.

    The student answers once without a gradient for the training accuracy, then the teacher, then the student again;
    three numbers are read.
    """
    images, labels = torch.randn(size.batch, 1, size.pixels, size.pixels), torch.randint(10, (size.batch,))
    student, teacher = (size.student.build(10, 1, size.pixels) for _ in range(2))
    teacher.eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0.01)

    def step() -> None:
        with torch.no_grad():
            logits = student(images)
            accuracy = (logits.argmax(1) == labels).float().mean().item()
            target = (teacher(images) / TEMPERATURE).softmax(1)
        loss = F.kl_div(F.log_softmax(student(images) / TEMPERATURE, 1), target, reduction="batchmean")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert accuracy >= 0 and loss.item() == loss.item()

    return step


def _steps(folder: Path, size: Size, rounds: int) -> list[Measure]:
    data = Random(Digits(size=size.pixels), ipc=size.batch // 2, cache=str(folder / "cache"))
    works = {name: stepper(model, data, folder / "run") for name, model in regimes(size, folder).items()}
    works["rded"] = rded_step(size)
    with one_thread():
        t = interleaved({name: partial(seconds_of, work) for name, work in works.items()}, rounds)
    bf16 = "the same, teacher in bf16 / with hard labels"
    return [
        measured("P5", "step with stored labels / with hard labels", 1.08, t["cached"], t["hard"], most=True),
        measured("P6", "step shaped like RDED's, a bare loop / with stored labels", 1.6, t["rded"], t["cached"]),
        measured("P7", "step with one teacher online / with hard labels", 1.40, t["online"], t["hard"], most=True),
        replace(measured("P7b", bf16, 1.20, t["online in bf16"], t["hard"], most=True), bf16=True),
        measured("P8", "step with four teachers online / with stored labels", 1.5, t["four online"], t["cached"]),
    ]


def _labelling(size: Size, rounds: int) -> Measure:
    images = torch.rand(size.batch, 3, size.pixels, size.pixels)
    full, half = (_Untrained(size.student, size.pixels, precision) for precision in PRECISIONS)
    for teacher in (full, half):
        teacher.load(10, 3, size.pixels)
    inputs = full.preprocess(images)

    @torch.no_grad()
    def reference() -> Tensor:
        return full.network(inputs)  # type: ignore[no-any-return]

    what = "a teacher's labels: fp32, eager / ddlight's in bf16"
    return replace(ratio("P9", what, 1.8, reference, partial(half.logits, images), rounds, THREAD), bf16=True)


def _agreement(folder: Path, steps: int) -> list[Measure]:
    """What bf16 changes in the labels of a trained teacher."""
    run, data = str(folder / "teacher"), FullData(Digits(), cache=str(folder / "cache"))
    trainer = RunTrainer(run=run, progress=False, accelerator="cpu", devices=1, checkpoint_every=0)
    trainer.fit(HardLabel(ConvNet(3, 16, "batch"), "rethinkdc_hard", budget=Budget(steps=steps)), datamodule=data)
    splits = [data.dataset.split(name).images for name in ("train", "test")]  # type: ignore[arg-type]
    images, answers = torch.from_numpy(np.concatenate(splits)) / 255, []
    for precision in PRECISIONS:
        teacher = RunTeacher(run, precision=precision)
        teacher.load(10, 1, data.dataset.info.size)
        answers.append(teacher.logits(images))
    other = float((answers[0].argmax(1) != answers[1].argmax(1)).float().mean())
    full, half = ((logits / TEMPERATURE).softmax(1) for logits in answers)
    return [
        Measure("P9a", "share of a trained teacher's classes that bf16 changes", 0.005, other, most=True),
        Measure("P9b", "largest change of a probability at T = 20", 0.01, float((full - half).abs().max()), most=True),
    ]


# --- what a run adds to its steps ---


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

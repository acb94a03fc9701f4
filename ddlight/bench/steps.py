"""Steps of the label regimes beside each other: what a label costs a student that trains on it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddlight.bench.timing import THREAD, Measure, interleaved, measured, one_thread, ratio, seconds_of
from ddlight.data.digits import Digits
from ddlight.data.table import IMAGENET_MEAN, IMAGENET_STD
from ddlight.methods.baselines.full import FullData
from ddlight.methods.baselines.random import Random
from ddlight.networks.students import ConvNet, ResNet, Student, Torchvision
from ddlight.networks.teachers import Input, Precision, RunTeacher, Teacher
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.base import Regime, build_optimizer
from ddlight.regimes.hard_label import HardLabel
from ddlight.regimes.multi_teacher_label import MultiTeacherLabel
from ddlight.regimes.stored_label import StoredLabel
from ddlight.regimes.teacher_label import TeacherLabel
from ddlight.sets.module import CondensedDataModule
from ddlight.train.trainer import Trainer

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


class Untrained(Teacher):
    """A teacher that knows nothing, for the time it takes: a student's network on images of `size` pixels."""

    def __init__(self, student: Student, size: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.student, self.size = student, size

    @property
    def _title(self) -> str:
        return str(self.student)

    def _open(self, num_classes: int) -> tuple[nn.Module, Input]:
        return self.student.build(num_classes, 3, self.size), Input(IMAGENET_MEAN, IMAGENET_STD, self.size)


def measure(folder: Path, quick: bool, rounds: int) -> Iterator[Measure]:
    """Goals of labelling, in CPU time of one thread: steps with cached and online labels, and teachers in bf16."""
    size = QUICK if quick else FULL
    yield from _steps(folder, size, rounds)
    yield _labelling(size, rounds)
    yield from _agreement(folder, 20 if quick else 100)


def regimes(size: Size, folder: Path) -> dict[str, Regime]:
    """The regimes that are compared, on one student and recipe."""

    def teacher(student: Student = size.student, precision: Precision = "fp32") -> Teacher:
        return Untrained(student, size.pixels, precision)

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


def stepper(model: Regime, data: CondensedDataModule, folder: Path) -> Callable[[], None]:
    """A function that does one training step of a regime: its views, labels, loss and optimiser, without hooks."""
    trainer = Trainer(run=str(folder), progress=False, accelerator="cpu", devices=1)
    trainer.datamodule = data  # type: ignore[attr-defined]
    trainer.strategy.connect(model)
    model.trainer = data.trainer = trainer
    data.setup("fit")
    model.setup("fit")
    model.on_fit_start()
    assert model.network is not None
    optimizer, batches = build_optimizer(model.network, model.run.plan.recipe), iter(data.train_dataloader())

    def step() -> None:
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
        measured("P7b", bf16, 1.20, t["online in bf16"], t["hard"], most=True),
        measured("P8", "step with four teachers online / with stored labels", 1.5, t["four online"], t["cached"]),
    ]


def _labelling(size: Size, rounds: int) -> Measure:
    images = torch.rand(size.batch, 3, size.pixels, size.pixels)
    full, half = (Untrained(size.student, size.pixels, precision) for precision in ("fp32", "bf16"))
    for teacher in (full, half):
        teacher.load(10, 3, size.pixels)
    inputs = full.preprocess(images)

    @torch.no_grad()
    def reference() -> Tensor:
        return full.network(inputs)  # type: ignore[no-any-return]

    what = "a teacher's labels: fp32, eager / ddlight's in bf16"
    return ratio("P9", what, 1.8, reference, partial(half.logits, images), rounds, THREAD)


def _agreement(folder: Path, steps: int) -> list[Measure]:
    """What bf16 changes in the labels of a trained teacher."""
    run, data = str(folder / "teacher"), FullData(Digits(), cache=str(folder / "cache"))
    trainer = Trainer(run=run, progress=False, accelerator="cpu", devices=1, checkpoint_every=0)
    trainer.fit(HardLabel(ConvNet(3, 16, "batch"), "rethinkdc_hard", budget=Budget(steps=steps)), datamodule=data)
    splits = [data.dataset.split(name).images for name in ("train", "test")]  # type: ignore[arg-type]
    images, answers = torch.from_numpy(np.concatenate(splits)) / 255, []
    for precision in get_args(Precision):
        teacher = RunTeacher(run, precision=precision)
        teacher.load(10, 1, data.dataset.info.size)
        answers.append(teacher.logits(images))
    other = float((answers[0].argmax(1) != answers[1].argmax(1)).float().mean())
    full, half = ((logits / TEMPERATURE).softmax(1) for logits in answers)
    return [
        Measure("P9a", "share of a trained teacher's classes that bf16 changes", 0.005, other, most=True),
        Measure("P9b", "largest change of a probability at T = 20", 0.01, float((full - half).abs().max()), most=True),
    ]

"""A run that was stopped anywhere and continued is, bit by bit, the run that was never stopped."""

import copy
import os
import signal
import tempfile
from dataclasses import dataclass

import pytest
import torch
from lightning import Callback
from torch import nn

from ddlight.core.errors import DataError, UsageError
from ddlight.data import Digits
from ddlight.methods.baselines.random import Random
from ddlight.networks.students import MLP, Student
from ddlight.networks.teachers import RunTeacher
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.hard_label import HardLabel
from ddlight.regimes.soft_label import SoftLabel
from ddlight.train.callbacks.ema import StudentEMA
from ddlight.train.callbacks.test_curve import TestCurve
from ddlight.train.trainer import Trainer

STEPS = 13
"""Of 30 images in batches of 8, 8, 8, 6: three passes and a step."""


@dataclass(frozen=True)
class Shaky(Student):
    """Draws in training (dropout), keeps statistics (BatchNorm) and has parameters of one dimension."""

    width: int = 4

    def build(self, num_classes, channels, size):
        conv, norm = nn.Conv2d(channels, self.width, 3, padding=1), nn.BatchNorm2d(self.width)
        head = nn.Linear(self.width * size**2 // 4, num_classes)
        return nn.Sequential(conv, norm, nn.ReLU(), nn.Dropout(0.3), nn.AvgPool2d(2), nn.Flatten(), head)


class Stop(Callback):
    """Sends this process a signal as optimiser step `step` begins or ends; at odd micro-batches, if there are any."""

    def __init__(self, step, number=signal.SIGTERM, early=False):
        self.step, self.number, self.early = step, number, early

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.early and trainer.global_step == self.step - 1:
            os.kill(os.getpid(), self.number)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if not self.early and trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


class Count(Callback):
    """Images that went by, whichever run they belong to."""

    images = 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.images += len(batch.own)


class End(Callback):
    """Everything that a run ends with, copied at the end of training."""

    def on_train_end(self, trainer, pl_module):
        averages = [c.average for c in trainer.callbacks if isinstance(c, StudentEMA)]
        readings = [c.readings for c in trainer.callbacks if isinstance(c, TestCurve)]
        self.state = copy.deepcopy(
            {
                "network": pl_module.network.state_dict(),
                "average": averages,
                "readings": readings,
                "optimizer": trainer.optimizers[0].state_dict(),
                "rate": trainer.lr_scheduler_configs[0].scheduler.get_last_lr(),
                "step": trainer.global_step,
                "images": pl_module.images_seen(trainer.global_step),
            }
        )


def same(a, b):
    """Whether nested containers of tensors are equal bit by bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


EVERYTHING = {"ema": 0.9, "mix": "cutmix", "crop_scale": (0.5, 1.0), "dsa": "color_crop_cutout_scale_rotate"}
RUNS = {
    "plain": ({}, 1),
    "dropout, norm and average": ({"ema": 0.9}, 1),
    "all at once": ({**EVERYTHING, "optimizer": "adamw", "schedule": "cosine", "stepped": "step"}, 1),
    "all at once, accumulated": (EVERYTHING, 2),
    "drops": ({"milestones": (0.4,), "reset_momentum": True}, 2),
}


def regime(name, **more):
    recipe, _ = RUNS[name]
    student = MLP(width=4, depth=1) if name == "plain" else Shaky()
    return HardLabel(student, recipe=Override(batch=8, **recipe), budget=Budget(steps=STEPS), seed=3, **more)


def data():
    return Random(Digits(size=8), ipc=3)


def ended(fit, model, run, *callbacks, **options):
    """Fit to the end, and return the end and the curve."""
    end = End()
    trainer = fit(model, data(), run=run, callbacks=[*callbacks, end], **options)
    return end.state, (trainer.run / "metrics.csv").read_bytes(), model.scores["test"]


def stopped(fit, model, run, *callbacks, **options):
    """Fit until something ends the process, and return its exit code."""
    with pytest.raises(SystemExit) as caught:
        fit(model, data(), run=run, callbacks=callbacks, **options)
    return caught.value.code


@pytest.mark.parametrize("name", RUNS)
def test_stopped_anywhere_and_continued_is_never_stopped(fit, home, name):
    options = {"accumulate_grad_batches": RUNS[name][1], "checkpoint_every": 0}
    whole = ended(fit, regime(name), "whole", **options)
    assert whole[0]["step"] == STEPS and whole[0]["images"] == 98
    for step in (1, 4, 7, STEPS - 1, STEPS):
        run, seen = f"stopped{step}", Count()
        assert stopped(fit, regime(name), run, Stop(step), seen, **options) == 143
        saved = torch.load(home / run / "last.ckpt", weights_only=True)
        assert saved["global_step"] == step
        continued = ended(fit, regime(name), run, seen, resume=True, **options)
        assert seen.images == 98
        for key in whole[0]:
            assert same(continued[0][key], whole[0][key]), f"{key} after a stop at step {step}"
        assert continued[1:] == whole[1:]


def test_stopped_again_and_again(fit):
    name, options = "all at once", {"checkpoint_every": 0, "resume": True}
    whole = ended(fit, regime(name, test_curve=4), "whole", **options)
    assert len(whole[0]["readings"][0]) == 4
    for step in (2, 3, 9):
        assert stopped(fit, regime(name, test_curve=4), "run", Stop(step), **options) == 143
    continued = ended(fit, regime(name, test_curve=4), "run", **options)
    assert same(continued[0], whole[0]) and continued[1:] == whole[1:]


@pytest.mark.parametrize("step", [STEPS - 1, STEPS])
def test_held_out_images_are_scored_after_a_late_stop(fit, step):
    def held_out():
        return Random(Digits(size=8, held_out=4), ipc=3)

    whole = regime("plain")
    fit(whole, held_out(), run="whole")
    with pytest.raises(SystemExit):
        fit(regime("plain"), held_out(), callbacks=[Stop(step)])
    continued = regime("plain")
    fit(continued, held_out(), resume=True)
    assert whole.scores["held_out"].images == 40
    assert continued.scores == whole.scores


def test_a_frozen_label_is_the_same_after_a_stop(fit, home):
    fit(regime("plain"), data(), run="teacher")

    def model():
        recipe = Override(batch=8, ema=0.9, mix="cutmix")
        return SoftLabel(Shaky(), teacher=RunTeacher(str(home / "teacher")), recipe=recipe, budget=Budget(steps=STEPS))

    whole = ended(fit, model(), "whole")
    assert stopped(fit, model(), "run", Stop(6)) == 143
    continued = ended(fit, model(), "run", resume=True)
    assert same(continued[0], whole[0]) and continued[1:] == whole[1:]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_inside_an_accumulation_waits_for_its_step(fit, home, number):
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)}
    model = regime("all at once, accumulated")
    options = {"accumulate_grad_batches": 2, "checkpoint_every": 0}
    assert stopped(fit, model, "run", Stop(5, number, early=True), **options) == 143
    assert torch.load(home / "run" / "last.ckpt", weights_only=True)["global_step"] == 5
    assert {n: signal.getsignal(n) for n in before} == before
    assert not list((home / "run").glob("*.part"))


@pytest.mark.parametrize(
    ("number", "job", "calls"),
    [(signal.SIGUSR1, "77", "requeue 77\n"), (signal.SIGTERM, "77", ""), (signal.SIGUSR1, "", "")],
)
def test_only_slurms_warning_puts_the_job_back(fit, home, monkeypatch, number, job, calls):
    log, tool = home / "calls", home / "bin" / "scontrol"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", job) if job else monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert stopped(fit, regime("plain"), "run", Stop(2, number)) == 143
    assert (log.read_text() if log.exists() else "") == calls


def test_checkpoints_come_at_fractions_of_the_run(fit, home):
    class Saved(Callback):
        def __init__(self):
            self.steps = []

        def on_save_checkpoint(self, trainer, pl_module, checkpoint):
            self.steps.append(trainer.global_step)

    saved, before = Saved(), {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)}

    def model():
        return HardLabel(MLP(width=4, depth=1), recipe=Override(batch=8), budget=Budget(steps=12))

    fit(model(), data(), callbacks=[saved], checkpoint_every=0.25)
    assert saved.steps == [3, 6, 9]  # the end is no checkpoint: the run is about to be finished
    assert {n: signal.getsignal(n) for n in before} == before
    options = {"checkpoint_every": 0.25, "accumulate_grad_batches": 2}
    again = Saved()
    stopped(fit, model(), "again", Stop(6), **options)
    fit(model(), data(), run="again", callbacks=[again], resume=True, **options)
    assert again.steps == [9]


class Dies(Callback):
    """Kills this process without warning as a step begins."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def killed_run(folder, step):
    """Runs in a process of its own, to its death."""
    torch.set_num_threads(1)
    options = {"accelerator": "cpu", "devices": 1, "progress": False, "checkpoint_every": 0.25}
    trainer = Trainer(run=str(folder / "run"), callbacks=[Dies(step)], **options)
    trainer.fit_run(regime("all at once"), Random(Digits(size=8), ipc=3, cache=str(folder / "cache")))


def test_a_killed_run_continues_from_its_last_checkpoint(fit, home, processes):
    process = processes.Process(target=killed_run, args=(home, 9))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert torch.load(home / "run" / "last.ckpt", weights_only=True)["global_step"] == 9
    whole = ended(fit, regime("all at once"), "whole", checkpoint_every=0.25)
    continued = ended(fit, regime("all at once"), "run", checkpoint_every=0.25, resume=True)
    assert same(continued[0], whole[0]) and continued[1:] == whole[1:]


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: flipped(whole, len(whole) // 2),
        lambda whole: flipped(whole, len(whole) - 60),
        lambda whole: bytes(len(whole)),
    ],
    ids=["empty", "cut off", "a bit of a tensor", "a bit of the index", "zeros"],
)
def test_a_damaged_checkpoint_is_refused(fit, home, damage):
    stopped(fit, regime("plain"), "run", Stop(4))
    path = home / "run" / "last.ckpt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"last\.ckpt is damaged.*Remove it.*--trainer\.resume=false"):
        fit(regime("plain"), data(), run="run", resume=True)
    assert fit(regime("plain"), data(), run="run", resume=False).global_step == STEPS


def test_a_checkpoint_is_not_copied_through_the_temporary_folder(fit, home, monkeypatch):
    (home / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(home / "temporary" / "gone"))
    assert stopped(fit, regime("plain"), "run", Stop(4)) == 143
    assert (home / "run" / "last.ckpt").exists()


@pytest.mark.parametrize(
    ("model", "options", "named"),
    [
        (lambda: regime("dropout, norm and average"), {}, "student was MLP.* and is Shaky.*; ema was 0.0 and is 0.9"),
        (lambda: HardLabel(MLP(4, 1), recipe=Override(batch=8), budget=Budget(steps=STEPS)), {}, "seed was 3 and is 0"),
        (lambda: HardLabel(MLP(4, 1), recipe=Override(batch=8), budget=Budget(steps=9), seed=3), {}, "steps was 13"),
        (lambda: regime("plain"), {"accumulate_grad_batches": 2}, "accumulate_grad_batches was 1 and is 2"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(fit, model, options, named):
    stopped(fit, regime("plain"), "run", Stop(4))
    with pytest.raises(UsageError, match=rf"{named}.*--trainer\.resume=false"):
        fit(model(), data(), run="run", resume=True, **options)
    assert fit(model(), data(), run="run", resume=False, **options).global_step > 4

"""The average of weights: a hand recursion, what is evaluated and exported, what comes back after a stop."""

import pytest
import torch
from lightning import Callback

from ddlight.data import Digits
from ddlight.methods.baselines.random import Random
from ddlight.networks.export import load_student
from ddlight.networks.students import ConvNet
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.hard_label import HardLabel
from ddlight.train.callbacks.ema import StudentEMA
from ddlight.train.callbacks.test_curve import TestCurve

STUDENT = ConvNet(depth=1, width=4, norm="batch")


def regime(steps, ema=0.9, **more):
    recipe = Override(batch=8, ema=ema, lr=0.05, schedule="constant")
    return HardLabel(STUDENT, recipe=recipe, budget=Budget(steps=steps), **more)


def data(**more):
    return Random(Digits(size=8, **more), ipc=3)


class Follow(Callback):
    """The student after every step, with the average that a plain recursion makes of it."""

    def __init__(self, decay):
        self.decay, self.average, self.step, self.moved = decay, None, 0, 0

    def live(self, pl_module):
        return {name: p.detach().double().clone() for name, p in pl_module.network.named_parameters()}

    def on_train_start(self, trainer, pl_module):
        self.start = self.average = self.live(pl_module)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            return
        self.step = t = trainer.global_step
        decay = min(self.decay, (1 + t) / (10 + t))
        new = self.live(pl_module)
        self.average = {name: decay * self.average[name] + (1 - decay) * new[name] for name in new}

    def on_train_end(self, trainer, pl_module):
        self.end = self.live(pl_module)
        self.buffers = {name: b.clone() for name, b in pl_module.network.named_buffers()}


def distance(a, b):
    return max(float((a[name].double() - b[name].double()).abs().max().detach()) for name in b)


def average_of(trainer):
    (average,) = [c for c in trainer.callbacks if isinstance(c, StudentEMA)]
    return average


def accuracy(network):
    """Computed without the library."""
    digits = Digits(size=8)
    test, info = digits.split("test"), digits.info
    with torch.no_grad():
        logits = network.eval()((torch.tensor(test.images).float() / 255 - info.mean[0]) / info.std[0])
    return 100 * (logits.argmax(1) == torch.tensor(test.labels)).double().mean().item()


@pytest.mark.parametrize(("decay", "steps", "accumulate"), [(0.9, 30, 1), (0.3, 12, 1), (0.99, 10, 3)])
def test_the_average_is_the_recursion(fit, decay, steps, accumulate):
    follow = Follow(decay)
    trainer = fit(regime(steps, decay), data(), callbacks=[follow], accumulate_grad_batches=accumulate)
    average = average_of(trainer)
    assert average.steps == steps
    assert distance(average.average, follow.average) < 1e-6
    assert distance(average.average, follow.end) > 1e-3


@pytest.mark.parametrize("steps", [1, 2, 3, 8])
def test_a_run_shorter_than_the_warm_up_evaluates_no_untrained_weights(fit, steps):
    follow = Follow(0.99)
    trainer = fit(regime(steps, 0.99), data(), callbacks=[follow])
    average = average_of(trainer).average
    moved = {name: follow.end[name] - follow.start[name] for name in follow.end}
    left = {name: average[name].double() - follow.end[name] for name in moved}
    size = sum(float(v.square().sum()) for v in moved.values()) ** 0.5
    behind = sum(float(v.square().sum()) for v in left.values()) ** 0.5
    assert behind < 0.45 * size  # at a constant 0.99 it would be 0.92 and more
    if steps == 1:
        assert behind == pytest.approx(2 / 11 * size, rel=1e-3)


def test_the_average_is_evaluated_and_exported_and_the_student_comes_back(fit, home):
    follow = Follow(0.9)
    model = regime(25, save_epochs=(2,))
    trainer = fit(model, data(), callbacks=[follow])
    exported, _ = load_student(home / "run")
    assert distance(dict(exported.named_parameters()), follow.average) < 1e-6
    assert model.scores["test"].acc == pytest.approx(accuracy(exported), abs=1e-4)
    assert distance(dict(model.network.named_parameters()), follow.end) == 0
    assert model.scores["test"].acc != pytest.approx(accuracy(model.network), abs=1e-4)
    buffers = dict(exported.named_buffers())
    assert buffers and all(torch.equal(buffers[name], follow.buffers[name]) for name in buffers)
    assert trainer.global_step == 25


def test_an_export_in_the_middle_is_the_average_of_that_step(fit, home):
    early = Follow(0.9)
    fit(regime(8), data(), callbacks=[early])
    fit(regime(8, save_epochs=(1, 2)), data(), run="kept")
    exported, _ = load_student(home / "kept", 2)
    assert distance(dict(exported.named_parameters()), early.average) < 1e-6
    first, _ = load_student(home / "kept", 1)
    assert distance(dict(first.named_parameters()), early.average) > 1e-4


@pytest.mark.parametrize("decay", [0.9, None])
def test_epoch_0_is_the_initial_student(fit, home, decay):
    follow = Follow(0.9)
    fit(regime(2, decay, save_epochs=(0,)), data(), callbacks=[follow], run="kept")
    initial, _ = load_student(home / "kept", 0)
    assert distance(dict(initial.named_parameters()), follow.start) == 0
    final, _ = load_student(home / "kept")
    assert distance(dict(final.named_parameters()), follow.start) > 1e-4


def test_validation_sees_the_average_too(fit):
    follow = Follow(0.9)
    model = regime(25)
    fit(model, data(held_out=20), callbacks=[follow])
    held_out = Digits(size=8, held_out=20).split("held_out")
    info = Digits(size=8).info
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            parameter.copy_(follow.average[name])
        images = (torch.tensor(held_out.images).float() / 255 - info.mean[0]) / info.std[0]
        correct = (model.network.eval()(images).argmax(1) == torch.tensor(held_out.labels)).double().mean()
    assert model.scores["held_out"].acc == pytest.approx(100 * float(correct), abs=1e-4)
    assert model.scores["held_out"].images == 200


def test_without_decay_nothing_is_averaged(fit, home):
    follow = Follow(0.0)
    model = regime(12, ema=0.0)
    trainer = fit(model, data(), callbacks=[follow])
    exported, _ = load_student(home / "run")
    assert distance(dict(exported.named_parameters()), follow.end) == 0
    assert average_of(trainer).average == {}
    assert model.scores["test"].acc == pytest.approx(accuracy(exported), abs=1e-4)


def test_training_is_the_same_with_and_without_an_average_and_a_curve(fit):
    ends = []
    for ema, curve in ((0.0, 0), (0.9, 0), (0.9, 5)):
        follow = Follow(0.9)
        fit(regime(15, ema, test_curve=curve), data(), run=f"{ema}{curve}", callbacks=[follow])
        ends.append((follow.end, follow.buffers))
    for end, buffers in ends[1:]:
        assert distance(end, ends[0][0]) == 0
        assert all(torch.equal(buffers[name], ends[0][1][name]) for name in buffers)


@pytest.mark.parametrize(("times", "steps"), [(4, [4, 8, 12, 16]), (1, [10]), (0, [])])
def test_the_curve_reads_the_average_as_often_as_asked(fit, times, steps):
    class Average(Callback):
        """Accuracy of the average after each step."""

        def __init__(self):
            self.of = {}

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            network = STUDENT.build(10, 1, 8)
            network.load_state_dict({**pl_module.network.state_dict(), **average_of(trainer).average})
            self.of[trainer.global_step] = accuracy(network)

    seen = Average()
    trainer = fit(regime(20, test_curve=times), data(), callbacks=[seen])
    (curve,) = [c for c in trainer.callbacks if isinstance(c, TestCurve)]
    assert [r["step"] for r in curve.readings] == steps
    assert [r["acc"] for r in curve.readings] == pytest.approx([seen.of[s] for s in steps], abs=1e-4)

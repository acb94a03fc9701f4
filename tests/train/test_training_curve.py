"""`metrics.csv` against losses recomputed from the weights, and the end of runs that broke down."""

import csv

import pytest
import torch
from lightning import Callback

from ddlight.data import Digits
from ddlight.methods.baselines.random import Random
from ddlight.networks.students import ConvNet
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.hard_label import HardLabel
from ddlight.train.callbacks import curve
from ddlight.train.callbacks.curve import TrainingError
from ddlight.views.loader import order

STUDENT = ConvNet(depth=1, width=4)


def data():
    return Random(Digits(size=8), ipc=3)


def regime(steps, kind=HardLabel, **recipe):
    recipe = {"batch": 8, "lr": 0.05, "schedule": "cosine", "zeta": 1.0, "stepped": "step", **recipe}
    return kind(STUDENT, recipe=Override(**recipe), budget=Budget(steps=steps))


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


class Losses(Callback):
    """Loss of each step's global batch under the weights before the step, and the rate that the step took."""

    def __init__(self, stored):
        info = Digits(size=8).info
        self.images = (torch.tensor(stored.images).float() / 255 - info.mean[0]) / info.std[0]
        self.labels = torch.tensor(stored.labels)
        self.losses, self.rates = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx % trainer.accumulate_grad_batches:
            return
        rows = torch.from_numpy(order(0, batch.epoch, 30))[batch.index * 8 : batch.index * 8 + 8]
        with torch.no_grad():
            loss = torch.nn.functional.cross_entropy(pl_module.network(self.images[rows]), self.labels[rows])
        self.losses.append(float(loss))

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])


def prepared():
    module = data()
    module.setup("fit")
    return module


@pytest.mark.parametrize(("steps", "every", "accumulate"), [(13, 1, 1), (13, 1, 3), (203, 2, 1)])
def test_the_curve_is_the_loss_and_the_rate_of_the_steps(fit, home, steps, every, accumulate):
    data_module = prepared()
    seen = Losses(data_module.require())
    fit(regime(steps), data_module, callbacks=[seen], accumulate_grad_batches=accumulate)
    found = rows(home / "run")
    points = [*range(every, steps, every), steps]
    assert [row["step"] for row in found] == points
    spans = zip([0, *points], points, strict=False)
    means = [sum(seen.losses[a:b]) / (b - a) for a, b in spans]
    assert [row["loss"] for row in found] == pytest.approx(means, rel=1e-4)
    assert [row["lr"] for row in found] == pytest.approx([seen.rates[p - 1] for p in points])
    assert found[0]["images"] == 8 * every and found[-1]["images"] == steps // 4 * 30 + steps % 4 * 8


class File(Callback):
    """Rows of metrics.csv after each step; None while there is no file."""

    def __init__(self, folder):
        self.folder, self.counts = folder, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        there = (self.folder / "metrics.csv").exists()
        self.counts.append(len(rows(self.folder)) if there else None)


@pytest.mark.parametrize(("pause", "expected"), [(0.0, [1, 2, 3, 4, 5]), (60.0, [1] * 5)])
def test_the_curve_is_written_at_once_then_now_and_then_and_in_the_end(fit, home, monkeypatch, pause, expected):
    monkeypatch.setattr(curve, "WRITE_SECONDS", pause)
    seen = File(home / "run")
    fit(regime(5), data(), callbacks=[seen], test=False)
    assert seen.counts == expected
    assert len(rows(home / "run")) == 5


class BreaksAt(HardLabel):
    """Answers NaN as the loss of one step."""

    step = 0

    def loss(self, logits, targets, view):
        return super().loss(logits, targets, view) * (float("nan") if self.global_step == self.step - 1 else 1.0)


@pytest.mark.parametrize("step", [1, 100, 101])
def test_a_loss_that_is_no_number_ends_the_run(fit, home, step):
    model = regime(101, BreaksAt)
    model.step = step
    with pytest.raises(TrainingError, match=r"loss became nan before step.*recipe\.lr"):
        fit(model, data())
    assert step == 1 or len(rows(home / "run")) == step - 1  # what was before is in the file
    assert not (home / "run" / "student.safetensors").exists()
    assert TrainingError.code == 1


def test_weights_that_broke_in_the_last_step_end_the_run(fit, home):
    with pytest.raises(TrainingError, match="last update"):
        fit(regime(1, lr=1e38, weight_decay=1e30), data())
    assert not (home / "run" / "student.safetensors").exists()

"""The training curve and the readings of the test split."""

import csv

import pytest
import torch

from ddlight.budget import Budget
from ddlight.callbacks.curve import TrainingError
from ddlight.callbacks.test_curve import TestCurve
from ddlight.datasets import Digits
from ddlight.methods.baselines.random import Random
from ddlight.models.students import ConvNet
from ddlight.protocols import Override
from ddlight.record import record
from ddlight.regimes.hard_label import HardLabel
from ddlight.result import Seconds


def hard(steps=10, lr=0.05, **options):
    recipe = Override(lr=lr, batch=5, ema=options.pop("ema", None))
    return HardLabel(ConvNet(width=8, norm="batch"), recipe=recipe, budget=Budget(steps=steps), **options)


def test_test_split_is_read_as_often_as_asked(fit, home):
    model, data = hard(test_curve=3, ema=0.5), Random(Digits(), ipc=2)
    trainer = fit(model, data)
    (curve,) = [c for c in trainer.callbacks if isinstance(c, TestCurve)]
    assert [reading["step"] for reading in curve.readings] == [3, 5, 8]
    result = record(trainer, model, data, "curve", Seconds(condense=0.0, setup=0.0, fit=0.0, evaluate=0.0))
    assert result.acc.test_reads == 4
    assert result.acc.best_on_test == max(*[r["acc"] for r in curve.readings], result.acc.test)


def test_readings_do_not_change_the_run(fit):
    read, unread = hard(test_curve=4), hard()
    fit(read, Random(Digits(), ipc=2), run="a")
    trainer = fit(unread, Random(Digits(), ipc=2), run="b")
    for one, other in zip(read.network.state_dict().values(), unread.network.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    (curve,) = [c for c in trainer.callbacks if isinstance(c, TestCurve)]
    assert curve.readings == []


def test_metrics_file_has_the_run(fit, home):
    model = hard(steps=250, lr=0.01)
    fit(model, Random(Digits(), ipc=2))
    rows = list(csv.DictReader((home / "run" / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(2, 251, 2))
    assert int(rows[-1]["images"]) == model.images_seen(250) == 1250
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])


@pytest.mark.parametrize("steps", [3, 40])
def test_a_loss_that_is_not_a_number_ends_the_run(fit, home, steps):
    with pytest.raises(TrainingError, match=r"The loss became (nan|inf).*Lower the learning rate"):
        fit(hard(steps=steps, lr=1e30), Random(Digits(), ipc=2))
    assert not (home / "run" / "student.safetensors").exists()

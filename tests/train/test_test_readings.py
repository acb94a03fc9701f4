"""Readings of the test split during training: how often, when, and what the result says of them."""

from ddlight.core.result import Seconds
from ddlight.data import Digits
from ddlight.methods.baselines.random import Random
from ddlight.networks.students import ConvNet
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.hard_label import HardLabel
from ddlight.train.callbacks.test_curve import TestCurve
from ddlight.train.record import record


def hard(steps=10, lr=0.05, **options):
    recipe = Override(lr=lr, batch=5, ema=options.pop("ema", None))
    return HardLabel(ConvNet(width=8, norm="batch"), recipe=recipe, budget=Budget(steps=steps), **options)


def test_test_split_is_read_as_often_as_asked(fit, home):
    model, data = hard(test_curve=3, ema=0.5), Random(Digits(), ipc=2)
    trainer = fit(model, data)
    (curve,) = [c for c in trainer.callbacks if isinstance(c, TestCurve)]
    assert [reading["step"] for reading in curve.readings] == [3, 5, 8]
    lines = [f"{reading['step']},{5 * reading['step']},{reading['acc']}" for reading in curve.readings]  # batches of 5
    assert (trainer.run / "test_curve.csv").read_text() == "\n".join(["step,images,acc", *lines, ""])
    result = record(trainer, model, data, "curve", Seconds(condense=0.0, setup=0.0, fit=0.0, evaluate=0.0))
    assert result.acc.test_reads == 4
    assert result.acc.best_on_test == max(*[r["acc"] for r in curve.readings], result.acc.test)

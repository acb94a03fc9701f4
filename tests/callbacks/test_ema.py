"""The average of weights: a hand recursion, swapped in only for evaluation and export, never untrained."""

import pytest
import torch
from lightning import Callback
from safetensors.torch import load_file

from ddlight.budget import Budget
from ddlight.callbacks.ema import StudentEMA
from ddlight.datasets import Digits
from ddlight.methods.baselines.random import Random
from ddlight.models.students import ConvNet
from ddlight.protocols import Override
from ddlight.regimes.hard_label import HardLabel
from ddlight.trainer import Trainer


class Trace(Callback):
    """Keeps the student's weights after each optimiser step and during evaluation."""

    def __init__(self):
        self.steps, self.evaluated = [], None

    def on_train_start(self, trainer, pl_module):
        self.initial = {n: p.detach().clone() for n, p in pl_module.network.named_parameters()}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step > len(self.steps):
            self.steps.append({n: p.detach().clone() for n, p in pl_module.network.named_parameters()})

    def on_test_epoch_end(self, trainer, pl_module):
        self.evaluated = {n: p.detach().clone() for n, p in pl_module.network.named_parameters()}
        self.buffers = {n: b.detach().clone() for n, b in pl_module.network.named_buffers()}


def train(tmp_path, steps, decay=0.9, accumulate=1):
    trace = Trace()
    model = HardLabel(ConvNet(width=8, norm="batch"), recipe=Override(ema=decay, lr=0.05), budget=Budget(steps=steps))
    trainer = Trainer(
        run=str(tmp_path / "run"),
        accelerator="cpu",
        devices=1,
        progress=False,
        callbacks=[trace],
        accumulate_grad_batches=accumulate,
    )
    trainer.fit_run(model, Random(Digits(), ipc=2, cache=str(tmp_path / "cache")))
    return trainer, model, trace


@pytest.mark.parametrize("accumulate", [1, 2])
def test_average_is_the_recursion(tmp_path, accumulate):
    _, model, trace = train(tmp_path, 12, accumulate=accumulate)
    expected = dict(trace.initial)
    for t, weights in enumerate(trace.steps, start=1):
        decay = min(0.9, (1 + t) / (10 + t))
        expected = {n: decay * expected[n] + (1 - decay) * weights[n] for n in weights}
    assert len(trace.steps) == 12
    for name, value in trace.evaluated.items():
        assert torch.allclose(value, expected[name], atol=1e-6), name
    live = dict(model.network.named_parameters())
    assert all(torch.equal(live[n], trace.steps[-1][n]) for n in live)  # the student has its own weights back


def test_export_holds_the_average_and_live_buffers(tmp_path):
    trainer, model, trace = train(tmp_path, 12)
    exported = load_file(trainer.run / "student.safetensors")
    assert all(torch.equal(exported[n], trace.evaluated[n]) for n in trace.evaluated)
    live = dict(model.network.named_buffers())
    assert all(torch.equal(exported[n], live[n]) and torch.equal(trace.buffers[n], live[n]) for n in live)


def test_short_run_never_evaluates_untrained_weights(tmp_path):
    _, _, trace = train(tmp_path, 3, decay=0.9999)
    far = sum((trace.evaluated[n] - trace.initial[n]).norm() for n in trace.initial)
    whole = sum((trace.steps[-1][n] - trace.initial[n]).norm() for n in trace.initial)
    assert far > 0.4 * whole


def test_average_sees_the_student_alone(tmp_path):
    trainer, model, _ = train(tmp_path, 2)
    (average,) = [c for c in trainer.callbacks if isinstance(c, StudentEMA)]
    assert set(average.average) == {n for n, _ in model.network.named_parameters()}


def test_state_goes_through_a_checkpoint():
    one, other = StudentEMA(0.9), StudentEMA(0.9)
    one.steps, one.average = 7, {"w": torch.ones(2)}
    other.load_state_dict(one.state_dict())
    assert other.steps == 7 and torch.equal(other.average["w"], torch.ones(2))

"""Whole runs on a CUDA device end where the same runs on the CPU end."""

import pytest
import torch

from ddlight.data.digits import Digits
from ddlight.methods.baselines.random import Random
from ddlight.methods.scores.aum import AUM
from ddlight.methods.scoring.run import Scoring
from ddlight.networks.students import ConvNet
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.hard_label import HardLabel

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
STUDENT = ConvNet(depth=2, width=8)


def trained(fit, accelerator, steps, protocol="ht_small_hard"):
    model = HardLabel(STUDENT, protocol, Override(batch=20), Budget(steps=steps))
    fit(model, Random(Digits(), ipc=5), run=accelerator, accelerator=accelerator)
    return model


def test_a_few_steps_give_the_same_weights(fit):
    here, there = (trained(fit, name, 5) for name in ("cpu", "gpu"))
    for mine, other in zip(here.network.parameters(), there.network.parameters(), strict=True):
        torch.testing.assert_close(mine, other.cpu(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_run_learns(fit, precision):
    model = HardLabel(STUDENT, "dcbench", Override(batch=25, lr=0.1), Budget(steps=200))
    fit(model, Random(Digits(), ipc=10), accelerator="gpu", precision=precision)
    assert model.scores["test"].acc > 75


def test_a_scoring_run_trains_there(home):
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    data = AUM(Digits(), ipc=3, scoring=Scoring(student=STUDENT, budget=Budget(epochs=3)))
    data.condense()
    data.setup("fit")
    assert len(data.require().labels) == 30
    assert torch.cuda.max_memory_allocated() > before

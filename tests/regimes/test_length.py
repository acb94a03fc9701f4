"""A run is as long as its budget, whichever trainer it is given to."""

import lightning
import pytest

from ddlight.core.errors import UsageError
from ddlight.data import Digits
from ddlight.methods.baselines.random import Random
from ddlight.networks.students import ConvNet
from ddlight.recipes.budget import Budget
from ddlight.regimes.hard_label import HardLabel


def fitted(length):
    """A trainer of Lightning's own after a run of three steps."""
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **length)
    trainer.fit(HardLabel(ConvNet(depth=2, width=4), "dcbench", budget=Budget(steps=3)), Random(Digits(), ipc=1))
    return trainer


@pytest.mark.parametrize("length", [{"max_epochs": 2}, {"max_steps": 2}, {}])
def test_a_trainer_of_another_length_is_refused(home, length):
    with pytest.raises(UsageError, match=r"the budget is 3,[\s\S]*max_epochs=1"):
        fitted(length)


@pytest.mark.parametrize(("length", "steps"), [({"max_epochs": 1}, 3), ({"fast_dev_run": True}, 1)])
def test_lightnings_own_trainer_takes_the_budget(home, length, steps):
    assert fitted(length).global_step == steps

"""Which device networks take while sets are made: that of the Trainer which asked for the set."""

import pytest
import torch

from ddlight.data import Digits
from ddlight.methods.base import Selector
from ddlight.networks.device import current_device, device_options, on_device
from ddlight.networks.students import MLP
from ddlight.recipes.budget import Budget
from ddlight.regimes.hard_label import HardLabel
from ddlight.train.trainer import Trainer

CPU, SECOND, APPLE = torch.device("cpu"), torch.device("cuda", 1), torch.device("mps")


@pytest.fixture
def machine_with_gpu(monkeypatch):
    """torch says that there is a GPU; nothing is put on it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


class Asks(Selector):
    """Takes the first images of each class, and notes the device at every step of the work."""

    seen: list[object]

    def prepare(self):
        self.seen = [current_device(), device_options()]

    def select(self, unit, candidates):
        self.seen.append(current_device())
        return candidates[: self.ipc]


def test_outside_a_trainer_the_first_gpu_is_taken_where_there_is_one(machine_with_gpu):
    assert current_device() == torch.device("cuda")
    assert device_options() == {"accelerator": "auto", "devices": 1}


def test_inside_its_device_is_taken_and_afterwards_the_earlier_one_again(machine_with_gpu):
    with on_device(SECOND):
        assert current_device() == SECOND
        assert device_options() == {"accelerator": "cuda", "devices": [1]}
        with on_device(CPU):
            assert current_device() == CPU
            assert device_options() == {"accelerator": "cpu", "devices": 1}
        assert current_device() == SECOND
    assert current_device() == torch.device("cuda")


def test_a_device_on_which_sets_are_not_made_changes_nothing():
    with on_device(APPLE):
        assert current_device() == torch.device("cuda" if torch.cuda.is_available() else "cpu")
        assert device_options() == {"accelerator": "auto", "devices": 1}


@pytest.mark.parametrize("command", ["condense", "fit"])
def test_a_set_is_made_on_the_device_of_the_trainer_that_asked(command, tmp_path, machine_with_gpu):
    data = Asks(Digits(size=8), ipc=1, cache=str(tmp_path))
    trainer = Trainer(run=str(tmp_path / "run"), accelerator="cpu", devices=1, progress=False)
    if command == "condense":
        trainer.condense(None, data)
    else:
        trainer.fit_run(HardLabel(MLP(), budget=Budget(steps=1)), data)
    assert data.seen.pop(1) == {"accelerator": "cpu", "devices": 1}
    assert data.seen == [CPU] * 11

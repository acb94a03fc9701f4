"""Which device networks take while sets are made, that of the Trainer which asked, and in which number format."""

import logging
import os
import platform
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from ddlight.data import Digits
from ddlight.methods.base import Selector
from ddlight.methods.recovery.fadrm import FADRM
from ddlight.networks import device
from ddlight.networks.device import current_device, device_options, on_device
from ddlight.networks.students import MLP
from ddlight.networks.teachers import FileTeacher
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


# --- number formats ---


@pytest.fixture
def speed(monkeypatch, tmp_path):
    """speed(2.0) lets the probe find that bf16 is twice as fast as fp32 on the processor; nothing was said yet."""
    monkeypatch.setenv("DDLIGHT_CACHE", str(tmp_path / "cache"))

    def given(value):
        monkeypatch.setattr(device, "_measured_bf16_speed", lambda: value)
        device.bf16_speed.cache_clear()
        device._say.cache_clear()

    yield given
    device.bf16_speed.cache_clear()


def test_the_probe_is_kept_for_later_processes(speed):
    speed(0.25)
    assert device.bf16_speed() == 0.25
    speed(4.0)
    assert device.bf16_speed() == 0.25


def test_the_probe_finds_emulated_bf16_slow_and_changes_nothing(tmp_path):
    seen = """
import torch
from ddlight.networks.device import bf16_speed
torch.set_num_threads(2)
before = torch.random.get_rng_state()
print(bf16_speed(), torch.get_num_threads(), bool((torch.random.get_rng_state() == before).all()))
"""
    env = {**os.environ, "DDLIGHT_CACHE": str(tmp_path), "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", seen], env=env, capture_output=True, text=True, check=True)
    value, threads, unchanged = done.stdout.split()
    if platform.machine() == "x86_64":
        assert float(value) < 0.7
    assert (threads, unchanged) == ("2", "True") and len(list(tmp_path.glob("machine/*.json"))) == 1


@pytest.mark.parametrize(("value", "half"), [(0.15, False), (1.5, True)])
def test_auto_follows_the_probe_in_trainer_teacher_and_recovery(value, half, speed, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ddlight"), "propagate", True)
    caplog.set_level(logging.INFO, "ddlight")
    speed(value)
    options = {"accelerator": "cpu", "devices": 1, "progress": False}
    trainer = Trainer(run=str(tmp_path / "run"), precision="auto", **options)
    teacher = FileTeacher(MLP(), str(tmp_path / "mlp.safetensors"), [0.5], [0.5], 8, precision="auto")
    save_file(MLP().build(10, 1, 8).state_dict(), teacher.file)
    assert teacher.name == "mlp (auto)"
    teacher.load(10, 1, 8)
    recovered = FADRM(Digits(size=80), cache=str(tmp_path))
    found = trainer.precision, teacher.name, teacher.fingerprint().endswith(":bf16"), recovered.numbers.precision
    assert found == (("bf16-mixed", "mlp (bf16)", True, "bf16") if half else ("32-true", "mlp", False, "fp32"))
    said = [record.message for record in caplog.records if "auto is" in record.message]
    assert len(said) == (0 if half else 3) and all("0.15 times as fast as fp32" in line for line in said)
    assert FADRM(Digits(size=64), cache=str(tmp_path)).numbers.precision == "fp32"


def test_bf16_that_is_slow_is_warned_of_once_and_obeyed(speed, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ddlight"), "propagate", True)
    speed(0.2)
    for _ in range(2):
        assert device.number_format("bf16-mixed", "bf16-mixed", "32-true", "cpu", "trainer.precision") == "bf16-mixed"
    assert device.number_format("32-true", "bf16-mixed", "32-true", "cpu", "trainer.precision") == "32-true"
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "0.2 times as fast" in record.message and "give 32-true" in record.message


@pytest.mark.parametrize("units", [True, False])
def test_a_gpu_is_asked_whether_it_has_bf16_units(units, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: units)
    assert device.number_format("auto", "bf16", "fp32", "cuda", "a teacher") == ("bf16" if units else "fp32")
    assert device.number_format("auto", "bf16", "fp32", "mps", "a teacher") == "fp32"

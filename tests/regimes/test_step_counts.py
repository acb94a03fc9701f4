"""What a training step costs, counted: forwards of student and teachers, values read from the device, stack traces."""

import traceback
from contextlib import ExitStack

import pytest
import torch
from lightning import Callback
from torch.utils._python_dispatch import TorchDispatchMode

from ddlight.data import Digits
from ddlight.methods.baselines.random import Random
from ddlight.networks.students import ConvNet
from ddlight.networks.teachers import RunTeacher
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.base import seed_torch
from ddlight.regimes.hard_label import HardLabel
from ddlight.regimes.multi_teacher_label import MultiTeacherLabel
from ddlight.regimes.soft_label import SoftLabel
from ddlight.regimes.stored_label import StoredLabel
from ddlight.regimes.teacher_label import TeacherLabel

STEPS = 200
STUDENT, RECIPE = ConvNet(1, 4), Override(optimizer="sgd", batch=10, mix="cutmix", crop_scale=(0.5, 1.0), patches=1)


class Reads(TorchDispatchMode):
    """Counts values that are read from tensors: item(), float(), bool() and comparisons in an if."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


class Counter(Callback):
    """Counts, from the first step's start to the last one's end."""

    def __init__(self):
        self.reads, self.forwards, self.stack = Reads(), {}, ExitStack()

    def on_train_start(self, trainer, model):
        networks = {"student": model.network, **{f"teacher{k}": t.network for k, t in enumerate(model.all_teachers)}}
        for name, network in networks.items():
            self.forwards[name] = 0
            network.register_forward_pre_hook(lambda *_, name=name: self._count(name))
        self.stack.enter_context(self.reads)

    def _count(self, name):
        self.forwards[name] += 1

    def on_train_end(self, trainer, model):
        self.stack.close()


@pytest.fixture
def teachers(fit):
    torch.manual_seed(0)
    for k in (0, 1):
        fit(HardLabel(ConvNet(1, 4), budget=Budget(steps=2), seed=k), Random(Digits(size=16), ipc=2), run=f"teacher{k}")
    return [RunTeacher(f"teacher{k}") for k in (0, 1)]


@pytest.mark.parametrize(
    ("regime", "first"),
    [
        (lambda t, **o: HardLabel(STUDENT, "rethinkdc_hard", **o), 0),
        (lambda t, **o: SoftLabel(STUDENT, teacher=t[0], **o), 1),
        (lambda t, **o: StoredLabel(STUDENT, teachers=t, labels_per_image=1, **o), 0),
        (lambda t, **o: TeacherLabel(STUDENT, teacher=t[0], **o), STEPS),
        (lambda t, **o: MultiTeacherLabel(STUDENT, teachers=t, **o), STEPS),
    ],
    ids=["hard", "soft", "stored", "teacher", "teachers"],
)
def test_a_step_is_one_forward_of_each_network_and_reads_nothing(fit, teachers, regime, first):
    """A hundred losses of the whole run are read, for its curve; labels that are stored cost no forward in training."""
    counter = Counter()
    model = regime(teachers, recipe=RECIPE, budget=Budget(steps=STEPS))
    fit(model, Random(Digits(size=16), ipc=2), callbacks=[counter], test=False, checkpoint_every=0)
    assert counter.forwards.pop("student") == STEPS
    assert set(counter.forwards.values()) <= {first}
    assert len(counter.forwards) == len(model.all_teachers)
    assert counter.reads.count <= 102  # with the check of the last weights


def test_a_seeded_device_draws_as_after_manual_seed_and_keeps_no_stack_trace(monkeypatch):
    torch.manual_seed(2**62 + 5)
    expected = torch.rand(4)

    def refuse(*_, **__):
        raise AssertionError("a stack trace is formatted")

    monkeypatch.setattr(traceback, "format_stack", refuse)
    seed_torch(2**62 + 5, torch.device("cpu"))
    assert torch.equal(torch.rand(4), expected)

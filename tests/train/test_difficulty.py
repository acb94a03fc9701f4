"""`difficulty.csv` against scores in numpy from the weights of each reading; and that training does not notice it."""

import copy
import csv
import os
import signal

import numpy as np
import pytest
import torch
from lightning import Callback

from ddlight.core.errors import UsageError
from ddlight.data import Digits
from ddlight.methods.baselines.random import Random
from ddlight.networks.export import load_student
from ddlight.networks.students import ConvNet
from ddlight.networks.teachers import RunTeacher
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.hard_label import HardLabel
from ddlight.regimes.multi_teacher_label import MultiTeacherLabel
from ddlight.regimes.soft_label import SoftLabel
from ddlight.regimes.stored_label import StoredLabel
from ddlight.regimes.teacher_label import TeacherLabel
from ddlight.train.callbacks.ema import StudentEMA

STUDENT = ConvNet(depth=1, width=4, norm="batch")
STEPS, TEMPERATURE = 11, 4.0
RECIPE = {"batch": 8, "lr": 0.05, "ema": 0.9, "mix": "cutmix", "crop_scale": (0.5, 1.0), "temperature": TEMPERATURE}
REGIMES = {
    "HL": (lambda net, teachers, **options: HardLabel(net, **options), 0),
    "SL": (lambda net, teachers, **options: SoftLabel(net, teacher=teachers[0], **options), 1),
    "SLKD": (lambda net, teachers, **options: TeacherLabel(net, teacher=teachers[0], **options), 1),
    "two teachers": (lambda net, teachers, **options: MultiTeacherLabel(net, teachers=teachers, **options), 2),
    "stored": (lambda net, teachers, **options: StoredLabel(net, teachers=teachers[:1], **options), 1),
}
"""What builds a regime, and how many of the teachers it asks."""


def data():
    return Random(Digits(size=8), ipc=3)


def hard(times=4, **recipe):
    recipe = Override(**{**RECIPE, **recipe})
    return HardLabel(STUDENT, recipe=recipe, budget=Budget(steps=STEPS), difficulty_curve=times)


@pytest.fixture
def teachers(fit):
    for k in (0, 1):
        recipe, budget = Override(lr=0.05), Budget(steps=30)
        fit(HardLabel(ConvNet(1, 4), recipe=recipe, budget=budget, seed=k), data(), run=f"teacher{k}")
    return [RunTeacher(f"teacher{k}") for k in (0, 1)]


class Weights(Callback):
    """The student's weights and statistics after each step."""

    def __init__(self):
        self.after = {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.after[trainer.global_step] = copy.deepcopy(pl_module.network.state_dict())


def rows(folder):
    with (folder / "difficulty.csv").open() as file:
        return list(csv.DictReader(file))


def logits_of(network, stored):
    info = Digits(size=8).info
    images = (torch.tensor(stored.images).float() / 255 - info.mean[0]) / info.std[0]
    with torch.no_grad():
        return network.eval()(images).double().numpy()


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def quantile(values, share):
    """Linear between neighbours, by hand."""
    ordered, place = np.sort(values), share / 100 * (len(values) - 1)
    below, rest = int(place), place - int(place)
    return ordered[below] + (rest * (ordered[below + 1] - ordered[below]) if rest else 0.0)


@pytest.mark.parametrize("name", REGIMES)
def test_the_file_holds_mean_and_deciles_of_the_scores_at_the_weights_of_the_step(fit, home, teachers, name):
    build, asked = REGIMES[name]
    seen, module = Weights(), data()
    model = build(STUDENT, teachers, recipe=Override(**RECIPE), budget=Budget(steps=STEPS), difficulty_curve=3)
    fit(model, module, callbacks=[seen], test=False)
    found, stored = rows(home / "run"), module.require()
    steps = [4, 8, 11]  # the first step at or after each third of the run
    scores = ["el2n", "el2n_sl"] if asked else ["el2n"]
    assert [(int(row["step"]), row["score"]) for row in found] == [(s, score) for s in steps for score in scores]
    answers = [logits_of(load_student(home / f"teacher{k}")[0], stored) for k in range(asked)]
    for row in found:
        network = STUDENT.build(10, 1, 8)
        network.load_state_dict(seen.after[int(row["step"])])
        z = logits_of(network, stored)
        if row["score"] == "el2n":
            expected = np.sqrt(((softmax(z) - np.eye(10)[stored.labels]) ** 2).sum(1))
        else:
            p, q = softmax(z / TEMPERATURE), softmax(sum(answers) / asked / TEMPERATURE)
            expected = np.sqrt(((p - q) ** 2).sum(1)) / TEMPERATURE
        assert float(row["progress"]) == int(row["step"]) / STEPS
        assert float(row["mean"]) == pytest.approx(expected.mean(), abs=1e-6)
        deciles = [float(row[f"q{share}"]) for share in range(0, 101, 10)]
        assert deciles == pytest.approx([quantile(expected, share) for share in range(0, 101, 10)], abs=2e-6)
        assert deciles[0] < deciles[5] < deciles[10]
    assert list(found[0]) == ["step", "progress", "score", "mean", *(f"q{share}" for share in range(0, 101, 10))]


class SoftSet(Random):
    """Normalised float images with soft labels of their own."""

    space = "normalised"

    def setup(self, stage):
        super().setup(stage)
        info, stored = self.dataset.info, self.stored
        if stored.images.dtype == np.uint8:
            images = ((stored.images / 255 - info.mean[0]) / info.std[0]).astype(np.float32)
            labels = (0.8 * np.eye(10)[stored.labels] + 0.02).astype(np.float32)
            self.stored = type(stored)(**{**vars(stored), "images": images, "labels": labels})


def test_sets_in_another_space_and_with_soft_labels_have_the_same_scores(fit, home, teachers):
    options = {"recipe": Override(batch=8, lr=0.01), "budget": Budget(steps=1), "difficulty_curve": 1}
    for run, module in (("plain", data()), ("soft", SoftSet(Digits(size=8), ipc=3))):
        fit(TeacherLabel(STUDENT, teacher=teachers[0], **options), module, run=run, test=False)
    for one, other in zip(rows(home / "plain"), rows(home / "soft"), strict=True):
        assert one.pop("score") == other.pop("score")
        assert [float(v) for v in one.values()] == pytest.approx([float(v) for v in other.values()], abs=1e-4)


@pytest.mark.parametrize(("times", "steps"), [(0, []), (1, [11]), (2, [6, 11]), (30, list(range(1, 12)))])
def test_it_is_read_as_often_as_asked_and_at_the_end(fit, home, times, steps):
    fit(hard(times), data(), test=False)
    assert (home / "run" / "difficulty.csv").exists() == bool(times)
    assert [int(row["step"]) for row in (rows(home / "run") if times else [])] == steps


def test_a_number_below_zero_is_refused():
    with pytest.raises(UsageError, match="difficulty_curve=-1"):
        hard(-1)


class End(Callback):
    """Everything that training ends with."""

    def on_train_end(self, trainer, pl_module):
        averages = [c.average for c in trainer.callbacks if isinstance(c, StudentEMA)]
        state = [pl_module.network.state_dict(), averages, trainer.optimizers[0].state_dict(), torch.get_rng_state()]
        self.state = copy.deepcopy(state)


def same(a, b):
    """Whether nested containers of tensors are equal bit by bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


class Shaky(ConvNet):
    """With dropout, whose draws a further forward pass would use up."""

    def build(self, num_classes, channels, size):
        return torch.nn.Sequential(torch.nn.Dropout(0.2), super().build(num_classes, channels, size))


@pytest.mark.parametrize("name", REGIMES)
def test_training_is_the_same_with_and_without_it(fit, home, teachers, name):
    build, ends = REGIMES[name][0], []
    for times in (0, 5):
        ends.append(End())
        options = {"recipe": Override(**RECIPE), "budget": Budget(steps=STEPS), "difficulty_curve": times}
        fit(build(Shaky(1, 4, "batch"), teachers, **options), data(), run=f"{times}", callbacks=[ends[-1]], test=False)
    assert same(ends[0].state, ends[1].state)
    assert len(rows(home / "5")) == 5 * (1 if name == "HL" else 2)
    assert (home / "0" / "metrics.csv").read_bytes() == (home / "5" / "metrics.csv").read_bytes()


class Stop(Callback):
    """Ends the run after a step: by a signal, after which it saves, or at once, back to the last checkpoint."""

    def __init__(self, step, saved):
        self.step, self.saved = step, saved

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step and self.saved:
            os.kill(os.getpid(), signal.SIGTERM)
        elif trainer.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("step", [2, 3, 9])
def test_a_run_that_was_stopped_has_the_file_of_one_that_was_not(fit, home, step, saved):
    options = {"checkpoint_every": 0.4}  # every 4 steps; readings after 3, 6, 9 and 11
    fit(hard(), data(), run="whole", test=False, **options)
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        fit(hard(), data(), run="stopped", callbacks=[Stop(step, saved)], test=False, **options)
    fit(hard(), data(), run="stopped", test=True, resume=True, **options)
    assert [row["step"] for row in rows(home / "whole")] == ["3", "6", "9", "11"]
    assert (home / "stopped" / "difficulty.csv").read_bytes() == (home / "whole" / "difficulty.csv").read_bytes()


def test_a_run_that_starts_again_in_its_folder_starts_the_file_again(fit, home):
    model = hard()
    fit(model, data(), test=False)
    first = (home / "run" / "difficulty.csv").read_bytes()
    fit(hard(), data(), test=False)
    assert (home / "run" / "difficulty.csv").read_bytes() == first

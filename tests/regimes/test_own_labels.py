"""A set's own soft labels and learning rate, where a run asks for them."""

import math

import numpy as np
import pytest
import torch

from ddlight.cli.dry_run import describe_run
from ddlight.core.errors import DataError, UsageError
from ddlight.core.result import Result
from ddlight.data import Digits
from ddlight.methods.base import Synthesiser
from ddlight.methods.baselines.random import Random
from ddlight.networks.students import ConvNet
from ddlight.networks.teachers import RunTeacher
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.hard_label import HardLabel
from ddlight.regimes.soft_label import SoftLabel, own_labels
from ddlight.sets.store import Synthesis, write_set
from ddlight.train.trainer import Trainer

DIGITS = Digits(size=8)
STUDENT = ConvNet(1, 4)


class Learned(Synthesiser):
    """Noise with logits of its own: 3 for the class, 0 for the others; and a learning rate."""

    label_kind = "logits"
    learns_lr = True

    def make(self, unit):
        images = np.random.default_rng(unit.number).integers(0, 256, (self.ipc, 1, 8, 8), np.uint8)
        return Synthesis(images, np.eye(10, dtype=np.float32)[[unit.number] * self.ipc] * 3, learned_lr=0.25)


# --- labels ---


def test_probabilities_are_taken_as_they_are():
    labels = torch.tensor([[0.5, 0.25, 0.25]])
    assert torch.equal(own_labels(labels, "probabilities", 20.0), labels)


def test_logits_are_softened_by_the_temperature():
    found = own_labels(torch.tensor([[2 * math.log(3.0), 0.0]]), "logits", 2.0)
    torch.testing.assert_close(found, torch.tensor([[0.75, 0.25]]))


def test_centred_labels_get_their_mean_back_and_no_share_below_zero():
    plain = torch.tensor([[0.75, -0.25, -0.25, -0.25]])
    torch.testing.assert_close(own_labels(plain, "centred", 20.0), torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    learned = torch.tensor([[0.5, 0.0, -0.5, -0.25]])  # with 1/4: 0.75, 0.25, -0.25, 0
    torch.testing.assert_close(own_labels(learned, "centred", 20.0), torch.tensor([[0.75, 0.25, 0.0, 0.0]]))
    with pytest.raises(UsageError, match="no class above -1 / K"):
        own_labels(torch.full((1, 4), -0.25), "centred", 1.0)


@pytest.mark.parametrize(("labels", "kind"), [(torch.tensor([1, 2]), "hard"), (torch.eye(2), "hard")])
def test_hard_labels_are_refused(labels, kind):
    with pytest.raises(UsageError, match="hard labels only"):
        own_labels(labels, kind, 1.0)


def test_a_run_matches_the_sets_labels_and_its_result_says_so(fit, home):
    targets = []
    model = SoftLabel(STUDENT, labels="set", recipe=Override(batch=20, temperature=1.5), budget=Budget(steps=2))
    model.listeners.append(lambda logits, matched, view: targets.append((view.labels, matched)))
    data = Learned(DIGITS, ipc=2)
    fit(model, data)
    (labels, matched), _ = targets
    high, low = math.exp(2.0) / (math.exp(2.0) + 9), 1 / (math.exp(2.0) + 9)
    expected = np.full((20, 10), low)
    expected[np.arange(20), labels.argmax(1)] = high
    np.testing.assert_allclose(matched, expected, rtol=1e-6)
    assert (model.title, model.all_teachers) == ("SoftLabel(labels=set)", [])
    assert model.label_bytes(model.run, 10) == 0


def test_the_command_trains_on_labels_that_were_published(command, home):
    rng = np.random.default_rng(0)
    labels = np.eye(10, dtype=np.float32)[np.arange(10)] - 0.1
    np.savez(home / "kip.npz", images=rng.normal(size=(10, 8, 8, 1)).astype(np.float32), labels=labels)
    words = ["--data=Released", "--data.path=kip.npz", "--data.dataset=Digits", "--data.dataset.size=8"]
    words += ["--model.student=ConvNet", "--model.student.depth=1", "--model.student.width=4", "--model.budget.steps=2"]
    words += ["--trainer.run=run", "--trainer.accelerator=cpu", "--trainer.devices=1"]
    answer = command("fit", "--model=SoftLabel", "--model.labels=set", *words)
    assert answer.code == 0, answer.err
    result = Result.read(home / "run")
    assert (result.regime, result.teachers, result.flops.teachers) == ("SoftLabel(labels=set)", (), 0)
    answer = command("fit", "--model=HardLabel", "--model.recipe.lr=set", *words, "--trainer.run=other")
    assert answer.code == 2 and "no learning rate of its own" in answer.err


def test_a_teacher_or_the_set_and_not_both(home):
    with pytest.raises(UsageError, match=r"'model.teacher' is missing.*Allowed: FileTeacher, .*--model.labels=set"):
        SoftLabel(STUDENT)
    with pytest.raises(UsageError, match=r"takes a teacher.*--model.labels=set.*not both"):
        SoftLabel(STUDENT, teacher=RunTeacher("x"), labels="set")


def test_a_set_of_hard_labels_has_none_to_match(fit, home):
    model = SoftLabel(STUDENT, labels="set", budget=Budget(steps=1))
    with pytest.raises(UsageError, match="hard labels only"):
        fit(model, Random(DIGITS, ipc=1), test=False)


# --- learning rate ---


def test_the_sets_own_rate_is_taken_where_it_is_asked_for(fit, home):
    for lr, expected in ((None, 0.01), ("set", 0.25), (0.5, 0.5)):
        model = HardLabel(STUDENT, recipe=Override(lr=lr), budget=Budget(steps=1))
        trainer = fit(model, Learned(DIGITS, ipc=1), test=False)
        assert trainer.optimizers[0].param_groups[0]["initial_lr"] == expected
        assert model.run.plan.recipe.lr == expected


def test_a_dry_run_reads_the_rate_of_a_set_that_is_sealed_and_says_where_it_comes_from_before(home):
    model, trainer = HardLabel(STUDENT, recipe=Override(lr="set"), budget=Budget(steps=1)), Trainer(run="run")
    before = describe_run("fit", trainer, model, Learned(DIGITS, ipc=1))
    assert "lr learned with the set," in "\n".join(before)
    Learned(DIGITS, ipc=1).condense()
    assert "lr 0.25," in "\n".join(describe_run("fit", trainer, model, Learned(DIGITS, ipc=1)))


def test_a_dry_run_refuses_a_rate_that_no_set_of_the_method_has(home):
    model = HardLabel(STUDENT, recipe=Override(lr="set"), budget=Budget(steps=1))
    with pytest.raises(UsageError, match="no learning rate of its own"):
        describe_run("fit", Trainer(run="run"), model, Random(DIGITS, ipc=1))


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_units_that_learned_different_rates_make_no_set(home, kind):
    images, labels = np.zeros((1, 1, 8, 8), kind), np.zeros(1, np.int64)
    pieces = (Synthesis(images, labels, learned_lr=lr) for lr in (0.1, 0.2))
    with pytest.raises(DataError, match=r"different learning rates: 0\.1, 0\.2"):
        write_set(home, pieces, np.array(["a"]), labels, ["0"])


def test_a_set_without_a_rate_of_its_own_is_refused(fit, home):
    model = HardLabel(STUDENT, recipe=Override(lr="set"), budget=Budget(steps=1))
    with pytest.raises(UsageError, match=r"set of Random has no learning rate of its own.*--model.recipe.lr=0.01"):
        fit(model, Random(DIGITS, ipc=1), test=False)

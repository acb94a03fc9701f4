"""Training against loops, losses and teachers written out independently of the library's own code."""

import numpy as np
import pytest
import torch
from lightning import Callback
from torch import nn
from torch.nn import functional as F

from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.data import Digits
from ddlight.methods.base import Synthesiser
from ddlight.methods.baselines.random import Random
from ddlight.networks.export import load_student
from ddlight.networks.students import MLP, ConvNet
from ddlight.networks.teachers import FileTeacher, RunTeacher
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.base import Regime, build_optimizer
from ddlight.regimes.hard_label import HardLabel
from ddlight.regimes.multi_teacher_label import MultiTeacherLabel
from ddlight.regimes.soft_label import SoftLabel
from ddlight.regimes.teacher_label import TeacherLabel
from ddlight.sets.store import Synthesis
from ddlight.train.trainer import Trainer
from ddlight.views.loader import order

STUDENT = ConvNet(depth=2, width=4)
DIGITS = Digits(size=8)
MEAN, STD = DIGITS.info.mean[0], DIGITS.info.std[0]


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.network.parameters()])


class Keep(Callback):
    """Keeps every view, logits, targets and loss that a regime deals with."""

    def __init__(self):
        self.views, self.logits, self.targets, self.losses = [], [], [], []

    def on_train_start(self, trainer, pl_module):
        loss = pl_module.loss

        def kept(logits, targets, view):
            self.views.append(view)
            self.logits.append(logits.detach().clone())
            self.targets.append(targets.detach().clone())
            value = loss(logits, targets, view)
            self.losses.append(value.detach())
            return value

        pl_module.loss = kept


# --- the published loop ---


def evaluate_synset(images, labels, seed, epochs, batch=256, lr=0.01):
    """DatasetCondensation's evaluation as published: E + 1 epochs, one drop, after which the optimiser is new."""
    torch.manual_seed(seed)
    net = STUDENT.build(10, 1, 8)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    for epoch in range(epochs + 1):
        visit = torch.from_numpy(order(seed, epoch, len(images)))
        for rows in visit.split(batch):
            loss = F.cross_entropy(net(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch == epochs // 2 + 1:
            lr *= 0.1
            optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    return net


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("epochs", [4, 7])
def test_dcbench_ends_with_the_weights_of_the_published_loop(fit, epochs, accumulate):
    data = Random(DIGITS, ipc=3, seed=2)
    recipe = Override(batch=8, milestones=((epochs // 2 + 2) / (epochs + 1),))
    model = HardLabel(STUDENT, "dcbench", recipe, Budget(epochs=epochs + 1), seed=1)
    fit(model, data, accumulate_grad_batches=accumulate)
    stored = data.require()
    images = (torch.from_numpy(stored.images).float() / 255 - MEAN) / STD
    net = evaluate_synset(images, torch.from_numpy(stored.labels), 1, epochs, batch=8)
    expected = torch.cat([p.detach().flatten() for p in net.parameters()])
    torch.testing.assert_close(weights(model), expected, rtol=0, atol=1e-6)


def test_accuracy_is_the_networks(fit):
    model = HardLabel(STUDENT, recipe=Override(batch=8), budget=Budget(epochs=20))
    fit(model, Random(DIGITS, ipc=5))
    test = DIGITS.split("test")
    with torch.no_grad():
        logits = model.network((torch.tensor(test.images).float() / 255 - MEAN) / STD)
    correct = (logits.argmax(1).numpy() == test.labels).sum()
    assert model.scores["test"].acc == pytest.approx(100 * correct / len(test.labels), abs=1e-4)
    assert model.scores["test"].images == len(test.labels) and correct > 100


def test_the_drop_forgets_the_momentum_and_other_schedules_do_not(fit):
    class Buffers(Callback):
        def __init__(self):
            self.empty = []

        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            self.empty.append(len(optimizer.state) == 0)

    def emptied(**recipe):
        seen = Buffers()
        model = HardLabel(MLP(width=4, depth=1), recipe=Override(batch=10, **recipe), budget=Budget(epochs=6))
        fit(model, Random(DIGITS, ipc=3), callbacks=[seen])
        return [step for step, empty in enumerate(seen.empty) if empty]

    assert emptied(milestones=(2 / 6, 4 / 6)) == [0, 6, 12]
    assert emptied(milestones=(0.4,), warmup=0.5, stepped="step") == [0, 13]  # 0.5 + 0.4 * 0.5 of 18 steps
    assert emptied(milestones=(3 / 6,), reset_momentum=False) == [0]
    assert emptied(schedule="cosine", zeta=1.0) == [0]


@pytest.mark.parametrize("seed", [65536, 2**40])
def test_large_seeds_are_seeds(fit, seed):
    model = HardLabel(MLP(width=4, depth=1), budget=Budget(steps=2), seed=seed)
    fit(model, Random(DIGITS, ipc=1), test=False)
    assert torch.isfinite(weights(model)).all()


@pytest.mark.parametrize(
    ("recipe", "kind", "decays"),
    [
        (Override(optimizer="sgd", momentum=0.7), torch.optim.SGD, (0.03, 0.03)),
        (Override(optimizer="adam", betas=(0.8, 0.9)), torch.optim.Adam, (0.03, 0.03)),
        (Override(optimizer="adamw", decay_1d=False), torch.optim.AdamW, (0.03, 0.0)),
    ],
)
def test_optimisers(recipe, kind, decays):
    model = HardLabel(STUDENT, recipe=Override(**{**vars(recipe), "weight_decay": 0.03, "lr": 0.5}))
    wanted = model.plan(Random(DIGITS)).recipe
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.Flatten(), nn.Linear(8, 3))
    optimizer = build_optimizer(network, wanted)
    assert type(optimizer) is kind and all(group["lr"] == 0.5 for group in optimizer.param_groups)
    found = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert found == {id(p): decays[p.ndim == 1] for p in network.parameters()}
    assert optimizer.defaults.get("momentum", 0.7) == 0.7
    assert optimizer.defaults.get("betas", wanted.betas) == wanted.betas


def matrices(network):
    """All but biases: those before BatchNorm have gradients of rounding alone, of which Adam makes whole steps."""
    return torch.cat([p.detach().flatten() for p in network.parameters() if p.ndim > 1])


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_what_a_gpu_takes_gives_the_same_weights(fit, monkeypatch, kind):
    """Its optimiser in one kernel and, in mixed precision, its layout, tried on the CPU, which has both."""
    student, common = ConvNet(depth=2, width=8, norm="batch"), {"budget": Budget(steps=4)}
    recipe = Override(optimizer=kind, lr=0.01, weight_decay=0.01, batch=20)
    found = {}
    for gpu in (False, True):
        monkeypatch.setattr(Regime, "_on_gpu", gpu)
        for precision in ("32-true", "bf16-mixed"):
            model = HardLabel(student, recipe=recipe, **common)
            run = fit(model, Random(DIGITS, ipc=2), run=f"{gpu}{precision}", test=False, precision=precision).run
            found[gpu, precision] = matrices(model.network)
            layer = [m for m in model.network.features if isinstance(m, nn.Conv2d)][1]
            assert layer.weight.is_contiguous() == (not gpu or precision == "32-true")
            assert model.trainer.optimizers[0].defaults["fused"] == (gpu or None)
            assert torch.equal(matrices(load_student(run)[0]), found[gpu, precision])
    torch.testing.assert_close(found[True, "32-true"], found[False, "32-true"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[True, "bf16-mixed"], found[False, "bf16-mixed"], rtol=0.05, atol=0.02)


def test_batch_norm_takes_the_recipes_momentum(fit):
    model = HardLabel(
        ConvNet(depth=1, width=4, norm="batch"), recipe=Override(bn_momentum=0.19), budget=Budget(steps=1)
    )
    fit(model, Random(DIGITS, ipc=2))
    norms = [m for m in model.network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(m.momentum == 0.19 for m in norms)


# --- losses ---


class SoftSet(Synthesiser):
    """Real-looking noise with soft labels whose largest entries are known."""

    label_kind = "probabilities"

    def estimate_seconds(self):
        return 0.0

    def make(self, unit):
        rng = generator(self.seed, "soft", unit.number)
        labels = rng.dirichlet(np.ones(10), self.ipc).astype(np.float32)
        return Synthesis(rng.random((self.ipc, 1, 8, 8), np.float32), labels)


@pytest.mark.parametrize("per", ["batch", "sample"])
@pytest.mark.parametrize("mix", ["cutmix", "mixup"])
@pytest.mark.parametrize("kind", [Random, SoftSet])
def test_hard_label_with_mixing_is_the_mixed_cross_entropy(fit, kind, mix, per):
    keep, data = Keep(), kind(DIGITS, ipc=3)
    model = HardLabel(STUDENT, recipe=Override(mix=mix, mix_per=per, batch=12), budget=Budget(epochs=2))
    fit(model, data, callbacks=[keep], test=False)
    labels = torch.from_numpy(data.require().labels)
    classes = labels if labels.ndim == 1 else labels.argmax(1)
    assert len(keep.views) == 6
    for view, logits, loss in zip(keep.views, keep.logits, keep.losses, strict=True):
        rows = []
        for i in range(len(logits)):
            log_p = logits[i].double() - logits[i].double().logsumexp(0)
            lam = float(view.share[i])
            rows.append(-lam * log_p[classes[view.ids[i]]] - (1 - lam) * log_p[classes[view.partner_ids[i]]])
        assert float(loss) == pytest.approx(float(torch.stack(rows).mean()), abs=1e-6)
        assert view.share.min() > 0 and view.share.max() <= 1
        assert (len(set(view.share.tolist())) > 1) == (per == "sample")


def test_hard_label_without_mixing_is_cross_entropy(fit):
    keep = Keep()
    data = Random(DIGITS, ipc=3)
    fit(HardLabel(STUDENT, recipe=Override(batch=12), budget=Budget(epochs=1)), data, callbacks=[keep], test=False)
    labels = torch.from_numpy(data.require().labels)
    for view, logits, loss in zip(keep.views, keep.logits, keep.losses, strict=True):
        torch.testing.assert_close(loss, F.cross_entropy(logits, labels[view.ids]))


# --- teachers ---

OTHER = {"mean": [0.9], "std": [3.0]}


@pytest.fixture
def teacher_file(home):
    torch.manual_seed(9)
    net = ConvNet(depth=2, width=6, norm="batch").build(10, 1, 8)
    net.load_state_dict(
        {k: v + torch.rand_like(v) if v.is_floating_point() else v for k, v in net.state_dict().items()}
    )
    torch.save(net.state_dict(), home / "teacher.pt")
    return net.eval()


def file_teacher(folder):
    return FileTeacher(ConvNet(depth=2, width=6, norm="batch"), str(folder / "teacher.pt"), **OTHER, size=8)


@torch.no_grad()
def by_hand(net, view):
    """The teacher's logits of a view: the student's normalisation undone, the teacher's own applied."""
    pixels = view.images.double() * STD + MEAN
    return net(((pixels - OTHER["mean"][0]) / OTHER["std"][0]).float())


RECIPE = {"mix": "cutmix", "crop_scale": (0.5, 1.0), "batch": 12, "temperature": 4.0}


def kl(targets, logits, temperature):
    """Mean over images of the sum of p log(p / q), in double precision."""
    p, z = targets.double(), logits.double() / temperature
    log_q = z - z.logsumexp(1, keepdim=True)
    return float((p * (p.log() - log_q)).sum(1).mean())


def test_teacher_label_asks_the_teacher_about_the_very_view(fit, home, teacher_file):
    keep = Keep()
    model = TeacherLabel(STUDENT, teacher=file_teacher(home), recipe=Override(**RECIPE), budget=Budget(epochs=2))
    fit(model, Random(DIGITS, ipc=3), callbacks=[keep], test=False)
    for view, logits, targets, loss in zip(keep.views, keep.logits, keep.targets, keep.losses, strict=True):
        torch.testing.assert_close(targets, (by_hand(teacher_file, view) / 4).softmax(1), rtol=0, atol=1e-5)
        assert float(loss) == pytest.approx(kl(targets, logits, 4.0), rel=1e-4)


@pytest.mark.parametrize("kind", [Random, SoftSet])
def test_soft_label_is_one_frozen_label_an_image(fit, home, teacher_file, kind, monkeypatch):
    keep, data, teacher, asked = Keep(), kind(DIGITS, ipc=3), file_teacher(home), []
    logits_of = teacher.logits
    monkeypatch.setattr(teacher, "logits", lambda images: asked.append(len(images)) or logits_of(images))
    model = SoftLabel(STUDENT, teacher=teacher, recipe=Override(**RECIPE), budget=Budget(epochs=3))
    fit(model, data, callbacks=[keep], test=False)
    assert sum(asked[4:]) == 30  # after the training images that it is tried on
    images = torch.from_numpy(data.require().images)
    clean = images.float() / 255 if images.dtype == torch.uint8 else images
    with torch.no_grad():
        frozen = (teacher_file((clean - OTHER["mean"][0]) / OTHER["std"][0]) / 4).softmax(1)
    assert len(keep.views) == 9
    for view, logits, targets, loss in zip(keep.views, keep.logits, keep.targets, keep.losses, strict=True):
        share = view.share[:, None]
        expected = share * frozen[view.ids] + (1 - share) * frozen[view.partner_ids]
        torch.testing.assert_close(targets, expected, rtol=0, atol=1e-5)
        assert float(loss) == pytest.approx(kl(targets, logits, 4.0), rel=1e-4)


@pytest.mark.parametrize("kind", [TeacherLabel, SoftLabel])
def test_t_squared_is_a_factor_of_the_loss(fit, home, teacher_file, kind):
    losses = []
    for t_squared in (False, True):
        keep, recipe = Keep(), Override(**{**RECIPE, "t_squared": t_squared})
        model = kind(STUDENT, teacher=file_teacher(home), recipe=recipe, budget=Budget(steps=1))
        fit(model, Random(DIGITS, ipc=3), callbacks=[keep], test=False)
        losses.append(float(keep.losses[0]))
    assert losses[1] == pytest.approx(16 * losses[0], rel=1e-5)


def test_soft_label_without_mixing(fit, home, teacher_file):
    keep = Keep()
    model = SoftLabel(STUDENT, teacher=file_teacher(home), recipe=Override(batch=12), budget=Budget(epochs=1))
    fit(model, Random(DIGITS, ipc=3), callbacks=[keep], test=False)
    for view, targets in zip(keep.views, keep.targets, strict=True):
        torch.testing.assert_close(targets, model.frozen[view.ids], rtol=0, atol=0)


def test_multi_teacher_label_is_the_mean_of_logits_and_a_little_hard_label(fit, home, teacher_file):
    fit(HardLabel(STUDENT, budget=Budget(steps=5)), Random(DIGITS, ipc=3, seed=1), run="teacher")
    second, _ = load_student(home / "teacher")
    second.eval()
    keep, data = Keep(), Random(DIGITS, ipc=3)
    teachers = [file_teacher(home), RunTeacher(str(home / "teacher"))]
    recipe = Override(**{**RECIPE, "ce_weight": 0.3})
    fit(
        MultiTeacherLabel(STUDENT, teachers=teachers, recipe=recipe, budget=Budget(epochs=2)),
        data,
        callbacks=[keep],
        test=False,
    )
    labels = torch.from_numpy(data.require().labels)
    for view, logits, targets, loss in zip(keep.views, keep.logits, keep.targets, keep.losses, strict=True):
        with torch.no_grad():
            mean = (by_hand(teacher_file, view) + second(view.images)) / 2
        torch.testing.assert_close(targets, mean, rtol=0, atol=1e-4)
        log_p = logits.double() - logits.double().logsumexp(1, keepdim=True)
        hard = -log_p.gather(1, labels[view.ids][:, None]).mean()  # of the image's own class, mixed or not
        expected = ((logits.double() - mean.double()) ** 2).mean() + 0.3 * hard
        assert float(loss) == pytest.approx(float(expected), rel=1e-4)


def test_multi_teacher_label_by_kl_as_fadrm_plus(fit, home, teacher_file):
    """Teachers in training mode: the statistics of the very batch, and no hard label."""
    keep, recipe = Keep(), Override(**{**RECIPE, "distance": "kl", "batch_statistics": True, "ce_weight": 9.0})
    model = MultiTeacherLabel(STUDENT, teachers=[file_teacher(home)] * 2, recipe=recipe, budget=Budget(epochs=2))
    fit(model, Random(DIGITS, ipc=3), callbacks=[keep], test=False)
    teacher_file.train()
    for view, logits, targets, loss in zip(keep.views, keep.logits, keep.targets, keep.losses, strict=True):
        torch.testing.assert_close(targets, by_hand(teacher_file, view), rtol=0, atol=1e-4)
        assert float(loss) == pytest.approx(kl((targets / 4).softmax(1), logits, 4.0), rel=1e-4)


def test_teacher_label_asks_a_teacher_in_training_mode(fit, home, teacher_file):
    keep, recipe = Keep(), Override(**RECIPE, batch_statistics=True)
    model = TeacherLabel(STUDENT, teacher=file_teacher(home), recipe=recipe, budget=Budget(epochs=2))
    fit(model, Random(DIGITS, ipc=3), callbacks=[keep], test=False)
    teacher_file.train()
    for view, targets in zip(keep.views, keep.targets, strict=True):
        torch.testing.assert_close(targets, (by_hand(teacher_file, view) / 4).softmax(1), rtol=0, atol=1e-5)


def test_teachers_are_nowhere_in_what_is_saved(fit, home, teacher_file):
    recipe = Override(**{**RECIPE, "ema": 0.9})
    model = MultiTeacherLabel(STUDENT, teachers=[file_teacher(home)], recipe=recipe, budget=Budget(steps=6))
    trainer = fit(model, Random(DIGITS, ipc=3), checkpoint_every=0.5)
    student = set(STUDENT.build(10, 1, 8).state_dict())
    assert set(model.state_dict()) == {f"network.{name}" for name in student}
    assert {id(p) for p in model.parameters()} == {id(p) for p in model.network.parameters()}
    saved = torch.load(trainer.run / "last.ckpt", weights_only=True)
    assert set(saved["state_dict"]) == {f"network.{name}" for name in student}
    average = saved["callbacks"]["StudentEMA"]["average"]
    assert set(average) == {name for name, _ in model.network.named_parameters()}
    theirs, ours = (set(shapes(dict(net.state_dict()))) for net in (teacher_file, model.network))
    assert (6, 6, 3, 3) in theirs - ours and not (theirs - ours - {()}) & set(shapes(saved))


def shapes(thing):
    """Shapes of all tensors anywhere in nested containers."""
    if isinstance(thing, torch.Tensor):
        yield tuple(thing.shape)
    elif isinstance(thing, dict):
        for value in thing.values():
            yield from shapes(value)
    elif isinstance(thing, list | tuple):
        for value in thing:
            yield from shapes(value)


@pytest.mark.parametrize("labelled", [TeacherLabel, SoftLabel])
def test_teachers_do_not_change_how_the_student_starts(fit, home, teacher_file, labelled):
    class Start(Callback):
        def on_train_start(self, trainer, pl_module):
            self.weights = weights(pl_module)

    plain, taught = Start(), Start()
    fit(HardLabel(STUDENT, budget=Budget(steps=1), seed=4), Random(DIGITS, ipc=1), callbacks=[plain], test=False)
    model = labelled(STUDENT, teacher=file_teacher(home), budget=Budget(steps=1), seed=4)
    fit(model, Random(DIGITS, ipc=1), run="b", callbacks=[taught], test=False)
    torch.testing.assert_close(plain.weights, taught.weights, rtol=0, atol=0)


@pytest.mark.parametrize("kind", [HardLabel, SoftLabel, TeacherLabel, MultiTeacherLabel])
def test_mixed_precision_trains_much_the_same_student(fit, home, teacher_file, kind):
    teacher = file_teacher(home)
    asked = {HardLabel: {}, MultiTeacherLabel: {"teachers": [teacher]}}.get(kind, {"teacher": teacher})

    def trained(precision):
        recipe = Override(**{**RECIPE, "optimizer": "sgd", "lr": 0.01, "ema": 0.9})
        model = kind(STUDENT, **asked, recipe=recipe, budget=Budget(steps=4))
        fit(model, Random(DIGITS, ipc=3), run=precision, precision=precision)
        assert model.scores["test"].images == len(DIGITS.split("test").labels)
        return weights(model)

    mixed, single = trained("bf16-mixed"), trained("32-true")
    assert mixed.dtype == torch.float32 and not torch.equal(mixed, single)
    torch.testing.assert_close(mixed, single, rtol=0, atol=0.02)


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "16"])
def test_precisions_that_would_change_views_and_scores_are_refused(precision):
    with pytest.raises(UsageError, match="allowed: 32-true, 16-mixed, bf16-mixed"):
        Trainer(precision=precision)

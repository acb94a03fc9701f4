"""MTT, TESLA, DATM and SelMatch: an iteration against a plain loop, what each begins with, and what users get wrong."""

import numpy as np
import pytest
import torch
from torch.func import functional_call
from torch.nn import functional as F

from ddlight.core.artefact import verify
from ddlight.core.errors import DataError, UsageError
from ddlight.data import Digits
from ddlight.data.table import TABLE
from ddlight.methods.baselines.random import Random
from ddlight.methods.matching.datm import DATM
from ddlight.methods.matching.mtt import MTT
from ddlight.methods.matching.selmatch import SelMatch
from ddlight.methods.matching.tesla import TESLA
from ddlight.methods.matching.trajectory.experts import Experts
from ddlight.methods.matching.trajectory.matching import Match, MatchOverride
from ddlight.methods.scoring.run import Scoring
from ddlight.networks.students import ConvNet
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.sets import store
from ddlight.train.trainer import Trainer

EXPERTS = Experts(count=2, epochs=3, recipe=Override(batch=240, lr=0.3))
SCORING = Scoring(ConvNet(1, 4), recipe=Override(batch=719), budget=Budget(steps=8), ring=2, dual=2, clean=0)
NUMBERS = {
    "steps": 3, "passes": 1, "max_start": 2, "rate": 0.05, "lr_rate": 1e-4, "min_start": 0, "first_max": 0, "batch": 8
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Where experts and scoring runs lie that tests share, whose names tell them apart."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def build(make, home, shared):
    """Build a method whose experts are those of all others: build(MTT, lr=..., steps=..., ...)."""

    def build_it(method, experts=EXPERTS, **options):
        folder = home / options.get("cache", "cache") / "Digits"
        if not folder.exists():
            folder.mkdir(parents=True)
            for name in ("experts", "scoring", "FullData"):
                (shared / name).mkdir(exist_ok=True)
                (folder / name).symlink_to(shared / name)
        given = {name: options.pop(name) for name in vars(MatchOverride()) if name in options}
        match = MatchOverride(**{**NUMBERS, **given})
        own = {"scoring": SCORING, "share": 0.5} if method is SelMatch else {}
        return make(method, experts=experts, match=match, **{**own, **options})

    return build_it


def plain_loop(data, learned, target_of, shown=lambda images: images, limit=np.inf):
    """The iterations with every inner step's graph kept, and plain SGD on images, labels and learning rate itself."""
    match, run = data.matching.match, data.expert_run
    images = learned.images.kept().clone().requires_grad_()
    rate = torch.tensor(match.rate, requires_grad=True)
    moved = [
        images,
        rate,
        *(p.detach().clone().requires_grad_() for n, p in learned.named_parameters() if n == "labels"),
    ]
    rates = [data.numbers.lr, match.lr_rate, getattr(data, "lr_labels", None)]
    optimizers = [
        torch.optim.SGD([x], lr=lr, momentum=m) for x, lr, m in zip(moved, rates, (0.5, 0.5, 0.9), strict=False)
    ]
    for iteration in range(data.numbers.iterations):
        start, target = data.matching.ends(iteration)
        every = shown(images)
        chunks, theta = data.matching.chunks(len(every), iteration), start.clone().requires_grad_()
        for n, rows in enumerate(chunks):
            views = data.matching.augment.each(every[rows], iteration, n)
            logits = functional_call(run.network, run.parameters(theta), (views,))
            (slope,) = torch.autograd.grad(F.cross_entropy(logits, target_of(moved)[rows]), theta, create_graph=True)
            theta = theta - rate * slope
        loss = (theta - target).square().sum() / (start - target).square().sum()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    return moved


# --- MTT ---


def test_the_set_is_that_of_so_many_iterations_of_a_plain_loop(build):
    """Not of one more: MTT's code prints the accuracy of a set, and saves it after another iteration."""
    data = build(MTT, iterations=3, lr=2.0, lr_rate=1e-3)
    data.prepare()
    begun = data.begin()
    images, rate = plain_loop(data, begun, lambda moved: data.matching.classes)
    stored = store.load(data.condense())
    torch.testing.assert_close(torch.from_numpy(stored.images), images.detach(), atol=2e-5, rtol=1e-4)
    assert (images - begun.images.kept()).abs().max() > 1e-3
    assert stored.manifest["learned_lr"] == pytest.approx(rate.item(), rel=1e-5)
    assert abs(rate.item() - 0.05) > 1e-5
    assert stored.manifest["labels"] == "hard"
    assert stored.manifest["experts"] == data.expert_run.fingerprint


def test_starts_and_experts_are_drawn_from_where_they_may(build):
    data = build(MTT, max_start=3, steps=1)
    data.prepare()
    run, asked = data.matching.verified, []
    original = run.weights

    def weights(number, *passes, device):
        asked.append((number, *passes))
        return original(number, *passes, device=device)

    run.weights = weights
    for iteration in range(40):
        data.matching.ends(iteration)
    assert {start for _, start, _ in asked} == {0, 1, 2}
    assert {end - start for _, start, end in asked} == {1}
    numbers = [number for number, *_ in asked]
    assert all(sorted(numbers[k : k + 2]) == [0, 1] for k in range(0, 40, 2))  # all of them before one comes again
    assert numbers != sorted(numbers[:2]) * 20


def test_chunks_are_parts_of_whole_orders(build):
    chunks = build(MTT, steps=7, batch=8).matching.chunks(20, 0)
    assert sorted(map(len, chunks[:3])) == sorted(map(len, chunks[3:6])) == [4, 8, 8]
    for part in (chunks[:3], chunks[3:6]):
        assert sorted(torch.cat(part).tolist()) == list(range(20))
    assert len(build(MTT, batch=0).matching.chunks(20, 0)[0]) == 20


def test_the_learning_rate_never_falls_below_zero(build):
    data = build(MTT)
    falling = data.begin()
    falling.rate.raw.grad = torch.tensor(1e3)
    falling.optimizers["rate"].step()
    assert falling.rate() >= 0 > falling.rate.raw


@pytest.mark.parametrize("method", [MTT, DATM])
def test_a_stopped_set_goes_on_with_the_same_bits(build, killed, method):
    options = {"iterations": 4, "lr": 2.0}
    whole = build(method, cache="whole", **options)
    stopped = killed(build(method, cache="stopped", **options), 2)
    again = build(method, cache="stopped", **options)
    done = []
    step = again.step
    again.step = lambda learned, iteration: done.append(iteration) or step(learned, iteration)
    assert verify(again.condense())["content_sha256"] == verify(whole.condense())["content_sha256"]
    assert done == [2, 3]
    assert verify(stopped.folder)["learned_lr"] == verify(whole.folder)["learned_lr"]


def test_whitened_sets_have_whitened_experts(build):
    data = build(MTT, zca=True, iterations=1)
    manifest = verify(data.condense())
    assert manifest["space"] == "zca"
    assert data.expert_run.space == "zca"
    assert verify(data.expert_run.folder)["space"] == "zca"
    plain = build(MTT, iterations=1)
    assert plain.expert_run.fingerprint != data.expert_run.fingerprint
    white = data.whitening.apply(torch.from_numpy(data.dataset.split("train").images[:20].copy()))
    torch.testing.assert_close(data.real.take(np.arange(20)), white)


# --- TESLA ---


def test_teslas_labels_are_what_the_target_expert_says(build):
    data = build(TESLA, teacher_label=True, iterations=2, lr=1.0)
    stored = store.load(data.condense())
    _, target = data.matching.ends(1)
    run = data.expert_run
    with torch.no_grad():
        said = functional_call(run.network, run.parameters(target), (torch.from_numpy(stored.images),)).softmax(1)
    np.testing.assert_allclose(stored.labels, said.numpy(), atol=1e-6)
    assert stored.manifest["labels"] == "probabilities"
    hard = store.load(build(TESLA, iterations=2, lr=1.0).condense())
    assert hard.labels.tolist() == sorted([*range(10)] * 2)
    assert np.abs(hard.images - stored.images).max() > 0


# --- DATM ---


def test_labels_begin_as_what_the_experts_say_that_are_right(build):
    data = build(DATM, ipc=3)
    data.prepare()
    learned = data.begin()
    images, labels, run = learned.images.kept(), learned.labels.detach(), data.expert_run
    classes = torch.arange(10).repeat_interleave(3)
    assert torch.equal(labels.argmax(1), classes)
    with torch.no_grad():
        weights = [run.weights(k, 3, device=torch.device("cpu"))[0] for k in range(2)]
        said = [functional_call(run.network, run.parameters(w), (images,)) for w in weights]
    for row, (one, other) in enumerate(zip(*said, strict=True)):
        right = [answer for answer in (one, other) if answer.argmax() == classes[row]]
        if right:
            torch.testing.assert_close(labels[row], torch.stack(right).mean(0), atol=1e-5, rtol=1e-5)
        else:
            both = torch.stack([one, other]).mean(0)
            torch.testing.assert_close(labels[row].sort()[0], both.sort()[0], atol=1e-5, rtol=1e-5)


def test_labels_are_those_of_one_expert_where_none_need_be_right(build):
    data = build(DATM, correct=False)
    data.prepare()
    learned, run = data.begin(), data.expert_run
    (weights,) = run.weights(0, 3, device=torch.device("cpu"))
    with torch.no_grad():
        said = functional_call(run.network, run.parameters(weights), (learned.images.kept(),))
    torch.testing.assert_close(learned.labels.detach(), said)


def test_images_begin_as_those_that_an_expert_gets_right(build):
    data = build(DATM, ipc=2)
    data.prepare()
    run, split = data.expert_run, data.dataset.split("train")
    (weights,) = run.weights(0, 3, device=torch.device("cpu"))
    with torch.no_grad():
        real = data.real.take(np.arange(len(split.labels)))
        right = functional_call(run.network, run.parameters(weights), (real,)).argmax(1).numpy() == split.labels
    for label in range(10):
        chosen = data._chosen(label)
        known = right & (split.labels == label)
        assert len(chosen) == len(set(chosen.tolist())) == 2 and (split.labels[chosen] == label).all()
        assert right[chosen].sum() == min(2, known.sum())


def test_labels_and_images_move_as_in_a_plain_loop(build):
    data = build(DATM, iterations=3, lr=2.0, lr_labels=5.0, limit=1e9, lr_rate=1e-3)
    data.prepare()
    begun = data.begin()
    images, rate, labels = plain_loop(data, begun, lambda moved: moved[2].softmax(1))
    stored = store.load(data.condense())
    torch.testing.assert_close(torch.from_numpy(stored.images), images.detach(), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(torch.from_numpy(stored.labels), labels.detach(), atol=1e-4, rtol=1e-4)
    assert (labels - begun.labels).abs().max() > 1e-3
    assert stored.manifest["learned_lr"] == pytest.approx(rate.item(), rel=1e-5)
    assert stored.manifest["labels"] == "logits"


def test_a_loss_above_the_limit_moves_nothing_and_no_momentum(build):
    data = build(DATM, limit=1e-9, lr_labels=1.0)
    data.prepare()
    learned = data.begin()
    before = {name: tensor.clone() for name, tensor in learned.packed().items()}
    assert data.step(learned, 0)["loss"] > 1e-9
    after = learned.packed()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(optimizer.state for optimizer in learned.optimizers.values())


def test_starts_grow_with_the_iterations():
    match = Match(80, 2, 40, 1e-2, 1e-5, first_max=20, expansion=2000)
    assert [match.max_at(t) for t in (0, 99, 100, 1000, 2000, 9000)] == [20, 20, 21, 30, 40, 40]
    assert Match(80, 2, 40, 1e-2, 1e-5).max_at(0) == 40


# --- SelMatch ---


def test_what_is_frozen_stays_and_the_harder_ones_are_frozen(build):
    data = build(SelMatch, ipc=4, iterations=2, lr=2.0)
    stored = store.load(data.condense())
    split, scores = data.dataset.split("train"), data.difficulty
    assert stored.labels.tolist() == [c for c in range(10) for _ in range(2)] * 2
    for label in range(10):
        rows = np.flatnonzero(split.labels == label)
        chosen = data.chosen(label)
        worst = np.sort(scores[rows])[::-1]
        np.testing.assert_array_equal(scores[chosen], worst[2:6])  # beta 0.5 of ipc 4
        frozen = stored.images[20 + 2 * label : 22 + 2 * label]
        np.testing.assert_array_equal(frozen, data.real.take(chosen[:2]).numpy())
        assert np.abs(stored.images[2 * label : 2 * label + 2] - data.real.take(chosen[2:]).numpy()).max() > 1e-4


def test_the_student_sees_what_is_frozen(build):
    data = build(SelMatch, ipc=2, iterations=2, lr=2.0, batch=20)
    data.prepare()
    begun = data.begin()
    moved = plain_loop(data, begun, lambda _: data.matching.classes, lambda images: torch.cat([images, data.frozen]))
    stored = store.load(data.condense())
    torch.testing.assert_close(torch.from_numpy(stored.images[:10]), moved[0].detach(), atol=2e-5, rtol=1e-4)


def test_scores_of_other_images_choose_nothing(build, home):
    labels = Digits().split("train").labels
    np.savez(home / "scores.npz", scores=np.arange(1438.0), labels=labels[::-1])
    with pytest.raises(DataError, match="its images are in another order"):
        build(SelMatch, ipc=4, path=str(home / "scores.npz"), beta=0.5).chosen(3)


def test_windows_begin_where_their_unit_says(build, home):
    scores = np.arange(1438.0)
    np.save(home / "scores.npy", scores)
    labels = Digits().split("train").labels
    size = int((labels == 3).sum())
    for window, first in (("ipc", 2), ("class", size // 2), ("slack", (size - 4) // 2)):
        data = build(SelMatch, ipc=4, path=str(home / "scores.npy"), beta=0.5, window=window)
        assert data.chosen(3).tolist() == np.flatnonzero(labels == 3)[first : first + 4].tolist()
        assert data.scoring_runs == []
    data = build(SelMatch, ipc=4, path=str(home / "scores.npy"), beta=1.0, window="class")
    with pytest.raises(UsageError, match="window of 4"):
        data.chosen(3)
    with pytest.raises(UsageError, match=r"share 0\.1 of 4 images moves 0"):
        build(SelMatch, ipc=4, share=0.1)


def test_students_of_selmatch_have_batchnorm(make):
    assert make(SelMatch, student=None).network == ConvNet(1, 128, "batch")
    assert make(MTT, student=None).network == ConvNet(1, 128)


# --- numbers ---


@pytest.mark.parametrize(
    ("method", "dataset", "ipc", "lr", "numbers"),
    [
        (MTT, "CIFAR10", 1, 1e2, Match(50, 2, 2, 1e-2, 1e-7, zca=True)),
        (MTT, "CIFAR10", 50, 1e3, Match(30, 2, 40, 1e-3, 1e-5)),
        (MTT, "CIFAR10", 30, 1e2, Match(30, 2, 20, 1e-3, 1e-5, zca=True)),
        (MTT, "FashionMNIST", 10, 1e2, Match(30, 2, 20, 1e-3, 1e-5)),
        (MTT, "CIFAR100", 50, 1e3, Match(80, 2, 40, 1e-2, 1e-5, batch=125, zca=True)),
        (MTT, "TinyImageNet", 50, 1e4, Match(20, 2, 40, 1e-2, 1e-4, batch=300)),
        (TESLA, "CIFAR10", 1, 1e3, Match(50, 2, 5, 1e-2, 1e-7)),
        (TESLA, "CIFAR10", 10, 1e2, Match(30, 2, 20, 1e-3, 1e-5, zca=True)),
        (DATM, "CIFAR10", 1, 1e2, Match(80, 2, 4, 1e-2, 1e-7, 10, True, limit=1.1)),
        (DATM, "CIFAR10", 50, 1e3, Match(80, 2, 40, 1e-2, 1e-5, 500, True, first_max=20, expansion=2000, limit=1.0)),
        (DATM, "CIFAR100", 50, 1e3, Match(80, 2, 70, 1e-2, 1e-5, 1000, True, 20, limit=1.0)),
        (DATM, "TinyImageNet", 10, 1e2, Match(40, 2, 50, 1e-2, 1e-4, 500, True, 10, limit=1.0)),
        (SelMatch, "CIFAR10", 1000, 1e4, Match(55, 2, 80, 1e-3, 1e-5, batch=125)),
        (SelMatch, "TinyImageNet", 50, 1e3, Match(20, 2, 80, 1e-3, 1e-5, batch=125)),
    ],
)
def test_numbers_are_the_published_ones(method, dataset, ipc, lr, numbers):
    import ddlight.data

    data = method(getattr(ddlight.data, dataset)(), ipc=ipc)
    assert TABLE[dataset].name == dataset
    assert data.matching.match == numbers
    assert data.numbers.lr == lr
    assert data.numbers.iterations == (5000 if method is MTT else 10_000)


def test_datms_other_numbers_are_published_too():
    import ddlight.data

    rows = [DATM(ddlight.data.CIFAR100(), ipc=ipc).row[:3] for ipc in (10, 50, 100)]
    assert rows == [(1e3, 10, True), (1e3, 10, False), (50, 10, True)]
    assert DATM(ddlight.data.CIFAR10(), ipc=10).row[1] == 2


# --- what users get wrong ---


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_start": 4}, r"up to pass 4, and experts have 3.*max_start=3 or less, or --data\.experts\.epochs=4"),
        ({"min_start": 2}, r"min_start is 2, and starts lie before 2"),
        ({"steps": 0}, "match.steps is 0; allowed: 1 or more"),
        ({"rate": 0.0}, "match.rate is 0.0; allowed: above 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused_in_one_line(build, options, said):
    with pytest.raises(UsageError, match=said) as raised:
        build(MTT, **options)
    assert "\n" not in str(raised.value)


def test_a_learning_rate_that_runs_away_is_named(build):
    data = build(MTT, lr_rate=1e12, iterations=40, steps=5)
    with pytest.raises(
        DataError, match=r"iteration \d+ of MTT, with a learning rate of .*lower --data.match.lr_rate"
    ) as e:
        data.condense()
    assert "\n" not in str(e.value)


def test_a_class_too_small_for_real_images_is_named(build):
    with pytest.raises(UsageError, match="ipc=400 is more than class"):
        build(MTT, ipc=400).prepare()


@pytest.fixture
def words():
    """A command's words for a tiny MTT."""
    own = ["--data=MTT", "--data.dataset=Digits", "--data.dataset.size=8", "--data.ipc=1", "--data.iterations=1"]
    net = ["--data.student=ConvNet", "--data.student.depth=1", "--data.student.width=4"]
    numbers = ["--data.match.steps=2", "--data.match.passes=1", "--data.match.max_start=1"]
    cpu = ["--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.progress=false"]
    return [*own, *net, *numbers, "--data.experts.count=2", "--data.experts.epochs=1", *cpu]


def test_experts_are_a_command_of_their_own(command, home, words):
    answer = command("experts", *words)
    assert answer.code == 0, answer.err
    (folder,) = (home / "cache" / "Digits" / "experts").iterdir()
    assert f"experts: {folder}" in answer.err
    assert verify(folder)["what"] == "set of experts"
    dry = command("condense", *words, "--dry-run").out
    assert "experts   2 x 1 passes of ConvNet(depth=1, width=4, norm='instance') by SGD" in dry
    assert f"{folder}: exist, " in dry


def test_a_method_without_experts_is_told_so(home):
    trainer = Trainer(accelerator="cpu", devices=1, progress=False)
    with pytest.raises(UsageError, match="Random matches no experts"):
        trainer.experts(None, Random(Digits()))

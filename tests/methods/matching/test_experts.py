"""Experts of trajectory matching: what is kept of them, how they are made, and published ones that are read."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ddlight.core.artefact import Unit
from ddlight.core.errors import DataError, UsageError
from ddlight.core.files import sha256
from ddlight.core.randomness import generator
from ddlight.data import Digits
from ddlight.methods.matching.trajectory.experts import ExpertRun, Experts
from ddlight.methods.matching.trajectory.flat import GSAM
from ddlight.networks.students import ConvNet
from ddlight.recipes.plan import Override
from ddlight.train.trainer import Trainer

CPU = torch.device("cpu")
NET = ConvNet(depth=1, width=4)
PLAIN = Override(dsa="", batch=600)


@pytest.fixture
def experts(home):
    """Experts of digits of 8 pixels: experts(count=2, space="normalised", cache="cache", ...)."""
    torch.set_num_threads(1)

    def build(space="normalised", cache="cache", own_seed=3, **options):
        student = options.pop("student", NET)
        options = {"count": 2, "epochs": 2, "recipe": PLAIN, **options}
        return ExpertRun(Experts(**options), student, Digits(size=8), space, own_seed, home / cache)

    return build


def trained_by_hand(run, number, epochs, change=lambda images: images):
    """The same network, trained by a plain loop: its weights at first and after each pass."""
    data = run.dataset.split("train")
    seed = int(generator(run.seed, "expert", number).integers(2**31))
    torch.manual_seed(seed)
    network = NET.build(10, 1, 8)
    info = run.dataset.info
    images = change((torch.from_numpy(data.images.copy()).float() / 255 - info.mean[0]) / info.std[0])
    labels, found = torch.from_numpy(data.labels.copy()), []
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for epoch in range(epochs + 1):
        found.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
        order = torch.from_numpy(generator(seed, "order", epoch).permutation(len(labels)))
        for rows in order.split(600) if epoch < epochs else ():
            optimizer.zero_grad()
            F.cross_entropy(network(images[rows]), labels[rows]).backward()
            optimizer.step()
    return found


def test_weights_after_each_pass_are_those_of_a_plain_loop(experts):
    run = experts()
    run.make()
    read = run.weights(1, 0, 1, 2, device=CPU)
    for one, other in zip(read, trained_by_hand(run, 1, 2), strict=True):
        torch.testing.assert_close(one, other, atol=2e-6, rtol=0)
    made = run.verified()
    assert 0 < made["storage_error"] < 1e-3
    assert made["images_seen"] == 2 * 2 * 1438
    assert made["seconds"] > 0
    stored = sum(path.stat().st_size for path in run.folder.glob("*.safetensors"))
    assert run.bytes < stored < run.bytes + 2000  # headers


def test_snapshots_differ_though_the_network_lives_on_the_cpu(experts):
    """MTT's buffer.py keeps `p.detach().cpu()`, which on a CPU are the weights that go on being trained."""
    run = experts(count=1)
    run.make()
    first, second, third = run.weights(0, 0, 1, 2, device=CPU)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_experts_are_shared_named_by_what_shapes_them_and_come_back_the_same(experts):
    names = {
        experts(**options).fingerprint
        for options in ({}, {"count": 3}, {"epochs": 3}, {"flat": True}, {"space": "zca"}, {"student": ConvNet(1, 5)})
    }
    assert len(names) == 6
    assert experts(own_seed=5).fingerprint == experts().fingerprint  # sets of all seeds share them
    assert experts(own_seed=5, seed=None).fingerprint == experts(seed=5).fingerprint
    first, second = experts(cache="one"), experts(cache="two")
    first.make()
    work = second.workspace()
    second.make_unit(work, Unit(1))  # another process's part
    second.make()
    one, other = ([sha256(path) for path in sorted(run.folder.glob("*.safetensors"))] for run in (first, second))
    assert one == other and len(set(one)) == 2


def test_an_expert_that_is_stopped_goes_on_with_the_same_bits(experts, monkeypatch):
    whole, stopped = experts(cache="whole", count=1, epochs=4), experts(cache="stopped", count=1, epochs=4)
    whole.make()

    class Stop(Exception):
        pass

    after, calls = Trainer.save_checkpoint, []

    def save(self, *args, **kwargs):
        after(self, *args, **kwargs)
        calls.append(self.global_step)

    monkeypatch.setattr(Trainer, "save_checkpoint", save)
    step = torch.optim.SGD.step

    def failing(self, *args, **kwargs):
        if len(calls) > 5 and not failed:
            failed.append(True)
            raise Stop
        return step(self, *args, **kwargs)

    failed = []
    monkeypatch.setattr(torch.optim.SGD, "step", failing)
    with pytest.raises(Stop):
        stopped.make()
    calls.clear()
    stopped.make()
    assert 0 < len(calls) < 6  # the first half was not trained again
    for one, other in zip(whole.weights(0, 0, 2, 4, device=CPU), stopped.weights(0, 0, 2, 4, device=CPU), strict=True):
        assert torch.equal(one, other)


def test_whitened_experts_see_whitened_images(experts):
    run = experts(space="zca", count=1)
    run.make()
    data = run.dataset.split("train")
    flat = torch.from_numpy(data.images.copy()).double().flatten(1) / 255
    mean = flat.mean(0)
    values, vectors = torch.linalg.eigh((flat - mean).T @ (flat - mean) / (len(flat) - 1))
    white = ((flat - mean) @ (vectors / (values + 0.1).sqrt()) @ vectors.T).float().view(-1, 1, 8, 8)
    for one, other in zip(
        run.weights(0, 0, 1, 2, device=CPU), trained_by_hand(run, 0, 2, lambda _: white), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


# --- flat trajectories ---


def test_gsam_is_what_its_formula_says():
    def loss_of(weights):
        return (weights**4).sum() + (weights[0] * weights[1] - 0.3) ** 2

    weights = torch.tensor([0.7, -0.4, 0.2], dtype=torch.float64, requires_grad=True)
    theta = weights.detach().numpy().copy()

    def gradient(w):
        other = 2 * (w[0] * w[1] - 0.3) * np.array([w[1], w[0], 0.0])
        return 4 * w**3 + other

    g = gradient(theta)
    h = gradient(theta + 0.01 * theta**2 * g / np.linalg.norm(np.abs(theta) * g))
    orthogonal = g - (g @ h) / (h @ h) * h
    expected = theta - 0.5 * (h - 0.3 * orthogonal)
    optimizer = GSAM([weights], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = loss_of(weights)
        loss.backward()
        return loss

    assert float(optimizer.step(closure).detach()) == pytest.approx(float(loss_of(torch.from_numpy(theta))))
    np.testing.assert_allclose(weights.detach().numpy(), expected, rtol=1e-9)


def test_flat_experts_take_gsams_steps(experts):
    plain, flat = experts(count=1, epochs=1), experts(count=1, epochs=1, flat=True)
    plain.make()
    flat.make()
    data, info = plain.dataset.split("train"), plain.dataset.info
    seed = int(generator(0, "expert", 0).integers(2**31))
    torch.manual_seed(seed)
    network = NET.build(10, 1, 8)
    optimizer = GSAM(network.parameters(), lr=0.01)
    images = (torch.from_numpy(data.images.copy()).float() / 255 - info.mean[0]) / info.std[0]
    labels = torch.from_numpy(data.labels.copy())
    for rows in torch.from_numpy(generator(seed, "order", 0).permutation(1438)).split(600):

        def closure(rows=rows):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images[rows]), labels[rows])
            loss.backward()
            return loss

        optimizer.step(closure)
    expected = torch.cat([p.detach().flatten() for p in network.parameters()])
    (weights,) = flat.weights(0, 1, device=CPU)
    torch.testing.assert_close(weights, expected, atol=2e-6, rtol=0)
    (other,) = plain.weights(0, 1, device=CPU)
    assert (weights - other).norm() > 1e-4
    assert flat.images == 2 * plain.images


# --- published ones ---


@pytest.fixture
def published(home):
    """Write a folder as MTT's buffer.py does: published(per_file=2, files=2, aliased=False)."""

    def write(per_file=2, files=2, aliased=False, net=NET, epochs=3):
        (home / "buffer").mkdir(exist_ok=True)
        torch.manual_seed(0)
        for number in range(files):
            trajectories = []
            for _ in range(per_file):
                network, snapshots = net.build(10, 1, 8), []
                for _ in range(epochs + 1):
                    living = [p.detach().cpu() for p in network.parameters()]
                    snapshots.append(living if aliased else [p.clone() for p in living])
                    with torch.no_grad():
                        for p in network.parameters():
                            p.add_(0.01 * torch.randn_like(p))
                trajectories.append(snapshots)
            torch.save(trajectories, home / "buffer" / f"replay_buffer_{number}.pt")
        return str(home / "buffer")

    return write


def test_published_buffers_are_read_through_all_files(experts, published, home):
    run = experts(buffer=published(), count=3, epochs=3)
    run.make()
    third = torch.load(home / "buffer" / "replay_buffer_1.pt", weights_only=True)[0]
    for read, snapshot in zip(run.weights(2, 0, 1, 2, 3, device=CPU), third, strict=True):
        torch.testing.assert_close(read, torch.cat([p.flatten() for p in snapshot]), atol=2e-5, rtol=0)
    named = run.parameters(run.weights(2, 3, device=CPU)[0])
    assert list(named) == [name for name, _ in NET.build(10, 1, 8).named_parameters()]
    assert torch.allclose(named["classifier.bias"], third[3][-1], atol=2e-5)
    assert run.verified()["images_seen"] == 0


@pytest.mark.parametrize(
    ("options", "written", "error", "said"),
    [
        ({"count": 5, "epochs": 3}, {}, UsageError, "holds 4 trajectories.*--data.experts.count=4"),
        ({"epochs": 4}, {}, UsageError, "have 3 passes.*--data.experts.epochs=3"),
        ({"student": ConvNet(1, 5)}, {}, UsageError, r"another network or dataset.*\(4, 1, 3, 3\) for \(5, 1, 3, 3\)"),
        ({}, {"aliased": True}, DataError, "living weights"),
    ],
)
def test_buffers_that_do_not_fit_are_refused_in_one_line(experts, published, options, written, error, said):
    run = experts(buffer=published(**written), **options)
    with pytest.raises(error, match=said) as raised:
        run.make()
    assert "\n" not in str(raised.value)


def test_files_that_are_no_buffers_are_refused(experts, home):
    with pytest.raises(DataError, match="holds no replay_buffer"):
        experts(buffer=str(home)).make()
    torch.save({"a": torch.zeros(1)}, home / "replay_buffer_0.pt")
    with pytest.raises(DataError, match=r"replay_buffer_0\.pt is no replay buffer"):
        experts(buffer=str(home)).make()


@pytest.mark.parametrize("options", [{"count": 0}, {"epochs": 0}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(UsageError, match="allowed: 1 or more"):
        Experts(**options)


@pytest.mark.parametrize("options", [{"protocol": "rded"}, {"protocol": "rethinkdc_hard", "flat": True}])
def test_recipes_that_experts_cannot_have_are_refused(experts, options):
    with pytest.raises(UsageError, match="Experts cannot be trained by protocol"):
        _ = experts(recipe=None, **options).plan

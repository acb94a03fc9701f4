"""Minimax: the two losses against a plain loop, what is tuned, phases, tuning that is stopped."""

import math

import numpy as np
import pytest
import torch

from ddlight.core.errors import UsageError
from ddlight.data import Digits
from ddlight.methods.generative.engine import training
from ddlight.methods.generative.engine.difffit import Scaled, difffit_parameters
from ddlight.methods.generative.engine.network import DiTNetwork
from ddlight.methods.generative.engine.trained import PixelDenoiser
from ddlight.methods.generative.minimax import MEMORY, Memory, Minimax, minimax_losses


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def test_the_losses_are_those_of_a_plain_loop_over_all_pairs():
    torch.manual_seed(0)
    real, past, cpu = Memory(3, 5, torch.device("cpu")), Memory(3, 5, torch.device("cpu")), torch.randn(20, 5)
    for k in range(7):
        real.push(0, cpu[k])
        past.push(2, 100 * cpu[k + 7])
    real.push(2, cpu[14])
    x0, labels = torch.randn(5, 5), [0, 2, 0, 1, 2]
    near = far = 0.0
    for c in (0, 1, 2):
        own = [x.tolist() for x, label in zip(x0, labels, strict=True) if label == c]
        held = [m.tolist() for m in real.of(c)]
        before = [m.tolist() for m in past.of(c)]
        near += 1 - min(cosine(x, m) for x in own for m in held) if held else 0
        far += max(cosine(x, m) for x in own for m in before) if before else 0
    got = minimax_losses(x0, labels, real, past)
    assert [float(g) for g in got] == pytest.approx([near / 3, far / 3], rel=1e-5)


def test_a_memory_forgets_the_oldest_of_a_class_alone():
    memory = Memory(2, 1, torch.device("cpu"))
    for k in range(MEMORY + 3):
        memory.push(1, torch.tensor([float(k)]))
    memory.push(0, torch.tensor([-1.0]))
    assert sorted(memory.of(1).flatten().tolist()) == list(range(3, MEMORY + 3))
    assert memory.of(0).tolist() == [[-1.0]]


def test_difffit_tunes_biases_the_table_and_scales_of_the_first_half_and_changes_nothing_at_first():
    network = DiTNetwork(3, 1, 8, 2, 16, 4, 2, seed=0)
    with torch.no_grad():
        for p in network.parameters():
            p.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    model = PixelDenoiser(network, 3, 8)
    x, t, y = torch.randn(2, 1, 8, 8), torch.tensor([5, 900]), torch.tensor([0, 3])
    before = model(x, t, y)[0]
    names = set(difffit_parameters(model))
    torch.testing.assert_close(model(x, t, y)[0], before)
    scales = {name for name in names if ".gammas." in name}
    assert scales == {
        f"blocks.{block}.{layer}" for block in (0, 1)
        for layer in ("qkv.gammas.0", "proj.gammas.0", "proj.gammas.1", "fc2.gammas.0")
    }  # fmt: skip
    others = names - scales
    assert {n for n in others if not n.endswith("bias")} == {"label.weight"}
    assert len(others) == 1 + sum(name.endswith("bias") for name, _ in network.named_parameters())
    assert {n for n, p in network.named_parameters() if p.requires_grad} == names


def test_a_scaled_layer_multiplies_by_each_vector():
    layer = Scaled(torch.nn.Linear(2, 3), 2)
    with torch.no_grad():
        layer.gammas[0].copy_(torch.tensor([1.0, 2.0, 3.0]))
        layer.gammas[1].fill_(5.0)
    x = torch.randn(4, 2)
    torch.testing.assert_close(layer(x), layer.layer(x) * torch.tensor([5.0, 10.0, 15.0]))


def test_phases_are_consecutive_classes_each_tuned_from_the_first_weights(build):
    data = build(Minimax, epochs=0.05, phase=4, prepare=False)
    assert [u.classes for u in data.tuning.units()] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]
    data.prepare()
    whole = dict(data.model.network.named_parameters())
    for phase in (0, 2):
        tuned = dict(data.tuned(phase).network.named_parameters())
        own = [name.replace("layer.", "") for name, p in tuned.items() if p.requires_grad and "gammas" not in name]
        assert own and any(not torch.equal(tuned.get(n, tuned.get(n.replace(".bias", ".layer.bias"))), whole[n])
                           for n in own)  # fmt: skip
        frozen = [name for name, p in tuned.items() if not p.requires_grad]
        assert all(torch.equal(tuned[n], whole[n.replace(".layer.", ".")]) for n in frozen)
    other = build(Minimax, ipc=3, epochs=0.05, phase=4, seed=5, prepare=False)
    assert other.tuning.folder == data.tuning.folder  # shared by ipc and seed


class Stop(Exception):
    pass


def test_tuning_that_was_stopped_goes_on_to_the_same_bytes(build, monkeypatch):
    alone = build(Minimax, epochs=0.03, phase=10).tuning.folder
    content = (alone / "000000.safetensors").read_bytes()
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    data, save = build(Minimax, epochs=0.03, phase=10, lambda_r=0.0021, prepare=False), training.Training._save
    expected = build(Minimax, epochs=0.03, phase=10, lambda_r=0.0021, prepare=False).tuning

    def stopping(self, step, *rest):
        save(self, step, *rest)
        if step == 3:
            raise Stop

    monkeypatch.setattr(training.Training, "_save", stopping)
    with pytest.raises(Stop):
        data.tuning.ensure()
    resumed = (data.tuning.ensure() / "000000.safetensors").read_bytes()
    monkeypatch.undo()
    expected.cache = data.tuning.cache
    expected.place = data.tuning.place.parent / "elsewhere"
    assert (expected.ensure() / "000000.safetensors").read_bytes() == resumed
    assert resumed != content


def test_lengths_are_passes_of_eight_images_and_the_cost_is_charged_beside_the_generators(build):
    data = build(Minimax, epochs=0.05, phase=10)
    images = len(data.dataset.index("train"))
    assert data.tuning.steps(data.tuning.units()[0]) == math.ceil(0.05 * images / 8)
    facts, run = data.facts(), data.generator_run.manifest()
    assert facts["scoring_images"] == run["images_seen"] + data.tuning.images
    assert facts["flops_scoring"] > run["flops"]
    assert np.isfinite(facts["scoring_seconds"])


def test_numbers_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="phase at least 1"):
        Minimax(Digits(size=8), phase=0)

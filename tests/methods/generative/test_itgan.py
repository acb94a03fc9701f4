"""ITGAN: terms against plain loops, latents that begin at real images, gradients through the generator, kills."""

import numpy as np
import pytest
import torch

from ddlight.core.errors import UsageError
from ddlight.data import Digits
from ddlight.methods.generative.itgan import ITGAN, matching_terms
from ddlight.methods.matching.engine import matched
from ddlight.networks.students import ConvNet


@pytest.fixture
def itgan(build):
    def make(**options):
        options = {"student": ConvNet(1, 4), "iterations": 3, "generator_steps": 3, "batch_real": 6, **options}
        return build(ITGAN, own=options)

    return make


def test_the_terms_are_those_of_plain_loops():
    torch.manual_seed(0)
    goal, own, made = torch.randn(3, 5), torch.randn(6, 5), torch.randn(6, 5)
    matched_term, apart = matching_terms(goal, own, made, 3)
    means = [(made[2 * c] + made[2 * c + 1]) / 2 for c in range(3)]
    assert float(matched_term) == pytest.approx(
        sum(float(((g - m) ** 2).sum()) for g, m in zip(goal, means, strict=True))
    )
    pairs = [sum(float(((own[k] - made[k]) ** 2).sum()) for k in (2 * c, 2 * c + 1)) / 2 for c in range(3)]
    assert float(apart) == pytest.approx(sum(pairs))


def test_latents_begin_where_the_generator_makes_their_own_real_images(itgan):
    data = itgan(ipc=3, generator_steps=20)
    learned = data.begin()
    made, real = learned.images.kept(), data.counterparts
    error = (made - real).flatten(1).norm(dim=1) / real.flatten(1).norm(dim=1)
    shuffled = (made - real.roll(1, 0)).flatten(1).norm(dim=1) / real.flatten(1).norm(dim=1)
    assert (error < 0.5 * shuffled).all()
    assert len(learned.images) == 30 and learned.images.latents.shape == (30, 1, 8, 8)


def test_gradients_go_through_the_generator_to_the_latents_alone(itgan):
    data = itgan()
    images = data.begin().images
    images.chunk = 8
    leaf = images.leaf(slice(4, 12))
    weights = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(0))
    (leaf * weights).sum().backward()
    images.pull(leaf, slice(4, 12))
    gradient = images.latents.grad
    assert not gradient[:4].any() and not gradient[12:].any() and gradient[4:12].any()
    direction = gradient / gradient.norm()
    values = []
    with torch.no_grad():
        for sign in (1, -1):
            images.latents += sign * 0.01 * direction
            values.append(float((images(slice(4, 12)) * weights).sum()))
            images.latents -= sign * 0.01 * direction
    assert (values[0] - values[1]) / 0.02 == pytest.approx(float(gradient.norm()), rel=0.02)
    assert all(p.grad is None for p in data.model.network.parameters())


def test_iterations_lower_the_loss_of_one_network(itgan, monkeypatch):
    data = itgan(iterations=12, lr=0.02, dsa="none", batch_real=1000, divergence=0.0)
    network = data.fresh(0)
    monkeypatch.setattr(data, "fresh", lambda *index: network)
    learned = data.begin()
    losses = [float(data.step(learned, t)["loss"]) for t in range(12)]
    assert losses[-1] < 0.7 * losses[0]


class Stop(Exception):
    pass


def test_a_kill_in_any_iteration_changes_no_byte(itgan, monkeypatch):
    data = itgan(seed=1)
    whole = data.make(data.units()[0]).images
    step = data.step
    monkeypatch.setattr(matched, "SAVE_SECONDS", -1.0)

    def stopping(learned, iteration):
        if iteration == 2:
            raise Stop
        return step(learned, iteration)

    data.step = stopping
    with pytest.raises(Stop):
        data.make(data.units()[0])
    again = itgan(seed=1)
    assert again.load_progress(again.units()[0])["iteration"] == 2
    np.testing.assert_array_equal(again.make(again.units()[0]).images, whole)


def test_noise_is_no_beginning():
    with pytest.raises(UsageError, match="begin at real images"):
        ITGAN(Digits(size=8), init="noise")

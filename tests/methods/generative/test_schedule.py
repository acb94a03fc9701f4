"""Noise levels, steps, guidance and loss against plain loops in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from ddlight.methods.generative.engine.backbone import Denoiser
from ddlight.methods.generative.engine.schedule import (
    LEVELS,
    Schedule,
    ancestral,
    leading,
    linear_betas,
    scaled_betas,
    spread,
    training_loss,
)


def respaced(timesteps, betas=None):
    """abar, beta and variance of the posterior on some levels, one at a time."""
    abar, product = [], 1.0
    for beta in linear_betas() if betas is None else betas:
        product *= 1 - beta
        abar.append(product)
    kept = [abar[t] for t in timesteps]
    beta = [1 - a / (kept[i - 1] if i else 1.0) for i, a in enumerate(kept)]
    tilde = [b * (1 - (kept[i - 1] if i else 1.0)) / (1 - kept[i]) for i, b in enumerate(beta)]
    return kept, beta, tilde


def test_fifty_steps_are_those_of_dits_respacing_and_of_ddims_grid():
    kept = spread(50).tolist()
    assert kept[:5] == [0, 20, 41, 61, 82]
    assert kept[-4:] == [938, 958, 979, 999]
    assert len(set(kept)) == 50
    assert leading(50)[[0, 1, 49]].tolist() == [0, 20, 980]
    assert leading(50, 1)[34] == 681  # where strength 0.7 begins with Stable Diffusion


def test_betas_are_those_of_dit_and_of_stable_diffusion():
    assert linear_betas()[[0, -1]].tolist() == [1e-4, 0.02]
    assert scaled_betas()[[0, -1]] == pytest.approx([0.00085, 0.012])
    assert scaled_betas()[500] == pytest.approx((0.00085**0.5 + 500 / 999 * (0.012**0.5 - 0.00085**0.5)) ** 2)


def test_deviations_of_steps_are_those_that_were_published():
    schedule = Schedule(linear_betas(), spread(50))
    sigma = [math.exp(0.5 * float(schedule.tables["log_posterior"][i])) for i in (26, 35, 49)]
    assert sigma == pytest.approx([0.43, 0.51, 0.57], abs=0.01)


def test_a_step_has_the_mean_and_the_learned_variance_of_plain_formulas():
    timesteps = spread(7)
    schedule, (abar, beta, tilde) = Schedule(linear_betas(), timesteps), respaced(timesteps)
    torch.manual_seed(0)
    x, eps, v = torch.randn(3, 2, 4, 4, 4, dtype=torch.float64)
    for i in (0, 3, 6):
        step = schedule.step(x, i, eps, v)
        before = abar[i - 1] if i else 1.0
        x0 = (x - math.sqrt(1 - abar[i]) * eps) / math.sqrt(abar[i])
        mean = math.sqrt(before) * beta[i] / (1 - abar[i]) * x0
        mean = mean + math.sqrt(1 - beta[i]) * (1 - before) / (1 - abar[i]) * x
        f = (v + 1) / 2
        log_var = f * math.log(beta[i]) + (1 - f) * math.log(tilde[max(i, 1)])
        torch.testing.assert_close(step.x0, x0)
        torch.testing.assert_close(step.mean, mean)
        torch.testing.assert_close(step.log_var, log_var)
        assert step.i == i


def test_ancestral_sampling_is_a_plain_loop_that_tells_the_network_its_own_levels_and_the_hook_each_step():
    timesteps = spread(5)
    schedule, (abar, beta, tilde) = Schedule(linear_betas(), timesteps), respaced(timesteps)
    torch.manual_seed(0)
    start, noise, told, hooked = torch.randn(1, 2, 3, 3), torch.randn(5, 1, 2, 3, 3), [], []

    def predict(x, t):
        told.append(t)
        return torch.sin(3 * x), torch.cos(x)

    def hook(step):
        hooked.append(step.i)
        return 0.1 * (step.i > 1) * torch.ones_like(step.x0)

    got = ancestral(predict, schedule, start, lambda i: noise[i], hook)
    x = start.double()
    for i in (4, 3, 2, 1, 0):
        before = abar[i - 1] if i else 1.0
        x0 = (x - math.sqrt(1 - abar[i]) * torch.sin(3 * x)) / math.sqrt(abar[i])
        mean = (math.sqrt(before) * beta[i] * x0 + math.sqrt(1 - beta[i]) * (1 - before) * x) / (1 - abar[i])
        f = (torch.cos(x) + 1) / 2
        sigma = (0.5 * (f * math.log(beta[i]) + (1 - f) * math.log(tilde[max(i, 1)]))).exp()
        x = mean + 0.1 * (i > 1) + (sigma * noise[i] if i else 0)
    torch.testing.assert_close(got.double(), x, rtol=1e-4, atol=1e-4)
    assert told == list(timesteps[::-1])
    assert hooked == [4, 3, 2, 1, 0]


def test_ddim_moves_up_and_down_the_same_line():
    schedule = Schedule(linear_betas(), leading(50))
    torch.manual_seed(0)
    x, eps = torch.randn(2, 1, 4, 8, 8, dtype=torch.float64)
    up = schedule.moved(x, 3, eps, 9)
    abar, _, _ = respaced(leading(50))
    a, b = abar[3], abar[9]
    torch.testing.assert_close(up, math.sqrt(b / a) * (x - math.sqrt(1 - a) * eps) + math.sqrt(1 - b) * eps)
    torch.testing.assert_close(schedule.moved(up, 9, eps, 3), x)


class Spoken(Denoiser):
    """Says its condition in every channel of the noise, and -condition of the variance."""

    shape, size, guided_channels = (4, 2, 2), 2, 3

    def condition(self, labels, prompts=None):
        return torch.tensor(labels, dtype=torch.float32)

    def null(self, condition):
        return torch.full_like(condition, 10.0)

    def __call__(self, x, t, condition):
        said = condition.reshape(-1, 1, 1, 1).expand(-1, 4, 2, 2)
        return said + t[0], -said

    def encode(self, images):
        raise NotImplementedError

    def decode(self, latents):
        raise NotImplementedError


@pytest.mark.parametrize(("channels", "kept"), [(None, [3]), (4, []), (3, [3])])
def test_guidance_acts_on_three_of_four_channels_and_leaves_the_variance_to_the_condition(channels, kept):
    model = Spoken()
    eps, v = model.guided(model.condition([1, 2]), 4.0, channels)(torch.zeros(2, 4, 2, 2), 100)
    for image, label in enumerate((1, 2)):
        for c in range(4):
            expected = label if c in kept else 10 + 4 * (label - 10)
            assert (eps[image, c] == expected + 100).all()
        assert (v[image] == -label).all()


def test_guidance_of_one_asks_the_condition_alone():
    model = Spoken()
    eps, v = model.guided(model.condition([7]), 1.0)(torch.zeros(1, 4, 2, 2), 5)
    assert (eps == 12).all() and (v == -7).all()


@pytest.mark.parametrize("velocity", [False, True])
def test_the_loss_is_that_of_plain_loops_and_moves_the_mean_by_the_squared_error_alone(velocity):
    torch.manual_seed(0)
    schedule, (abar, beta, tilde) = Schedule(linear_betas(), np.arange(LEVELS)), respaced(range(LEVELS))
    x0, noise, eps = torch.randn(3, 3, 1, 2, 2, dtype=torch.float64).clamp(-0.9, 0.9)
    x0[0, 0, 0, 0], x0[0, 0, 1, 1] = 1.0, -1.0
    eps, v = eps.requires_grad_(), torch.rand(3, 1, 2, 2, dtype=torch.float64).requires_grad_()
    levels = torch.tensor([0, 300, 999])
    got = training_loss(schedule, x0, levels, noise, eps, v, velocity)
    for image, t in enumerate(levels.tolist()):
        error, bits = [], []
        before = abar[t - 1] if t else 1.0
        for place in np.ndindex(1, 2, 2):
            at = (image, *place)
            e, w, z, n = (float(tensor[at].detach()) for tensor in (eps, v, x0, noise))
            x = math.sqrt(abar[t]) * z + math.sqrt(1 - abar[t]) * n
            guess = (x - math.sqrt(1 - abar[t]) * e) / math.sqrt(abar[t])
            true, said = (
                math.sqrt(abar[t]) * of_noise - math.sqrt(1 - abar[t]) * c for of_noise, c in ((n, z), (e, guess))
            )
            error.append((true - said) ** 2 if velocity else (n - e) ** 2)
            of = lambda c: (  # noqa: E731
                math.sqrt(before) * beta[t] / (1 - abar[t]) * c  # noqa: B023
                + math.sqrt(1 - beta[t]) * (1 - before) / (1 - abar[t]) * x  # noqa: B023
            )
            log_true = math.log(tilde[max(t, 1)])
            log_own = (w + 1) / 2 * math.log(beta[t]) + (1 - (w + 1) / 2) * log_true
            s, own = math.exp(log_own / 2), of(guess)
            if t:
                p, q = torch.distributions.Normal(of(z), math.exp(log_true / 2)), torch.distributions.Normal(own, s)
                bits.append(float(torch.distributions.kl_divergence(p, q)) / math.log(2))
            else:
                high = 1.0 if z > 0.999 else norm.cdf(z + 1 / 255, own, s)
                low = 0.0 if z < -0.999 else norm.cdf(z - 1 / 255, own, s)
                bits.append(-math.log2(max(high - low, 1e-12)))
        assert float(got[image]) == pytest.approx(np.mean(error) + np.mean(bits), rel=1e-6)
    (gradient,) = torch.autograd.grad(got[1], eps)
    weight = 1 / abar[300] if velocity else 1.0
    torch.testing.assert_close(gradient[1], weight * 2 * (eps[1] - noise[1]).detach() / 4)

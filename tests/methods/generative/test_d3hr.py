"""D3HR: inversion and the way back, statistics, the loss of groups, the group that is taken."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import skew

from ddlight.core.errors import UsageError
from ddlight.data import Digits
from ddlight.methods.generative.d3hr import D3HR, denoised, group_losses, inverted
from ddlight.methods.generative.engine.latents import real_images
from ddlight.methods.generative.engine.schedule import Schedule, leading, linear_betas


def smooth(x, t):
    """A network whose answer changes slowly along the way, as a trained one's does."""
    return torch.sin(x / 3 + t / 1000), None


def test_inversion_is_the_published_formula_and_asks_at_the_level_that_it_goes_to():
    timesteps = leading(50)[:5]
    schedule, abar, told = Schedule(linear_betas(), timesteps), np.cumprod(1 - linear_betas()), []
    start = torch.randn(1, 4, 3, 3, dtype=torch.float64)

    def predict(x, t):
        told.append(t)
        return smooth(x, t)

    got, z = inverted(predict, schedule, start), start
    for i in (1, 2, 3, 4):
        a, b = abar[20 * (i - 1)], abar[20 * i]
        eps, _ = smooth(z, 20 * i)
        z = math.sqrt(b / a) * (z - math.sqrt(1 - a) * eps) + math.sqrt(1 - b) * eps
    torch.testing.assert_close(got, z)
    assert told == [20, 40, 60, 80]


def test_the_way_back_meets_the_inversion_at_its_level_and_comes_near_the_start():
    schedule = Schedule(linear_betas(), leading(50)[:32])
    assert schedule.timesteps[-1] == 620  # the level at which denoising begins
    torch.manual_seed(0)
    start, told = torch.randn(2, 4, 8, 8, dtype=torch.float64), []

    def predict(x, t):
        told.append(t)
        return smooth(x, t)

    back = denoised(predict, schedule, inverted(predict, schedule, start))
    assert told[30] == told[31] == 620
    error = (back - start).norm() / start.norm()
    assert error < 0.05  # asked at other points on the way: not exact, and that is what is lost
    constant = lambda x, t: (torch.ones_like(x), None)  # noqa: E731
    torch.testing.assert_close(denoised(constant, schedule, inverted(constant, schedule, start)), start)


def test_the_loss_of_groups_is_that_of_numpy_and_scipy():
    rng = np.random.default_rng(0)
    groups, mean, deviation = rng.standard_normal((3, 4, 50)), rng.standard_normal(50), rng.random(50) + 0.5
    got = group_losses(*map(torch.from_numpy, (groups, mean, deviation)), 0.5)
    for group, loss in zip(groups, got.tolist(), strict=True):
        standard = (group - mean) / deviation
        skewness = [50 / (49 * 48) * sum(value**3 for value in draw) for draw in standard]
        expected = np.linalg.norm(group.mean(0) - mean) + np.linalg.norm(group.std(0, ddof=1) - deviation)
        assert loss == pytest.approx(expected + 0.5 * np.linalg.norm(skewness))
    exact = rng.standard_normal((1, 1, 1000))
    exact = (exact - exact.mean()) / exact.std(ddof=1)  # then the formula is the adjusted skewness itself
    pair = torch.from_numpy(np.concatenate([exact, -exact], 1)), torch.zeros(1000), torch.ones(1000)
    factor, plain = (group_losses(*pair, weight) for weight in (1.0, 0.0))
    own = skew(exact.ravel(), bias=False)
    assert float(factor - plain) == pytest.approx(math.sqrt(2) * abs(own), rel=1e-3)


def test_statistics_are_those_of_the_inverted_images(build):
    data = build(D3HR, depth=2, groups=5, guidance=2.0)
    schedule, model = Schedule(data.model.betas, leading(4)[:3]), data.model
    images = torch.cat(list(real_images(data.dataset, model, data.needed[0].rows(6), "centre")))
    predict = model.guided(model.condition([6] * len(images)), 2.0, 4)
    with torch.no_grad():
        z = inverted(predict, schedule, images).flatten(1)
    kept = data.needed[0].of_class(6)
    torch.testing.assert_close(kept["mean"], z.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(kept["deviation"], z.std(0), rtol=1e-3, atol=1e-4)
    assert build(D3HR, depth=2, groups=9, ipc=5, guidance=2.0, prepare=False).needed[0].exists  # shared by sets


def test_the_best_of_more_groups_is_no_worse_and_classes_have_draws_of_their_own(build, monkeypatch):
    monkeypatch.setattr("ddlight.methods.generative.d3hr.AT_ONCE", 3 * 2 * 64)  # three groups at a time
    few, many = build(D3HR, depth=2, groups=3), build(D3HR, depth=2, groups=40)
    kept = few.needed[0].of_class(1)
    losses = [
        float(group_losses(torch.from_numpy(d.chosen(1))[None], kept["mean"], kept["deviation"], 0.5))
        for d in (few, many)
    ]
    assert losses[1] < losses[0]
    standard = [
        (few.chosen(c) - few.needed[0].of_class(c)["mean"].numpy()) / few.needed[0].of_class(c)["deviation"].numpy()
        for c in (1, 2)
    ]
    inside = np.isfinite(standard[0]) & np.isfinite(standard[1])
    assert np.abs(standard[0] - standard[1])[inside].mean() > 0.1


@pytest.mark.parametrize(("option", "said"), [({"depth": 50}, "depth is 1 to 49"), ({"ipc": 1}, "ipc=2 or more")])
def test_what_cannot_be_is_refused(option, said):
    with pytest.raises(UsageError, match=said):
        D3HR(Digits(size=8), **option)

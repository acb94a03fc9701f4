"""MGD3: modes, the pull and its schedule."""

import numpy as np
import pytest
import torch

from ddlight.methods.generative.dit import DiT
from ddlight.methods.generative.engine.schedule import Schedule, ancestral, linear_betas, spread
from ddlight.methods.generative.mgd3 import MGD3, kmeans, mode_pull, nearest_points


def test_modes_are_the_means_of_clusters():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [10, 0], [0, 10]], np.float32)
    points = (centres[:, None] + 0.1 * rng.standard_normal((3, 20, 2))).reshape(-1, 2).astype(np.float32)
    modes = kmeans(points, 3, seed=0).cluster_centers_.astype(np.float32)
    means = points.reshape(3, 20, 2).mean(1)
    np.testing.assert_allclose(modes[np.lexsort(modes.T)], means[np.lexsort(means.T)], atol=1e-5)
    real = nearest_points(points, modes)
    assert all(any((row == point).all() for point in points) for row in real)
    assert np.abs(real - modes).max() < 0.3


def test_a_guided_step_is_the_mean_plus_lambda_sigma_and_the_gap_and_nothing_else():
    """The whole loop by hand: no term of a manifold, 24 of 50 steps guided, plain sampling after that."""
    torch.manual_seed(0)
    schedule = Schedule(linear_betas(), spread(50))
    start, noise, mode = torch.randn(1, 4, 3, 3), torch.randn(50, 1, 4, 3, 3), torch.randn(1, 4, 3, 3)

    def predict(x, t):
        return torch.sin(x), torch.cos(2 * x)

    got = ancestral(predict, schedule, start, lambda i: noise[i], lambda s: mode_pull(s, mode, 0.1, 25))
    x, pulled = start, []
    for i in range(49, -1, -1):
        step = schedule.step(x, i, *predict(x, 0))
        sigma = (0.5 * step.log_var).exp()
        x = step.mean
        if i > 25:
            x = x + 0.1 * sigma * (mode - step.x0)
            pulled.append(i)
        if i:
            x = x + sigma * noise[i]
    torch.testing.assert_close(got, x)
    assert len(pulled) == 24


def test_images_are_pulled_towards_their_own_modes(build):
    data = build(MGD3, ipc=3, stop=0, batch=3, strength=3.0, flip=False)
    plain = build(DiT, ipc=3, batch=3)
    modes = data.targets(data.modes(4), range(3))
    with torch.no_grad():
        near, far = data.draw(4, range(3)), plain.draw(4, range(3))
    own = [(x - m).norm() for x, m in zip(near, modes, strict=True)]
    assert all(a < (x - m).norm() for a, x, m in zip(own, far, modes, strict=True))
    points = data.needed[0].points(4)
    np.testing.assert_array_equal(data.modes(4), kmeans(points, 3, seed=0).cluster_centers_.astype(np.float32))


def test_a_stop_at_the_last_step_is_plain_sampling(build):
    data, plain = build(MGD3, stop=4), build(DiT)
    np.testing.assert_array_equal(data.make(data.units()[3]).images, plain.make(plain.units()[3]).images)
    assert data.make(data.units()[3]).source_images == int((data.dataset.index("train").labels == 3).sum())


@pytest.mark.parametrize("option", [{"closest": True}, {"strength": 0.2}, {"stop": 1}])
def test_options_shape_the_set(build, option):
    given, default = build(MGD3, stop=2, prepare=False), build(MGD3, **{"stop": 2, **option}, prepare=False)
    assert given.fingerprint != default.fingerprint

"""What tests of matching methods share: digits of 8 pixels, a tiny network, finite differences."""

import pytest
import torch

from ddlight.data import Digits
from ddlight.networks.students import ConvNet

SIZE = 8
NETWORK = ConvNet(1, 4)


@pytest.fixture
def make(home):
    """Build a method on digits of 8 pixels: make(DM, iterations=..., cache="cache", ...)."""
    torch.set_num_threads(1)

    def build(method, ipc=2, seed=0, cache="cache", iterations=3, student=NETWORK, **options):
        data = Digits(size=SIZE)
        return method(data, ipc, seed, str(home / cache), student=student, iterations=iterations, **options)

    return build


@pytest.fixture
def slope():
    """Slope of a function of a float64 tensor along a direction, by central differences: slope(f, x, direction)."""

    def measure(function, x, direction, step=1e-6):
        values = [function(x.detach() + sign * step * direction) for sign in (1, -1)]
        high, low = (value.detach().item() if isinstance(value, torch.Tensor) else value for value in values)
        return (high - low) / (2 * step)

    return measure


class Stop(Exception):
    """What a killed process looks like from inside."""


@pytest.fixture
def killed(monkeypatch):
    """Let a method keep its progress after every iteration and die in iteration number `at`: killed(data, at)."""
    from ddlight.methods.matching.engine import matched

    def kill(data, at):
        step = data.step

        def stopping(learned, iteration):
            if iteration == at:
                raise Stop
            return step(learned, iteration)

        with monkeypatch.context() as patch:
            patch.setattr(matched, "SAVE_SECONDS", -1.0)
            patch.setattr(data, "step", stopping)
            with pytest.raises(Stop):
                data.condense()
        return data

    return kill

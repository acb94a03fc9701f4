"""A small teacher with random weights, and a block of images that is recovered from it."""

import numpy as np
import pytest
import torch

from ddlight.core.randomness import generator
from ddlight.methods.images import NormalisedSpace
from ddlight.methods.recovery.engine.loop import Objective
from ddlight.methods.recovery.engine.observer import Observer
from ddlight.methods.recovery.engine.options import Recovery
from ddlight.methods.recovery.engine.statistics import Statistics
from ddlight.methods.recovery.engine.views import Views
from ddlight.networks.students import ConvNet
from ddlight.networks.teachers import Input, Teacher

CPU = torch.device("cpu")
CLASSES = 5


class Untrained(Teacher):
    """A student with random weights and made-up running statistics."""

    def __init__(self, student=None, channels=3, size=16, taken=None, seed=0):
        super().__init__()
        self.student, self.channels, self.size, self.seed = student or ConvNet(2, 6, "batch"), channels, size, seed
        self.taken = taken or Input((0.5,) * channels, (0.25,) * channels, size)
        self.load(CLASSES, channels, size)

    @property
    def _title(self):
        return "untrained"

    def _open(self, num_classes):
        torch.manual_seed(self.seed)
        network = self.student.build(num_classes, self.channels, self.size)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        return network, self.taken


@pytest.fixture
def untrained():
    """The class above."""
    torch.set_num_threads(1)
    return Untrained


@pytest.fixture
def block(untrained):
    """Build a block: block(teachers=[...], iterations=..., ...) gives the block and its first images."""

    def build(teachers=None, seed=0, losses=None, whole=16, watch=None, **numbers):
        recovery = Recovery(**{"iterations": 4, "lr": 0.25, "roll": 3, **numbers})
        space = NormalisedSpace((0.5,) * 3, (0.25,) * 3)

        def measure(network):
            return Statistics(network, recovery.first_weight, recovery.var_weight)

        observers = [Observer(t, space, CPU, measure, recovery.precision) for t in teachers or [untrained()]]
        floors = np.full(recovery.iterations, recovery.min_crop)
        views = Views(generator(seed, "views"), floors, recovery.iterations, recovery.shifts, True)
        noise = generator(seed, "noise").standard_normal((CLASSES, 3, whole, whole), np.float32)
        parts = (recovery, space, torch.arange(CLASSES), observers, views, whole, losses or {}, watch)
        return Objective(*parts), torch.from_numpy(noise)

    return build

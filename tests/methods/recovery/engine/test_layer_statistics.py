"""The statistics' loss against one that goes through the network layer by layer, without hooks, in numpy."""

import numpy as np
import pytest
import torch
from torch import nn

from ddlight.methods.images import NormalisedSpace
from ddlight.methods.recovery.engine.observer import Observer
from ddlight.methods.recovery.engine.statistics import Statistics
from ddlight.networks.students import ConvNet, ResNet

CPU = torch.device("cpu")
SPACE = NormalisedSpace((0.5,) * 3, (0.25,) * 3)


def by_hand(network, inputs):
    """|mean - RM| and |var - RV| of each BatchNorm layer, walking through a ConvNet."""
    found, maps = [], inputs
    for layer in network.features:
        if isinstance(layer, nn.BatchNorm2d):
            values = maps.detach().numpy().astype(np.float64).transpose(1, 0, 2, 3).reshape(maps.shape[1], -1)
            mean, variance = values.mean(1), values.var(1)
            norms = (mean - layer.running_mean.numpy(), variance - layer.running_var.numpy())
            found.append([np.sqrt((n**2).sum()) for n in norms])
        maps = layer(maps)
    return np.array(found)


@pytest.mark.parametrize(("first", "var_weight"), [(10.0, 1.0), (1.0, 1.0), (10.0, 2.0), (3.0, 11.0)])
def test_loss_is_the_sum_of_unsquared_norms_with_its_weights(untrained, first, var_weight):
    teacher, images = untrained(ConvNet(3, 6, "batch")), torch.randn(7, 3, 16, 16)
    observer = Observer(teacher, SPACE, CPU, lambda network: Statistics(network, first, var_weight))
    logits, measured = observer(images)
    norms = by_hand(teacher.network, images)
    expected = ((norms[:, 0] + var_weight * norms[:, 1]) * [first, 1, 1]).sum()
    assert len(norms) == len(measured) == 3
    assert float(observer.statistics.loss(measured)) == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(logits, teacher.network(images))


def test_layers_are_matched_in_module_order_whatever_the_order_of_the_passes(untrained):
    """A ResNet calls the norm of its shortcut after those that are registered before it, or not."""
    teacher = untrained(ResNet(18), size=8)
    observer = Observer(teacher, SPACE, CPU)
    names = [m for m in observer.network.modules() if isinstance(m, nn.BatchNorm2d)]
    _, measured = observer(torch.randn(4, 3, 8, 8))
    assert list(measured) == list(range(20))
    for layer, module in enumerate(names):
        assert len(measured[layer][0]) == module.num_features
        assert observer.statistics.target(layer)[0] is module.running_mean


def test_the_gradient_reaches_the_images(untrained):
    images = torch.randn(4, 3, 16, 16, requires_grad=True)
    observer = Observer(untrained(), SPACE, CPU)
    loss = observer.statistics.loss(observer(images)[1])
    (gradient,) = torch.autograd.grad(loss, images)
    step = 1e-3 * gradient / gradient.norm()
    lower = observer.statistics.loss(observer(images - step)[1])
    assert float((loss - lower).detach()) == pytest.approx(1e-3 * float(gradient.norm()), rel=0.05)


def test_a_network_without_batch_norm_has_nothing_to_match(untrained):
    observer = Observer(untrained(ConvNet(2, 6)), SPACE, CPU)
    measured = observer(torch.randn(2, 3, 16, 16))[1]
    assert measured == {}
    assert float(observer.statistics.loss(measured)) == 0


def test_statistics_that_fit_cost_nothing_and_noise_costs_much(untrained):
    """Running statistics that were taken from a batch: that batch matches them."""
    teacher, images = untrained(ConvNet(1, 6, "batch")), torch.randn(50, 3, 16, 16)
    maps = teacher.network.features[0](images)
    norm = teacher.network.features[1]
    norm.running_mean.copy_(maps.mean((0, 2, 3)))
    norm.running_var.copy_(maps.var((0, 2, 3), correction=0))
    observer = Observer(teacher, SPACE, CPU)
    close, far = (float(observer.statistics.loss(observer(x)[1])) for x in (images, 3 * images + 1))
    assert close < 1e-4 < 1 < far

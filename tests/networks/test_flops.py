"""Operations against counts by hand, and students that cannot take an image."""

import pytest
import torch

from ddlight.core.errors import UsageError
from ddlight.networks.flops import activations, build_checked, forward_flops
from ddlight.networks.students import MLP, ConvNet, Timm


def test_operations_of_an_mlp_are_its_matrix_products():
    network = MLP(width=16, depth=3).build(10, 1, 8)
    assert forward_flops(network, 1, 8) == 2 * (64 * 16 + 16 * 16 + 16 * 10)


def test_operations_of_a_convnet():
    network = ConvNet(depth=1, width=4).build(3, 1, 8)
    assert forward_flops(network, 1, 8) == 2 * (8 * 8 * 4 * 9 + 4 * 4 * 4 * 3)


def test_counting_leaves_the_network_alone():
    network = ConvNet(width=8).build(10, 3, 32).train()
    before = {n: v.clone() for n, v in network.state_dict().items()}
    forward_flops(network, 3, 32)
    assert network.training and all(torch.equal(v, before[n]) for n, v in network.state_dict().items())


def test_a_student_that_cannot_take_the_image_is_refused():
    with pytest.raises(UsageError, match=r"test_convnext.*cannot take images of 1 x 8 x 8"):
        build_checked(Timm("test_convnext"), 10, 1, 8)
    assert build_checked(Timm("test_resnet"), 10, 1, 32) is not None


def test_activations_are_what_convolutions_and_linear_layers_give():
    assert activations(ConvNet(2, 4).build(10, 3, 16), 3, 16) == 4 * 16 * 16 + 4 * 8 * 8 + 10

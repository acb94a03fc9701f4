"""Heads and features of networks of every origin."""

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from ddlight.core.errors import UsageError
from ddlight.networks.layers import HalvingPool, count_classes, embed_with_logits, heads, keep_classes, replace_head
from ddlight.networks.students import MLP, ConvNet, ResNet, ResNetAP

NAMES = {
    "resnet18": "fc",
    "mobilenet_v2": "classifier.1",
    "squeezenet1_1": "classifier.1",
    "shufflenet_v2_x0_5": "fc",
    "densenet121": "classifier",
    "swin_t": "head",
    "vit_b_32": "heads.head",
}


@pytest.mark.parametrize("name", NAMES)
def test_heads_of_torchvision(name):
    with torch.device("meta"):
        network = torchvision.models.get_model(name, num_classes=13)
    assert list(heads(network)) == [NAMES[name]] and count_classes(network) == 13


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet10t", ["fc"]),
        ("convnext_atto", ["head.fc"]),
        ("vit_tiny_patch16_224", ["head"]),
        ("deit_tiny_distilled_patch16_224", ["head", "head_dist"]),
        ("tf_efficientnet_lite0", ["classifier"]),
    ],
)
def test_heads_of_timm(name, expected):
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=13)
    assert list(heads(network)) == expected and count_classes(network) == 13


def test_a_network_without_head_is_refused():
    with pytest.raises(UsageError, match="Identity does not end in a linear layer"):
        heads(nn.Identity())


@pytest.mark.parametrize("network", ["torchvision:squeezenet1_1", "timm:deit_tiny_distilled_patch16_224", "ours"])
def test_kept_classes_are_columns_of_the_logits(network):
    where, _, name = network.partition(":")
    if where == "ours":
        network = ConvNet(width=4).build(9, 3, 224)
    else:
        network = (timm.create_model if where == "timm" else torchvision.models.get_model)(name, num_classes=9)
    network.eval()
    images = torch.randn(2, 3, 224, 224)
    full = network(images).detach()
    keep_classes(network, [7, 0, 3])
    assert count_classes(network) == 3
    torch.testing.assert_close(network(images), full[:, [7, 0, 3]])


def test_a_new_head_keeps_the_rest():
    for name, old in (("shufflenet_v2_x0_5", "fc.weight"), ("squeezenet1_1", "classifier.1.weight")):
        network = torchvision.models.get_model(name, num_classes=9)
        before = {k: v.clone() for k, v in network.state_dict().items()}
        replace_head(network, 4)
        after = network.state_dict()
        assert list(after) == list(before) and after[old].shape[0] == 4
        assert all(torch.equal(before[k], after[k]) for k in before if not k.startswith(old.rpartition(".")[0]))


@pytest.mark.parametrize("student", [ConvNet(width=8), MLP(), ResNetAP(), ResNet(18)])
def test_embed_is_what_enters_the_head(student):
    network = student.build(5, 3, 32).eval()
    images = torch.randn(2, 3, 32, 32, requires_grad=True)
    features, logits = embed_with_logits(network, images)
    (head,) = heads(network).values()
    torch.testing.assert_close(head(features), network(images))
    torch.testing.assert_close(logits, network(images))
    features.sum().backward()
    assert images.grad.abs().sum() > 0
    assert not head._forward_pre_hooks


@pytest.mark.parametrize("sides", [(6, 8), (7, 5)])
def test_halving_pool_is_average_pooling_compiled_or_not(sides):
    images, pool, traced = torch.randn(2, 3, *sides), HalvingPool(), []

    def backend(graph, _):
        traced.extend(node.target for node in graph.graph.nodes)
        return graph

    for found in (pool(images), torch.compile(pool, backend=backend)(images)):
        torch.testing.assert_close(found, torch.nn.functional.avg_pool2d(images, 2))
    assert "mean" in traced


# --- pooling ---


@pytest.mark.parametrize("shape", [(3, 2, 8, 8), (40, 8, 64, 64), (2, 3, 7, 6), (2, 3, 6, 10), (0, 3, 4, 4)])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_pooling_has_the_bits_of_torchs_in_values_and_gradients(shape, form):
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(memory_format=form)
    ours, theirs = (images.clone(memory_format=torch.preserve_format).requires_grad_() for _ in range(2))
    answers = HalvingPool()(ours), F.avg_pool2d(theirs, 2)
    weight = torch.randn(answers[0].shape, generator=torch.Generator().manual_seed(1))
    for answer in answers:
        (answer * weight).sum().backward()
    assert torch.equal(*answers) and torch.equal(ours.grad, theirs.grad)
    assert answers[0].stride() == answers[1].stride() and ours.grad.stride() == theirs.grad.stride()


def test_pooling_in_half_and_double_precision_is_torchs():
    for kind in (torch.bfloat16, torch.float64):
        images = torch.randn(2, 3, 8, 8, dtype=kind)
        assert torch.equal(HalvingPool()(images), F.avg_pool2d(images, 2))


def test_second_derivatives_pass_through_pooling():
    def twice(pool, images):
        (gradient,) = torch.autograd.grad((pool(images) ** 3).sum(), images, create_graph=True)
        return torch.autograd.grad((gradient**2).sum(), images)[0]

    images = torch.randn(2, 3, 8, 8, requires_grad=True)
    torch.testing.assert_close(twice(HalvingPool(), images), twice(lambda x: F.avg_pool2d(x, 2), images))


def test_functional_transforms_pass_through_pooling():
    images = torch.randn(4, 2, 3, 8, 8)

    def loss(pool):
        return torch.func.vmap(torch.func.grad(lambda x: (pool(x) ** 3).sum()), in_dims=1)(images)

    torch.testing.assert_close(loss(HalvingPool()), loss(lambda x: F.avg_pool2d(x, 2)))

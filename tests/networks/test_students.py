"""Students: sizes known from the literature, outputs against independent definitions, and plain timm/torchvision."""

import subprocess
import sys
from dataclasses import FrozenInstanceError

import jsonargparse
import pytest
import timm
import torch
import torchvision
from torch.nn import functional as F

from ddlight.core.errors import UsageError
from ddlight.networks.layers import embed_with_logits
from ddlight.networks.students import MLP, ConvNet, ResNet, ResNetAP, Student, Timm, Torchvision


def count(network):
    return sum(p.numel() for p in network.parameters())


def shaken(network):
    """Give every parameter and running statistic another value, so that an unused or misplaced one shows."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
        for name, b in network.named_buffers():
            if "running" in name:
                b.add_(torch.rand(b.shape, generator=generator))
    return network


@pytest.mark.parametrize(
    ("student", "shape", "expected"),
    [
        (ConvNet(3), (10, 1, 28), 317_706),
        (ConvNet(3), (10, 3, 32), 320_010),
        (ConvNet(3), (100, 3, 32), 504_420),
        (ConvNet(4), (200, 3, 64), 857_160),
        (ConvNet(6), (10, 3, 224), 754_570),
        (ResNet(18, norm="instance"), (10, 3, 224), 11_181_642),
        (ResNetAP(10), (10, 3, 224), 4_910_922),
        (ResNetAP(10), (100, 3, 224), 4_957_092),
        (ResNetAP(10), (1000, 3, 224), 5_418_792),
        (ResNet(50, norm="instance"), (1000, 3, 224), 25_557_032),
        (ResNet(101), (1000, 3, 224), 44_549_160),
        (MLP(), (10, 1, 28), 784 * 128 + 128 + 128 * 128 + 128 + 1290),
    ],
)
def test_parameter_counts_are_the_published_ones(student, shape, expected):
    assert count(student.build(*shape)) == expected


def test_importing_students_imports_nothing_heavy():
    code = (
        "import sys, ddlight.networks.students as s; s.ConvNet(); s.Timm('resnet18');"
        "print([m for m in ('torch', 'timm', 'torchvision', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize(("channels", "size", "pad"), [(1, 28, 3), (1, 32, 1), (3, 32, 1), (3, 28, 1)])
def test_convnet_computes_its_definition(norm, channels, size, pad):
    network = shaken(ConvNet(depth=2, width=6, norm=norm).build(5, channels, size)).eval()
    images = torch.randn(3, channels, size, size)
    weights = iter(network.features.state_dict().values())
    x = images
    for block in range(2):
        x = F.conv2d(x, next(weights), next(weights), padding=pad if block == 0 else 1)
        if norm == "instance":
            x = F.instance_norm(x, weight=next(weights), bias=next(weights))
        elif norm == "batch":
            scale, shift, mean, var, _ = (next(weights) for _ in range(5))
            x = F.batch_norm(x, mean, var, scale, shift)
        x = F.avg_pool2d(x.relu(), 2)
    features = x.flatten(1)
    torch.testing.assert_close(embed_with_logits(network, images)[0], features)
    expected = F.linear(features, network.classifier.weight, network.classifier.bias)
    torch.testing.assert_close(network(images), expected)


def test_convnet_has_the_names_of_the_original_repository():
    names = list(ConvNet(depth=1, width=4).build(10, 1, 28).state_dict())
    assert names == [f"{n}.{p}" for n in ("features.0", "features.1", "classifier") for p in ("weight", "bias")]


def test_convnet_says_which_depth_fits():
    ConvNet(depth=5, width=2).build(10, 3, 32)
    ConvNet(depth=5, width=2).build(10, 1, 28)
    with pytest.raises(UsageError, match=r"needs 64 pixels; the images have 32. Give depth: 5 or less"):
        ConvNet(depth=6).build(10, 3, 32)
    with pytest.raises(UsageError, match="Give depth: 4 or less"):
        ConvNet(depth=5).build(10, 3, 28)


def test_mlp_computes_its_definition():
    network = MLP(width=7, depth=3).build(4, 3, 8)
    images = torch.randn(5, 3, 8, 8)
    w1, b1, w2, b2, w3, b3 = network.parameters()
    expected = F.linear(F.linear(F.linear(images.flatten(1), w1, b1).relu(), w2, b2).relu(), w3, b3)
    torch.testing.assert_close(network(images), expected)


def resnet_ap_by_hand(state, x, kernel, pool):
    """ResNetAP-10 with instance normalisation, written out from its description."""

    def conv(x, name):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)

    def norm(x, name):
        return F.instance_norm(x, weight=state[f"{name}.weight"], bias=state[f"{name}.bias"])

    assert state["layer0.conv1.weight"].shape[-1] == kernel
    x = F.avg_pool2d(norm(conv(x, "layer0.conv1"), "layer0.bn1").relu(), pool)
    for stage in (1, 2, 3, 4):
        at, shortcut = f"layer{stage}.0", x
        out = norm(conv(x, f"{at}.conv1"), f"{at}.bn1").relu()
        if stage > 1:
            out = F.avg_pool2d(out, 2)
            shortcut = norm(F.avg_pool2d(conv(x, f"{at}.downsample.0"), 2), f"{at}.downsample.2")
        x = (norm(conv(out, f"{at}.conv2"), f"{at}.bn2") + shortcut).relu()
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize(("size", "kernel", "pool"), [(160, 7, 4), (96, 3, 2), (32, 3, 1)])
def test_resnet_ap_computes_its_definition(size, kernel, pool):
    network = shaken(ResNetAP().build(3, 3, size))
    images = torch.randn(1, 3, size, size)
    expected = resnet_ap_by_hand(network.state_dict(), images, kernel, pool)
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("student", [ResNetAP(), ResNet(18, "instance"), ResNet(18, stem="small"), ResNet(18)])
def test_convolutions_start_normal_with_the_published_deviation(student):
    torch.manual_seed(0)
    network = student.build(10, 3, 96)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d) and m.weight.numel() > 5000]
    assert len(convolutions) >= 10
    for m in (network.conv1, *convolutions) if hasattr(network, "conv1") else convolutions:
        fan = m.kernel_size[0] * m.kernel_size[1] * m.out_channels
        assert m.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.1)
        assert m.bias is None


@pytest.mark.parametrize("depth", [18, 50])
def test_resnet_at_224_is_plain_torchvision(depth):
    network = shaken(ResNet(depth).build(7, 3, 224)).eval()
    plain = torchvision.models.get_model(f"resnet{depth}", num_classes=7).eval()
    plain.load_state_dict(network.state_dict())
    images = torch.randn(1, 3, 80, 80)
    torch.testing.assert_close(network(images), plain(images))


def test_resnet_with_instance_norm_is_torchvision_with_one_group_a_channel():
    network = shaken(ResNet(18, norm="instance").build(7, 3, 96))
    plain = torchvision.models.resnet18(num_classes=7, norm_layer=lambda c: torch.nn.GroupNorm(c, c))
    plain.load_state_dict(network.state_dict())
    images = torch.randn(1, 3, 96, 96)
    torch.testing.assert_close(network(images), plain(images))
    assert not list(network.buffers())


def test_resnet_small_stem_keeps_the_resolution():
    network = ResNet(18).build(10, 1, 32)
    x = torch.randn(1, 1, 32, 32)
    seen = network.layer1(network.maxpool(network.relu(network.bn1(network.conv1(x)))))
    assert seen.shape == (1, 64, 32, 32)
    assert network(x).shape == (1, 10)
    assert ResNet(18).build(10, 3, 65).conv1.kernel_size == (7, 7)
    assert ResNet(18, stem="small").build(10, 3, 65).conv1.kernel_size == (3, 3)
    assert ResNet(18, stem="imagenet").build(10, 1, 32).conv1.weight.shape == (64, 1, 7, 7)


def test_instance_norm_of_single_pixels_is_refused():
    with pytest.raises(UsageError, match=r"1 x 1 maps for images of 32 pixels.*stem: small"):
        ResNet(18, norm="instance", stem="imagenet").build(10, 3, 32)
    with pytest.raises(UsageError, match="ResNetAP-10"):
        ResNetAP().build(10, 3, 8)
    ResNetAP(norm="batch").build(10, 3, 8)


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_timm_students_load_in_plain_timm(name):
    network = shaken(Timm(name).build(6, 1, 32)).eval()
    size = {"img_size": 32} if "vit" in name else {}
    plain = timm.create_model(name, num_classes=6, in_chans=1, **size).eval()
    plain.load_state_dict(network.state_dict())
    images = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(network(images), plain(images))


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "googlenet"])
def test_torchvision_students_load_in_plain_torchvision(name):
    network = shaken(Torchvision(name).build(6, 3, 64)).eval()
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    plain = torchvision.models.get_model(name, num_classes=6, **options).eval()
    plain.load_state_dict(network.state_dict())
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(network(images), plain(images))
    assert isinstance(network.train()(torch.randn(2, 3, 64, 64)), torch.Tensor)


def test_torchvision_transformers_are_built_for_the_size_of_the_images():
    with torch.device("meta"):
        network = Torchvision("vit_b_32").build(6, 3, 64)
        plain = torchvision.models.vit_b_32(image_size=64, num_classes=6)
    shapes = {k: v.shape for k, v in network.state_dict().items()}
    assert shapes == {k: v.shape for k, v in plain.state_dict().items()}


def test_unknown_names_give_the_nearest():
    with pytest.raises(UsageError, match=r"timm has no model 'resnet_18'.*resnet18"):
        Timm("resnet_18").build(10, 3, 32)
    with pytest.raises(UsageError, match=r"resnet18 has no weights 'a9_in1k'.*a1_in1k"):
        Timm("resnet18.a9_in1k").build(10, 3, 32)
    with pytest.raises(UsageError, match=r"torchvision has no classifier 'mobilenetv2'.*mobilenet_v2"):
        Torchvision("mobilenetv2").build(10, 3, 224)
    with pytest.raises(UsageError, match=r"no weights 'IMAGENET1K' for resnet50.*IMAGENET1K_V1"):
        Torchvision("resnet50", weights="IMAGENET1K").build(10, 3, 224)


def test_images_that_a_named_network_cannot_take_are_refused():
    with pytest.raises(UsageError, match="takes images of 3 channels, these have 1"):
        Torchvision("resnet18").build(10, 1, 28)
    with pytest.raises(UsageError, match="alexnet needs images of 63 pixels or more; these have 32"):
        Torchvision("alexnet").build(10, 3, 32)
    with pytest.raises(UsageError, match="torchvision cannot build vit_b_16 for images of 30 pixels"):
        Torchvision("vit_b_16").build(10, 3, 30)


@pytest.mark.parametrize(
    ("cls", "args"),
    [
        (ConvNet, {"norm": "layer"}),
        (ConvNet, {"depth": 0}),
        (MLP, {"width": 0}),
        (ResNet, {"depth": 34}),
        (ResNet, {"stem": "tiny"}),
        (ResNetAP, {"norm": "none"}),
    ],
)
def test_values_that_do_not_exist_are_refused_at_once(cls, args):
    with pytest.raises(UsageError, match=f"{cls.__name__} .*{next(iter(args))}.*Allowed: "):
        cls(**args)


def test_students_are_frozen_values():
    assert ConvNet(3) == ConvNet() and ConvNet(4) != ConvNet()
    with pytest.raises(FrozenInstanceError):
        ConvNet().depth = 4


def test_students_are_read_from_configurations():
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--student", type=Student)
    given = parser.parse_args(["--student=ResNet", "--student.depth=50", "--student.norm=instance"])
    assert parser.instantiate_classes(given).student == ResNet(50, "instance")
    with pytest.raises(jsonargparse.ArgumentError):
        parser.parse_args(["--student=ConvNet", "--student.norm=layer"])

"""ResNet on torchvision's topology, and ResNetAP, whose strides are average pooling."""

from collections import OrderedDict
from functools import partial
from itertools import pairwise

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.resnet import ResNet as TorchvisionResNet

from ddlight.core.errors import UsageError
from ddlight.networks.layers import norm_layer

RESNETS: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}


def resnet(
    num_classes: int, channels: int, size: int, depth: int = 18, norm: str = "batch", stem: str = "auto"
) -> TorchvisionResNet:
    """Return a ResNet with torchvision's topology, names and initialisation.

    With three channels, batch normalisation and the "imagenet" stem it is torchvision's own network. The "small" stem
    (3x3 convolution of stride 1, no max-pooling) is that of the networks which RDED (arXiv 2312.03526) and SRe2L
    (arXiv 2306.13092) use for CIFAR and Tiny-ImageNet, under the same names. Convolutions start normal with standard
    deviation sqrt(2 / (k·k·C_out)).

    Options as in `students.ResNet`. Instance normalisation is that of the hard-label code of IDC (arXiv 2205.14959) and
    Minimax (arXiv 2311.15529); UsageError where the last maps would have one pixel, of which it leaves nothing.
    """
    small = stem == "small" or (stem == "auto" and size <= 64)
    _check_last_maps(f"ResNet-{depth}", norm, size, -(-size // (8 if small else 32)), small)
    block, layers = RESNETS[depth]
    network = TorchvisionResNet(block, list(layers), num_classes, norm_layer=partial(norm_layer, norm))
    if small:
        network.maxpool = nn.Identity()  # type: ignore[assignment]
    if small or channels != 3:
        kernel, stride = (3, 1) if small else (7, 2)
        network.conv1 = nn.Conv2d(channels, 64, kernel, stride, padding=kernel // 2, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    return network


def _check_last_maps(name: str, norm: str, size: int, side: int, small: bool) -> None:
    """Refuse images that leave no pixel, or one pixel to instance normalisation, in the last stage."""
    if side >= (2 if norm == "instance" else 1):
        return
    way_out = "larger images" if small else "larger images or stem: small"
    raise UsageError(
        f"{name} with norm: {norm} is left with {side} x {side} maps for images of {size} pixels. "
        f"Give {way_out}{', or norm: batch' if side else ''}."
    )


class BlockAP(nn.Module):
    """A basic residual block in which average pooling stands for the stride: `pool` is 2 to halve the maps, else 1."""

    def __init__(self, inside: int, outside: int, pool: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
        self.bn1 = norm_layer(norm, outside)
        self.pool = nn.AvgPool2d(pool)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.bn2 = norm_layer(norm, outside)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if pool != 1 or inside != outside:
            projection = nn.Conv2d(inside, outside, 1, bias=False)
            self.downsample = nn.Sequential(projection, nn.AvgPool2d(pool), norm_layer(norm, outside))

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (B, outside, H / pool, W / pool) of maps (B, inside, H, W)."""
        out = self.pool(self.relu(self.bn1(self.conv1(maps))))
        return self.relu(self.bn2(self.conv2(out)) + self.downsample(maps))


class ResNetAPNetwork(nn.Module):
    """ResNetAP, the student of the hard-label protocol (IDC, arXiv 2205.14959; Minimax, arXiv 2311.15529).

    No convolution is strided: a 7x7 stem and 4x4 average pooling above 128 pixels, a 3x3 stem with 2x2 pooling from 65
    to 128, without pooling up to 64; then four stages of 64, 128, 256 and 512 channels, of which the last three halve
    the maps by average pooling. Initialisation as in `resnet`. The names in the state dict are those of IDC's code.

    Depth 10 has one block in each stage, 18 two. UsageError where the images are too small.
    """

    def __init__(self, num_classes: int, channels: int, size: int, depth: int = 10, norm: str = "instance") -> None:
        super().__init__()
        kernel, pool = (7, 4) if size > 128 else (3, 2) if size > 64 else (3, 1)
        _check_last_maps(f"ResNetAP-{depth}", norm, size, size // pool // 8, small=True)
        stem = nn.Conv2d(channels, 64, kernel, padding=kernel // 2, bias=False)
        names = OrderedDict(conv1=stem, bn1=norm_layer(norm, 64), relu=nn.ReLU(inplace=True), pool=nn.AvgPool2d(pool))
        self.layer0 = nn.Sequential(names)
        stages = []
        for inside, outside in pairwise((64, 64, 128, 256, 512)):
            second = [BlockAP(outside, outside, 1, norm)] if depth == 18 else []
            stages.append(nn.Sequential(BlockAP(inside, outside, outside // inside, norm), *second))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(512, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of normalised images (B, channels, size, size)."""
        maps = self.layer1(self.layer0(images))
        return self.fc(self.layer4(self.layer3(self.layer2(maps))).mean(dim=(2, 3)))

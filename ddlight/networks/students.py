"""Students: frozen descriptions of the networks to be trained. Light: nothing heavy is imported before `build`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, get_args, get_origin, get_type_hints

from ddlight.core.errors import UsageError

if TYPE_CHECKING:
    from torch import nn


class Student(ABC):
    """Describes a network without building it. A student of your own is a frozen dataclass on this class.

    >>> network = ConvNet(depth=2, width=8).build(num_classes=10, channels=1, size=8)
    >>> network.classifier
    Linear(in_features=32, out_features=10, bias=True)
    """

    at_least_one: ClassVar[tuple[str, ...]] = ()  # options that are numbers from 1 on

    def __post_init__(self) -> None:
        for option, kind in get_type_hints(type(self)).items():
            value = getattr(self, option)
            if get_origin(kind) is Literal and value not in get_args(kind):
                choices = ", ".join(map(str, get_args(kind)))
                raise UsageError(f"{type(self).__name__} has no {option} {value!r}. Allowed: {choices}.")
            if option in self.at_least_one and value < 1:
                raise UsageError(f"{type(self).__name__} with {option}: {value}. Allowed: 1 or more.")

    @abstractmethod
    def build(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """Return the network, its weights drawn from torch's global generator.

        Args:
            num_classes: number of logits.
            channels: channels of the images: 1 or 3.
            size: height and width of the images in pixels.

        Returns:
            A module from normalised images (B, channels, size, size) to logits (B, num_classes).

        Raises:
            UsageError: the network does not exist or cannot take such images.
            DataError: trained weights are asked for and cannot be had.
        """

    def untrained(self) -> Student:
        """Return the same architecture without trained weights: what a saved state dict is loaded into."""
        return self


@dataclass(frozen=True)
class ConvNet(Student):
    """ConvNet-D, the usual student of small-image distillation (DC, arXiv 2006.05929).

    Depth 3 is used for 28 and 32 pixels, 4 for 64, 5 for 128, 6 for 224.

    Args:
        depth: number of blocks, each of which halves the image.
        width: channels of every convolution.
        norm: normalisation after each convolution; "instance" has no running statistics.
    """

    depth: int = 3
    width: int = 128
    norm: Literal["instance", "batch", "none"] = "instance"

    at_least_one = ("depth", "width")

    def build(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """Return the network; see `Student.build`."""
        from ddlight.networks.convnet import ConvNetwork

        return ConvNetwork(num_classes, channels, size, self.depth, self.width, self.norm)


@dataclass(frozen=True)
class MLP(Student):
    """Linear layers with ReLU on the flattened image (DC, arXiv 2006.05929).

    Args:
        width: units of each hidden layer.
        depth: number of linear layers, the classifier included.
    """

    width: int = 128
    depth: int = 3

    at_least_one = ("depth", "width")

    def build(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """Return the network; see `Student.build`."""
        from ddlight.networks.convnet import MLPNetwork

        return MLPNetwork(num_classes, channels, size, self.width, self.depth)


@dataclass(frozen=True)
class ResNet(Student):
    """ResNet on torchvision's topology; the defaults at 224 pixels are torchvision's own network.

    Args:
        depth: 18, 50 or 101.
        norm: "batch", or "instance" for the hard-label protocol of IDC, Minimax and MGD3 (GroupNorm, one channel a
            group).
        stem: "imagenet" (7x7 stride 2, max-pool), "small" (3x3 stride 1, no pooling), or "auto": "small" up to 64
            pixels.
    """

    depth: Literal[18, 50, 101] = 18
    norm: Literal["batch", "instance"] = "batch"
    stem: Literal["auto", "imagenet", "small"] = "auto"

    def build(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """Return the network; see `Student.build`."""
        from ddlight.networks.resnet import resnet

        return resnet(num_classes, channels, size, self.depth, self.norm, self.stem)


@dataclass(frozen=True)
class ResNetAP(Student):
    """ResNet with average pooling for strides, the student of the hard-label protocol (IDC, arXiv 2205.14959).

    Args:
        depth: 10 (as published) or 18.
        norm: "instance" (as published) or "batch".
    """

    depth: Literal[10, 18] = 10
    norm: Literal["instance", "batch"] = "instance"

    def build(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """Return the network; see `Student.build`."""
        from ddlight.networks.resnet import ResNetAPNetwork

        return ResNetAPNetwork(num_classes, channels, size, self.depth, self.norm)


@dataclass(frozen=True)
class Timm(Student):
    """Any model of timm by name. Its state dict loads in plain timm.

    Args:
        name: as in timm.list_models(), with or without a tag.
        pretrained: start from timm's trained weights, with a new head unless the number of classes is theirs.
    """

    name: str
    pretrained: bool = False

    def build(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """Return the network; see `Student.build`."""
        from ddlight.networks.timm_zoo import timm_network

        return timm_network(self.name, num_classes, channels, size, self.pretrained)

    def untrained(self) -> Timm:
        """Return the same model with pretrained: false."""
        return replace(self, pretrained=False)


@dataclass(frozen=True)
class Torchvision(Student):
    """Any classifier of torchvision by name, for images of three channels. Its state dict loads in plain torchvision.

    GoogLeNet and Inception come without their auxiliary heads and normalise nothing themselves.

    Args:
        name: as in torchvision.models.list_models(module=torchvision.models).
        weights: start from these trained weights, such as IMAGENET1K_V1, with a new head unless the number of classes
            is theirs; None starts from random ones.
    """

    name: str
    weights: str | None = None

    def build(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """Return the network; see `Student.build`. Images of other than three channels are a UsageError."""
        if channels != 3:
            raise UsageError(
                f"torchvision's {self.name} takes images of 3 channels, these have {channels}. Choose a student that "
                "takes any number: ConvNet, MLP, ResNet, ResNetAP or Timm."
            )
        from ddlight.networks import torchvision_zoo as zoo

        if self.weights is None:
            return zoo.torchvision_network(self.name, num_classes, size)
        return zoo.torchvision_finetuning(self.name, self.weights, num_classes, size)

    def untrained(self) -> Torchvision:
        """Return the same network with weights: null."""
        return replace(self, weights=None)

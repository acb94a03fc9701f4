"""ConvNet-D, the plain network of dataset distillation, and its multi-layer perceptron (DC, arXiv 2006.05929)."""

from itertools import pairwise

from torch import Tensor, nn

from ddlight.core.errors import UsageError
from ddlight.networks.layers import HalvingPool, norm_layer


class ConvNetwork(nn.Module):
    """`depth` blocks of [3x3 convolution, normalisation, ReLU, 2x2 average pooling] and one linear layer.

    The definition, PyTorch's default initialisation and the names in the state dict (`features.0.weight`,
    `classifier.weight`) are those of the VICO-UoE/DatasetCondensation repository, so its ConvNets load here.

    Deviation: the first convolution pads by 3 only for grey images of 28 pixels, which become 32. There the
    repository pads every grey image so, having grey images of no other size; 32 pixels would become 36, on which its
    own linear layer does not fit.

    Options as in `students.ConvNet`. UsageError where images have fewer than 2**depth pixels, as each block halves the
    side (rounding down).
    """

    def __init__(
        self, num_classes: int, channels: int, size: int, depth: int = 3, width: int = 128, norm: str = "instance"
    ) -> None:
        super().__init__()
        pad = 3 if channels == 1 and size == 28 else 1
        side = size + 2 * (pad - 1)
        if side >> depth < 1:
            raise UsageError(
                f"A ConvNet of depth {depth} halves the image {depth} times and needs {2**depth} pixels; the images "
                f"have {size}. Give depth: {side.bit_length() - 1} or less."
            )
        layers: list[nn.Module] = []
        for block in range(depth):
            inside, padding = (channels, pad) if block == 0 else (width, 1)
            layers.append(nn.Conv2d(inside, width, kernel_size=3, padding=padding))
            if norm != "none":
                layers.append(norm_layer(norm, width))
            layers += [nn.ReLU(inplace=True), HalvingPool()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * (side >> depth) ** 2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of normalised images (B, channels, size, size)."""
        return self.classifier(self.features(images).flatten(1))


class MLPNetwork(nn.Module):
    """`depth` linear layers, ReLU between them, on the flattened image; options as in `students.MLP`."""

    def __init__(self, num_classes: int, channels: int, size: int, width: int = 128, depth: int = 3) -> None:
        super().__init__()
        units = [channels * size * size] + [width] * (depth - 1)
        hidden: list[nn.Module] = []
        for inside, outside in pairwise(units):
            hidden += [nn.Linear(inside, outside), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(nn.Flatten(), *hidden)
        self.classifier = nn.Linear(units[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of normalised images (B, channels, size, size)."""
        return self.classifier(self.features(images))

"""The multi-layer perceptron of the cross-architecture tables (DC, arXiv 2006.05929)."""

from itertools import pairwise

from torch import Tensor, nn


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

    def embed(self, images: Tensor) -> Tensor:
        """Return the features (B, width) that enter the last linear layer."""
        return self.features(images)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of normalised images (B, channels, size, size)."""
        return self.classifier(self.embed(images))

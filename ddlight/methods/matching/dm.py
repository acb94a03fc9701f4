"""DM: images whose mean features are those of the real images, in networks that were never trained.

Each iteration takes a new random network with features psi and, for each class c, a batch of real images x and one
draw A of DSA for real and synthetic images alike, and moves the images s by SGD to lower

    sum_c | mean_i psi(A(x_i)) - mean_j psi(A(s_j)) |^2
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ddlight.methods.matching.engine import BACKWARD, FORWARD, TOGETHER, Learned, MatchingSynthesiser, Published, passes
from ddlight.networks.layers import embed_with_logits


def class_means(network: nn.Module, batches: Sequence[Tensor]) -> Tensor:
    """Mean features of each of some batches (n, C, S, S): (len(batches), D)."""
    means: list[Tensor] = []
    for part in passes(network, batches):
        features = embed_with_logits(network, torch.cat(part))[0]
        means += [rows.mean(0) for rows in features.split([len(batch) for batch in part])]
    return torch.stack(means)


class DM(MatchingSynthesiser):
    """Images whose mean features match the real ones' in random networks (distribution matching).

    Paper: arXiv 2110.04181, Equation 5; numbers from its code (github.com/VICO-UoE/DatasetCondensation), which counts
    iterations from 0 to 20,000.

    Args:
        batch_real: real images of a class in an iteration; all of a class that has fewer.
        dsa: operations of DSA, such as color_crop; none for no augmentation; null takes the published ones.
    """

    tiny: ClassVar[dict[str, Any]] = {**MatchingSynthesiser.tiny, "batch_real": 8}

    def __init__(self, *args: Any, batch_real: int = 256, dsa: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batch_real, self.dsa = batch_real, dsa
        self.require_positive("batch_real")
        self.augment = self.augmentation(dsa)

    def published(self) -> Published:
        """As the code's readme has them: ten times the learning rate from 100 images of each of ten classes on."""
        return Published(20_001, lr=10.0 if self.ipc >= 100 and self.dataset.num_classes <= 10 else 1.0, init="real")

    def step(self, learned: Learned, iteration: int) -> dict[str, Tensor]:
        """Match the means of all classes in a new network."""
        network, leaf = self.fresh(iteration).requires_grad_(False), learned.images.leaf()
        views = [self.augment.siamese(iteration, c) for c in range(self.dataset.num_classes)]
        with torch.no_grad():
            goal = class_means(
                network, [v(self.real_batch(self.batch_real, c, iteration)) for c, v in enumerate(views)]
            )
        means = class_means(network, [view(leaf[self.rows(c)]) for c, view in enumerate(views)])
        loss = (goal - means).square().sum()
        loss.backward()
        learned.move(leaf)
        return {"loss": loss}

    def graph_images(self) -> float:
        """Real images that pass together, or all images that are learned."""
        return max(FORWARD * TOGETHER, BACKWARD * self.expected_images)

    def operations(self) -> float:
        """A pass of the real batches, forward and backward passes of the images."""
        images = self.dataset.num_classes * self.batch_real + 3 * self.expected_images
        return self.numbers.iterations * images * self.forward_flops

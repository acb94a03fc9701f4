"""CAFE: images whose mean feature maps are those of the real images, layer by layer, and tell real classes apart.

With f_1, ..., f_D what follows the ReLU of each block, f_D+1 the last pooled map and f its flat form, and a bar for the
mean over a class, an image step moves the images s by SGD to lower

    sum_l w_l sum_c |bar f_l(s_c) - bar f_l(x_c)|^2 + sum_c |bar f(s_c) - bar f(x_c)|^2
        + v sum_x CE(softmax_c <f(x), bar f(s_c)>, y(x))

An iteration begins with a new network and takes image steps, between which the network learns from the images. Its
accuracy on real images ends both: that stands still over ten readings after image steps, and changes over ten epochs.
"""

from collections.abc import Sequence
from math import inf
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from ddlight.core.errors import UsageError
from ddlight.methods.matching.engine import BACKWARD, FORWARD, TOGETHER, Learned, MatchingSynthesiser, Published, passes
from ddlight.networks.convnet import ConvNetwork
from ddlight.networks.students import ConvNet

EARLY, LATE, OUTER, TELL = 0.1, 1.0, 1.0, 0.01
"""Weights of the first blocks' maps, of the last block's two, of the flat features, and of telling classes apart."""
WINDOW = 10
"""Readings of the accuracy that are compared."""
STILL, CHANGED = 0.04, 0.03
"""Accuracies in a window differ by less than this after the last image step, and by more after the last epoch."""
READ = 128
"""Real images of a class in a reading of the accuracy."""
HALVED = (1200, 1600, 1800)
"""Iterations from which on the images' learning rate is half of what it was."""


def feature_maps(network: ConvNetwork, images: Tensor) -> list[Tensor]:
    """What follows the ReLU of each block, and the last block's pooled map: (B, W, s, s) each."""
    maps = []
    for layer in network.features:
        images = layer(images)
        if isinstance(layer, nn.ReLU):
            maps.append(images)
    return [*maps, images]


def mean_maps(network: ConvNetwork, batches: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Mean feature maps of batches of classes, by layer (len(batches), W, s, s); flat features of each batch."""
    means: list[list[Tensor]] = []
    flat: list[Tensor] = []
    for part in passes(network, batches):
        maps = feature_maps(network, torch.cat(part))
        split = [layer.split([len(batch) for batch in part]) for layer in maps]
        means += [[layer.mean(0) for layer in batch] for batch in zip(*split, strict=True)]
        flat += [features.flatten(1) for features in split[-1]]
    return [torch.stack(layer) for layer in zip(*means, strict=True)], flat


def cafe_loss(real: Sequence[Tensor], features: Sequence[Tensor], own: Sequence[Tensor]) -> Tensor:
    """CAFE's loss: a sum over classes, map entries and images, divided by nothing.

    Args:
        real: mean maps of the real images by layer, (classes, W, s, s).
        features: flat features of the real images of each class, (n, D).
        own: mean maps of the images that are learned.
    """
    weights = [EARLY] * (len(own) - 2) + [LATE, LATE + OUTER]
    distance = sum(w * (a - b).square().sum() for w, a, b in zip(weights, real, own, strict=True))
    labels = [torch.full((len(rows),), c, device=rows.device) for c, rows in enumerate(features)]
    logits = torch.cat(list(features)) @ own[-1].flatten(1).T
    return distance + TELL * F.cross_entropy(logits, torch.cat(labels), reduction="sum")


class CAFE(MatchingSynthesiser):
    """Images whose mean feature maps match the real ones' in all layers of networks that learn from them.

    Paper: arXiv 2203.01531, Equations 3 to 7; numbers from its code (github.com/kaiwang960112/CAFE), which counts
    iterations from 0 to 2,000. The cross-entropy of real images, which that code adds, has no gradient in the images.
    Deviation: accuracies are those that are read; the code adds a tenth of the reading before to each. Both loops have
    a most number of steps, where the code's may never end, and images of any size, where the code's are 32 x 32.
    Deviation: under DSA each class has a draw of its own, as in DC's and DM's code.

    Args:
        dsa: operations of DSA, such as color_crop_cutout_flip_scale_rotate (CAFE+DSA); none for none.
        lr_net: learning rate of the network.
        batch_real: real images of a class in an image step; all of a class that has fewer.
        most_outer: image steps of an iteration, at most; 1 never trains the network.
        most_inner: epochs between two of them, at most.
    """

    tiny: ClassVar[dict[str, Any]] = {
        **MatchingSynthesiser.tiny,
        "batch_real": 8,
        "most_outer": 2,
        "most_inner": 1,
    }

    def __init__(
        self,
        *args: Any,
        dsa: str = "none",
        lr_net: float = 0.01,
        batch_real: int = 256,
        most_outer: int = 50,
        most_inner: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.dsa, self.lr_net, self.batch_real = dsa, lr_net, batch_real
        self.most_outer, self.most_inner = most_outer, most_inner
        self.require_positive("lr_net", "batch_real", "most_outer", "most_inner")
        if not isinstance(self.network, ConvNet):
            raise UsageError(f"CAFE matches the maps of a ConvNet's blocks, and the student is {self.student}.")
        self.augment = self.augmentation(dsa)

    def published(self) -> Published:
        """The same for all datasets and ipc."""
        return Published(2001, lr=0.1, init="noise")

    def step(self, learned: Learned, iteration: int) -> dict[str, Tensor]:
        """One network's life; gives the loss of its last image step, and how many steps and epochs it took."""
        network: Any = self.fresh(iteration)
        optimizer = SGD(network.parameters(), lr=self.lr_net)
        for group in learned.optimizers["images"].param_groups:
            group["lr"] = self.numbers.lr * 0.5 ** sum(iteration >= first for first in HALVED)
        window: list[float] = []
        epochs = 0
        for outer in range(self.most_outer):
            loss = self._move(learned, network, iteration, outer)
            if outer + 1 == self.most_outer or spread(window, self._accuracy(network, iteration, outer), inf) < STILL:
                break
            epochs += self._train(network, optimizer, learned.images.leaf().detach(), iteration, outer)
        return {"loss": loss, "steps": torch.tensor(float(outer + 1)), "epochs": torch.tensor(float(epochs))}

    def _move(self, learned: Learned, network: ConvNetwork, *index: int) -> Tensor:
        """An image step."""
        leaf = learned.images.leaf()
        views = [self.augment.siamese(*index, c) for c in range(self.dataset.num_classes)]
        with torch.no_grad():
            real = [view(self.real_batch(self.batch_real, c, *index)) for c, view in enumerate(views)]
            means, features = mean_maps(network, real)
        own, _ = mean_maps(network, [view(leaf[self.rows(c)]) for c, view in enumerate(views)])
        loss = cafe_loss(means, features, own)
        torch.autograd.backward(loss, inputs=[leaf])
        learned.move(leaf)
        return loss.detach()

    def _train(self, network: nn.Module, optimizer: SGD, images: Tensor, *index: int) -> int:
        """Epochs of the network on the images until its accuracy has changed; gives their number."""
        window: list[float] = []
        for epoch in range(self.most_inner):
            self.train_epoch(network, optimizer, images, self.augment, *index, epoch)
            if spread(window, self._accuracy(network, *index, 1, epoch), 0.0) > CHANGED:
                break
        return epoch + 1

    @torch.no_grad()
    def _accuracy(self, network: nn.Module, *index: int) -> float:
        """Share of fresh real images that the network knows, a mean over classes."""
        batches = [self.real_batch(READ, c, *index, 0) for c in range(self.dataset.num_classes)]
        logits = torch.cat([network(torch.cat(part)) for part in passes(network, batches)])
        known = logits.argmax(1).split([len(batch) for batch in batches])
        return float(torch.stack([(rows == c).float().mean() for c, rows in enumerate(known)]).mean())

    def graph_images(self) -> float:
        """Real images that pass together, or all images that are learned."""
        return max(FORWARD * TOGETHER, BACKWARD * self.expected_images)

    def operations(self) -> float:
        """Ten image steps and ten epochs after each but the last: the fewest that end by the accuracies."""
        classes, images = self.dataset.num_classes, self.expected_images
        outer, inner = min(WINDOW, self.most_outer), min(WINDOW, self.most_inner)
        matched = outer * (classes * self.batch_real + 3 * images)
        trained = (outer - 1) * (inner * (3 * images + classes * READ) + classes * READ)
        return self.numbers.iterations * (matched + trained) * self.forward_flops


def spread(window: list[float], accuracy: float, unknown: float) -> float:
    """Add an accuracy to a window; how far those in it are apart once it is full, before which `unknown` is returned.

    A full window loses its oldest.
    """
    window.append(accuracy)
    if len(window) < WINDOW:
        return unknown
    apart = max(window) - min(window)
    del window[0]
    return apart

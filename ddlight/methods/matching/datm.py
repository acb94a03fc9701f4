"""DATM: trajectory matching whose starts suit the size of the set, with soft labels that are learned.

As MTT, with experts trained against sharp minima (FTD), and

    starts       t in [T-, T), where T grows from a first value to T+ over the first iterations: early, easy parts of
                 trajectories for few images, late ones for many
    images       begin as real ones that an expert gets right
    labels       softmax(Y): Y begins as the mean logits of the experts that get the image right, and is moved by SGD
    guard        an iteration whose loss is above a limit moves nothing
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import SGD

from ddlight.core.randomness import generator
from ddlight.methods.matching.engine import Learned, MatchingSynthesiser, Published
from ddlight.methods.matching.trajectory.experts import ExpertRun, Experts
from ddlight.methods.matching.trajectory.matching import (
    TINY_MATCH,
    Match,
    MatchOverride,
    TrajectoryMatching,
    published_row,
)
from ddlight.sets.store import Synthesis


def _row(
    lr: float, lr_labels: float, steps: int, passes: int, starts: tuple[int, int, int], lr_rate: float, batch: int,
    growth: int = 1, limit: float = 1.0, correct: bool = True,
) -> tuple[float, float, bool, Match]:  # fmt: skip
    least, first, most = starts
    match = Match(steps, passes, most, 1e-2, lr_rate, batch, True, least, first, growth, limit)
    return lr, lr_labels, correct, match


PUBLISHED = {  # learning rates of images and labels; N, M, (T-, T at first or 0, T+), lr of alpha, batch, growth
    ("CIFAR10", 1): _row(1e2, 5, 80, 2, (0, 0, 4), 1e-7, 10, limit=1.1),
    ("CIFAR10", 10): _row(1e2, 2, 80, 2, (0, 10, 20), 1e-5, 100, 1000),
    ("CIFAR10", 50): _row(1e3, 2, 80, 2, (0, 20, 40), 1e-5, 500, 2000),
    ("CIFAR10", 500): _row(50, 10, 40, 2, (40, 0, 60), 1e-5, 1000),
    ("CIFAR10", 1000): _row(50, 10, 100, 2, (40, 0, 60), 1e-5, 1000),
    ("CIFAR100", 1): _row(1e3, 10, 40, 3, (0, 10, 20), 1e-5, 1000, 1000),
    ("CIFAR100", 10): _row(1e3, 10, 80, 2, (0, 30, 50), 1e-5, 1000, 2000),
    ("CIFAR100", 50): _row(1e3, 10, 80, 2, (20, 0, 70), 1e-5, 1000, correct=False),
    ("CIFAR100", 100): _row(50, 10, 80, 2, (30, 0, 70), 1e-5, 1000),
    ("TinyImageNet", 1): _row(1e4, 10, 40, 2, (0, 15, 20), 1e-4, 1000, 2000),
    ("TinyImageNet", 10): _row(1e2, 10, 40, 2, (10, 0, 50), 1e-4, 500),
    ("TinyImageNet", 50): _row(1e2, 10, 20, 2, (40, 0, 70), 1e-4, 1000),
}
LABEL_MOMENTUM = 0.9


class DATM(MatchingSynthesiser):
    """Images and soft labels matched to those parts of flat trajectories that are as hard as the set is large.

    Paper: arXiv 2310.05773, Section 4; flat experts of FTD, arXiv 2211.11004; numbers from its code
    (github.com/NUS-HPC-AI-Lab/DATM), for datasets without numbers as in `MTT`, grey images never whitened.
    Deviation: alpha is a softplus, as in `MTT`.

    Args:
        experts: how the experts are trained; `flat: false` takes MTT's.
        match: numbers that replace the published ones.
        lr_labels: learning rate of the labels; null takes the published one, 0 leaves labels as they begin.
        correct: begin with images that an expert gets right, and with labels by the experts that do; false takes any
            images, and one expert's labels; null takes what was published.
    """

    learns_lr = True
    label_kind = "logits"
    tiny: ClassVar[dict[str, Any]] = {**MatchingSynthesiser.tiny, **TINY_MATCH}

    def __init__(
        self,
        *args: Any,
        experts: Experts = Experts(epochs=100, flat=True),
        match: MatchOverride = MatchOverride(),
        lr_labels: float | None = None,
        correct: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.experts, self.match, self.lr_labels, self.correct = experts, match, lr_labels, correct
        self.row = published_row(PUBLISHED, self.dataset.info, self.ipc)
        self.matching = TrajectoryMatching(self, experts, self.row[-1], match)

    def published(self) -> Published:
        """10,000 iterations from real images."""
        return Published(10_000, self.row[0], "real")

    @property
    def expert_run(self) -> ExpertRun:
        """The experts."""
        return self.matching.run

    # --- where it begins ---

    def begin(self) -> Learned:
        """Images, alpha, and the labels' logits."""
        correct = self.row[2] if self.correct is None else self.correct
        rows = [self._chosen(c) if correct else self._order(c)[: self.ipc] for c in range(self.dataset.num_classes)]
        images = self.real.take(np.concatenate(rows))
        learned = self.matching.begin(images)
        labels = learned.labels = nn.Parameter(self._labels(images, correct))
        lr = self.row[1] if self.lr_labels is None else self.lr_labels
        learned.optimizers["labels"] = SGD([labels], lr=lr, momentum=LABEL_MOMENTUM)
        return learned

    def _order(self, label: int) -> np.ndarray:
        """A class's images in random order, as positions in the training split."""
        return generator(self.seed, "matching real", label).permutation(self.real.rows[label])

    def _chosen(self, label: int) -> np.ndarray:
        """The first images of a class that expert 0 gets right; where too few, those of expert 1, ..., then any."""
        order, chosen = self._order(label), list[int]()
        for logits in self._answers(self.real.take(order), self.experts.count):
            right = order[(logits.argmax(1) == label).cpu().numpy()]
            chosen += [row for row in right.tolist() if row not in chosen]
            if len(chosen) >= self.ipc:
                break
        return np.array([*chosen, *(row for row in order.tolist() if row not in chosen)])[: self.ipc]

    @torch.no_grad()
    def _answers(self, images: Tensor, experts: int) -> Iterator[Tensor]:
        """Logits (n, classes) by the last weights of each of the first experts."""
        run, network = self.matching.verified, self.expert_run.network.to(self.device)
        for number in range(experts):
            (weights,) = run.weights(number, self.experts.epochs, device=self.device)
            parts = [functional_call(network, run.parameters(weights), (part,)) for part in images.split(1000)]
            yield torch.cat(parts)

    def _labels(self, images: Tensor, correct: bool) -> Tensor:
        """Mean logits of the experts that get an image right, or else of all, its class's and the largest exchanged.

        Where experts need not be right, those of expert 0 as they are.
        """
        experts, classes = self.experts.count if correct else 1, self.matching.classes
        answers = torch.stack(list(self._answers(images, experts)))
        right = (answers.argmax(2) == classes).to(answers)
        known = right.sum(0) > 0
        mean = (answers * right[:, :, None]).sum(0) / right.sum(0)[:, None].clamp_min(1)
        other = answers.mean(0)
        if correct:
            rows, largest = torch.arange(len(other), device=other.device), other.argmax(1)
            other[rows, largest], other[rows, classes] = other[rows, classes], other.amax(1)
        return torch.where(known[:, None], mean, other)

    # --- an iteration ---

    def step(self, learned: Learned, iteration: int) -> Mapping[str, Tensor]:
        """Match one start."""
        return self.matching.step(learned, iteration, lambda rows: learned.get_parameter("labels")[rows].softmax(1))

    def finish(self, learned: Learned) -> Synthesis:
        """Images with their logits, and alpha."""
        labels = learned.get_parameter("labels").detach().cpu().numpy()
        return replace(super().finish(learned), labels=labels, learned_lr=self.matching.rate(learned).item())

    def graph_images(self) -> float:
        """Those of an inner step."""
        return self.matching.graph_images(self.expected_images)

    def operations(self) -> float:
        """Those of the inner steps, and of the experts' answers."""
        answered = self.experts.count * self.expected_images + self.dataset.info.train
        return self.matching.operations(self.expected_images) + answered * self.forward_flops

"""What is read off a split: accuracy (top-1, top-5, per class), NLL and calibration, each image counted once."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric, SumMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

ECE_BINS = 15
BELOW_ONE = 1 - 2**-24
"""The largest float32 below 1. torchmetrics gives a confidence of exactly 1 a bin of its own, not the last one."""


@dataclass(frozen=True)
class Scores:
    """What a student reached on one split.

    Args:
        acc: top-1 accuracy in percent.
        top5: top-5 accuracy in percent; None with fewer than 6 classes.
        per_class: accuracy of each class in percent.
        nll: mean negative log-likelihood, in nats; infinite where a logit is not a number.
        ece: expected calibration error with 15 equal bins, in [0, 1] (arXiv 1706.04599, eq. 3).
        images: images counted, over all ranks.
    """

    acc: float
    top5: float | None
    per_class: list[float]
    nll: float
    ece: float
    images: int


class Judge:
    """Collects logits batch by batch, over all ranks.

    A plain class: its metrics stay out of checkpoints and of DDP.

    Args:
        num_classes: K.
        device: where logits arrive.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.top1: Metric = MulticlassAccuracy(num_classes, average="micro").to(device)
        self.each: Metric = MulticlassAccuracy(num_classes, average="none").to(device)
        self.top5: Metric | None = None
        if num_classes > 5:
            self.top5 = MulticlassAccuracy(num_classes, top_k=5, average="micro").to(device)
        self.ece: Metric = MulticlassCalibrationError(num_classes, n_bins=ECE_BINS, norm="l1").to(device)
        self.nll: Metric = MeanMetric(nan_strategy=float("inf")).to(device)
        self.count: Metric = SumMetric().to(device)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits (B, K), labels int64 (B,)."""
        logits = logits.float()
        for metric in (self.top1, self.each, self.top5):
            if metric is not None:
                metric.update(logits, labels)
        self.ece.update(logits.softmax(1).clamp(max=BELOW_ONE), labels)
        self.nll.update(F.cross_entropy(logits, labels, reduction="none"))
        self.count.update(torch.tensor(float(len(labels)), device=labels.device))

    def scores(self) -> Scores:
        """Reduce over ranks; every rank must call it."""
        top5 = None if self.top5 is None else 100 * float(self.top5.compute())
        return Scores(
            acc=100 * float(self.top1.compute()),
            top5=top5,
            per_class=[100 * float(v) for v in self.each.compute()],
            nll=float(self.nll.compute()),
            ece=float(self.ece.compute()),
            images=int(self.count.compute()),
        )

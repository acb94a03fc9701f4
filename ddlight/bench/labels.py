"""Reading stored labels: ddlight's mapped files against one file of torch.save per batch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ddlight.bench.timing import THREAD, Measure, ratio
from ddlight.sets.labels import LabelPlan, LabelStore

CLASSES, BATCH = 1000, 100
IMAGES, QUICK = 10000, 250


def measure(folder: Path, quick: bool, rounds: int) -> Iterator[Measure]:
    """The goal of reading one epoch of labels, 1,000 classes in fp16, into memory."""
    images = QUICK if quick else IMAGES
    logits = np.random.default_rng(0).standard_normal((images, CLASSES)).astype(np.float16)
    plan = LabelPlan(images, BATCH, CLASSES, 1, 1.0, "fp16", 0, {})
    store = LabelStore(folder / "labels", plan)
    store.write(lambda batches: logits.astype(np.float32))
    batches = range(plan.per_pass)
    for index in batches:
        torch.save(torch.from_numpy(logits[index * BATCH : (index + 1) * BATCH]), folder / f"{index}.tar")

    def reference() -> list[torch.Tensor]:
        return [torch.load(folder / f"{index}.tar", weights_only=True) for index in batches]

    def ours() -> list[torch.Tensor]:
        return [torch.from_numpy(np.array(store.read(0, index))) for index in batches]

    if not all(torch.equal(a, b) for a, b in zip(reference(), ours(), strict=True)):
        raise AssertionError("the labels that were read differ")
    what = "CPU time of an epoch of labels: torch.load per batch / ddlight's store"
    yield ratio("P22", what, 4, reference, ours, rounds, THREAD)

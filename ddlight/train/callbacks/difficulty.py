"""How hard the set's own images are for the student as it trains: `difficulty.csv` (Figure 2, arXiv 2604.18811)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from torch import Tensor

from ddlight.core import files
from ddlight.sets.opened import hard_classes
from ddlight.train import signals
from ddlight.train.callbacks.each_step import EachStep, is_due
from ddlight.views.loader import eval_batch
from ddlight.views.view import to_input

FILE = "difficulty.csv"
DECILES = tuple(range(0, 101, 10))


class Difficulty(EachStep):
    """Scores every image of the set at evenly spaced optimiser steps, `difficulty_curve` times, the last at the end.

    Images are read as they are, without augmentation, by the student with the weights of that step (never their
    average) in evaluation mode. `el2n` is ||softmax f(x) - one-hot||, of the largest class where a set's own labels are
    soft; where a regime has soft labels of clean images, `el2n_sl` is EL2N-SL, Definition 1 of the paper, both at the
    recipe's temperature. A row of the file holds the mean of one score over the images and its deciles.

    Training is the same with and without it. It is always among the Trainer's callbacks and does nothing where the
    regime asks for no curve.

    Args:
        folder: run folder; `difficulty.csv` is rewritten there at each reading.
    """

    saved = ("rows",)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []

    def after_step(self, trainer: Trainer, model: Any, step: int) -> None:
        """Read where a reading is due."""
        if not model.difficulty_curve:
            return
        total = int(trainer.estimated_stepping_batches)
        if is_due(step, total, model.difficulty_curve):
            scores = self._read(trainer, model).items()
            self.rows += [row(step, step / total, name, values.numpy(force=True)) for name, values in scores]
            if trainer.is_global_zero:
                files.write_csv(self.folder / FILE, self.rows)

    @torch.no_grad()
    def _read(self, trainer: Trainer, model: Any) -> dict[str, Tensor]:
        """Every score of every image of the set, each (N,): each image on one rank, added up over all of them."""
        images, _ = model.data.tensors(model.device)
        rank, ranks = trainer.global_rank, trainer.world_size
        model.eval()
        model.share_buffers()
        scores: dict[str, Tensor] = {}
        with trainer.precision_plugin.forward_context():
            for rows in torch.arange(rank, len(images), ranks).split(eval_batch(model.data.dataset.info)):
                for name, values in _scores(model, rows).items():
                    scores.setdefault(name, torch.zeros(len(images), device=model.device))[rows] = values
        model.train()
        return {name: trainer.strategy.reduce(values, reduce_op="sum") for name, values in scores.items()}  # type: ignore[misc]


def _scores(model: Any, rows: Tensor) -> dict[str, Tensor]:
    """Scores of some images of the set, given by their positions (B,): float32 (B,) each."""
    data = model.data
    images, labels = data.tensors(model.device)
    part = images[rows.to(images.device)].to(model.device)
    place = rows.to(model.device)
    student = to_input(part, data.dataset.info, data.whitening) if data.space == "pixel" else part
    logits, targets = model.forward(student), model.soft_labels(part, place)
    scores = {"el2n": signals.of_class(logits, hard_classes(labels[place]))["el2n"]}
    if targets is not None:
        scores["el2n_sl"] = signals.el2n_sl(logits, targets, model.run.plan.recipe.temperature)
    return scores


def row(step: int, progress: float, score: str, values: np.ndarray) -> dict[str, Any]:
    """A line of the file: mean and deciles (linear between neighbours) of one score (N,) after an optimiser step."""
    wide = values.astype(np.float64)
    deciles = np.percentile(wide, DECILES).tolist()
    named = {f"q{share}": value for share, value in zip(DECILES, deciles, strict=True)}
    return {"step": step, "progress": progress, "score": score, "mean": float(wide.mean()), **named}

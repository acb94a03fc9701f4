"""DifficultyGuided: of a pool of made images, those whose difficulties are spread as the real images' are.

With d(x) = 1 - p(class | x) of a teacher, for each class:

    transform   clip d to [lo, hi], its (b+1)-th smallest and (t+1)-th largest; d' = ln(d / lo) / ln(hi / lo)
    trim        the b, t < ipc / 2 that make the pool's ten-bin histogram of d' both like that of d and flat
    target      histogram of the real images' d', scaled to ipc by largest remainders
    choose      as many of the pool from each bin, drawn; what a bin lacks comes from the rest of the pool
"""

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ddlight.core import artefact
from ddlight.core.artefact import Unit
from ddlight.core.errors import DataError, UsageError
from ddlight.core.files import sha256
from ddlight.core.randomness import generator
from ddlight.methods.base import Synthesiser
from ddlight.methods.generative.dit import DiT
from ddlight.methods.generative.engine import Backbone
from ddlight.methods.generative.engine.trained import TINY_GENERATOR, GeneratorRun
from ddlight.methods.scores.score_file import dataset_scores
from ddlight.networks.device import current_device
from ddlight.networks.teachers import Teacher
from ddlight.sets import store
from ddlight.sets.store import StoredSet, Synthesis
from ddlight.views.loader import eval_batch

BINS = 10
LEAST = 1e-4
"""Difficulties below this count as this much, as stored with four decimals they would."""


def transformed(d: np.ndarray, bottom: int, top: int) -> np.ndarray:
    """Difficulties (n,) on a logarithmic scale between two of their ranks, in (0, 1]."""
    ranked = np.sort(d)
    low, high = max(ranked[min(bottom, len(d) - 1)], LEAST), max(ranked[max(len(d) - 1 - top, 0)], LEAST)
    if high <= low:
        return np.ones(len(d))
    return np.maximum(np.log(np.clip(d, low, high) / low) / np.log(high / low), LEAST)


def histogram(values: np.ndarray) -> np.ndarray:
    """Counts of values in [0, 1] in ten equal bins, int64 (10,)."""
    return np.histogram(values, BINS, (0.0, 1.0))[0]


def divergence(p: np.ndarray, q: np.ndarray, smooth: float) -> float:
    """KL(p || q) of two histograms in bits, `smooth` added to each count."""
    a, b = ((h + smooth) / (h + smooth).sum() for h in (p, q))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.where(a > 0, a * np.log2(a / b), 0.0).sum())


def trimming(pool: np.ndarray, ipc: int, smooth: float) -> tuple[int, int]:
    """Ranks b and t, below ipc / 2, by which a pool's difficulties are trimmed; (0, 0) where all are as bad."""
    raw, flat = histogram(pool), np.ones(BINS)
    grid = [(b, t) for b in range(max(ipc // 2, 1)) for t in range(max(ipc // 2, 1))]

    def cost(ranks: tuple[int, int]) -> float:
        own = histogram(transformed(pool, *ranks))
        return 0.5 * divergence(raw, own, smooth) + 0.5 * divergence(flat, own, smooth)

    return min(grid, key=cost)


def scaled(counts: np.ndarray, total: int) -> np.ndarray:
    """Counts scaled to a total by largest remainders, int64."""
    shares = counts * total / counts.sum()
    whole = np.floor(shares).astype(np.int64)
    order = np.argsort(-(shares - whole), kind="stable")
    whole[order[: total - whole.sum()]] += 1
    return whole


def matched(pool: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions in a pool whose transformed difficulties (n,) have a histogram as wanted, ascending, int64.

    A bin that has too few gives all it has; the others are drawn from what is left.
    """
    bins = np.minimum((pool * BINS).astype(np.int64), BINS - 1)
    chosen: list[int] = []
    for k, count in enumerate(wanted.tolist()):
        own = np.flatnonzero(bins == k)
        chosen += rng.permutation(own)[:count].tolist()
    rest = np.setdiff1d(np.arange(len(pool)), chosen)
    chosen += rng.permutation(rest)[: wanted.sum() - len(chosen)].tolist()
    return np.sort(np.array(chosen, np.int64))


class DifficultyGuided(Synthesiser):
    """Images of a pool of made ones, chosen so that a teacher finds them as hard as it finds the real ones.

    Paper: arXiv 2507.03331. Deviation: histograms are smoothed by half an image a bin, without which one empty bin, the
    usual case, makes all trimmings as bad; draws are seeded. The teacher is one of the dataset's own task, where the
    paper has a ResNet-50 of ImageNet-1K for parts of it.

    Args:
        pool: folder of a set of images, such as Minimax's at 5 x ipc; null draws one by plain sampling, as `DiT` does.
        pool_factor: images of each class that are drawn where no pool is given, in units of ipc.
        backbone: the generator that draws them; null trains a `TrainedDiT` of this dataset.
        steps: of that sampling.
        teacher: says how hard an image is: 1 - p of its class.
        scores: file of difficulties of the real images in [0, 1], in place of the teacher's, as `ScoreFile` reads it.
        column: of that file.
        smooth: added to each bin's count; 0 is the paper's.
    """

    tiny: ClassVar[dict[str, Any]] = {"pool": None, "pool_factor": 2, "steps": 3, "backbone": TINY_GENERATOR}

    def __init__(
        self,
        *args: Any,
        pool: str | None = None,
        pool_factor: int = 5,
        backbone: Backbone | None = None,
        steps: int = 50,
        teacher: Teacher | None = None,
        scores: str | None = None,
        column: str | None = None,
        smooth: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if pool_factor < 1 or smooth < 0:
            raise UsageError(f"pool_factor is at least 1 and smooth at least 0; given: {pool_factor}, {smooth}.")
        self.pool, self.pool_factor, self.backbone, self.steps = pool, pool_factor, backbone, steps
        self.teacher, self.scores, self.column, self.smooth = teacher, scores, column, smooth

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """As every method's; pool and scores by what they hold."""
        held = {} if self.pool is None else {"pool": artefact.read_manifest(self._pool_folder)["fingerprint"]}
        file = {} if self.scores is None else {"scores": sha256(Path(self.scores).expanduser())}
        return {**super().arguments, **held, **file}

    @property
    def all_teachers(self) -> list[Teacher]:
        """The teacher. Raises UsageError where there is none."""
        if self.teacher is None:
            raise UsageError(
                "DifficultyGuided needs a teacher that knows the classes of the dataset: --data.teacher=RunTeacher "
                "--data.teacher.run=FOLDER for a run of 'ddlight fit' on the full data."
            )
        return [self.teacher]

    # --- the pool ---

    @cached_property
    def drawn_pool(self) -> DiT:
        """Plain samples, where no pool is given."""
        size = self.pool_factor * self.ipc
        return DiT(self.dataset, size, self.seed, self.cache, backbone=self.backbone, steps=self.steps)

    @property
    def generator_run(self) -> GeneratorRun | None:
        """The training that `ddlight generator` does; None where the pool is given or its generator is not ours."""
        return self.drawn_pool.generator_run if self.pool is None else None

    @property
    def _pool_folder(self) -> Path:
        return self.drawn_pool.folder if self.pool is None else Path(self.pool).expanduser()

    @cached_property
    def pooled(self) -> StoredSet:
        """The pool, verified. Raises DataError where it is of other classes, or no pictures with hard labels."""
        held = store.load(self._pool_folder, self.dataset)
        if held.manifest["classes"] != list(self.dataset.info.classes):
            raise DataError(f"The pool {self._pool_folder} is a set of other classes than {self.dataset.info.name}.")
        if held.labels.ndim != 1 or not isinstance(held.images, np.ndarray) or held.images.dtype != np.uint8:
            raise DataError(f"The pool {self._pool_folder} does not hold pictures with hard labels.")
        if (fewest := np.bincount(held.labels, minlength=self.dataset.num_classes).min()) < self.ipc:
            raise DataError(f"The pool {self._pool_folder} has a class of {fewest} images, fewer than ipc={self.ipc}.")
        return held

    # --- the method ---

    def difficulties(self, images: np.ndarray, label: int) -> np.ndarray:
        """1 - p of the class for images uint8 (n, C, S, S), with four decimals: float64 (n,)."""
        teacher, step, found = self.loaded_teachers[0], eval_batch(self.dataset.info), []
        for start in range(0, len(images), step):
            floats = torch.from_numpy(images[start : start + step]).to(current_device()).float() / 255
            found.append(1 - teacher.logits(floats).softmax(1)[:, label].double().cpu().numpy())
        return np.concatenate(found).round(4)

    @cached_property
    def given(self) -> np.ndarray:
        """The file's difficulties of all training images, (N,). Raises DataError where some are not in [0, 1]."""
        path = Path(self.scores or "").expanduser()
        given = dataset_scores(path, self.column, self.dataset)
        if given.min() < 0 or given.max() > 1:
            raise DataError(f"{path} has difficulties from {given.min():.3g} to {given.max():.3g}; allowed: 0 to 1.")
        return given

    def real_difficulties(self, label: int) -> np.ndarray:
        """Those of a class's real images, by the file or the teacher. Raises DataError as `given`."""
        rows = np.flatnonzero(self.dataset.index("train").labels == label)
        return self.given[rows] if self.scores else self.difficulties(self.dataset.take("train", rows), label)

    def make(self, unit: Unit) -> Synthesis:
        """Choose a class's images."""
        label = unit.classes[0]
        images = self.pooled.images[self.pooled.labels == label]
        pool = self.difficulties(images, label)
        bottom, top = trimming(pool, self.ipc, self.smooth)
        wanted = scaled(histogram(transformed(self.real_difficulties(label), bottom, top)), self.ipc)
        rng = generator(self.seed, f"difficulties of {self.dataset.info.classes[label]}")
        chosen = images[matched(transformed(pool, bottom, top), wanted, rng)]
        return Synthesis(chosen, np.full(self.ipc, label, np.int64))

    def prepare(self) -> None:
        """Try the teacher, and draw the pool where it is missing. Raises DataError where the pool cannot be used."""
        _ = self.teachers_acc
        if self.pool is None:
            self.drawn_pool.condense()
        _ = self.pooled

    def estimate_seconds(self) -> float:
        """Time to draw the pool where it is missing."""
        missing = self.pool is None and not self.drawn_pool.artefact.exists
        return self.drawn_pool.estimate_seconds() if missing else 0.0

    def facts(self) -> dict[str, Any]:
        """Pool and teacher; what the pool cost."""
        held = self.pooled.manifest
        costs = {
            name: value
            for name, value in held.items()
            if name in ("scoring_seconds", "scoring_images", "flops_scoring", "flops_synthesis")
        }
        return {
            **costs,
            "pool": held["fingerprint"],
            "pool_method": held["method"],
            "pool_seconds": held["seconds"],
            "teacher": self.loaded_teachers[0].name,
            "teacher_acc_train": self.teachers_acc[0],
        }

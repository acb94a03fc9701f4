"""RDED: the patch of each image that a teacher finds most realistic, stitched into mosaics; nothing is optimised.

For every class, from `pool_size` random images:

    crops      K random square crops of each image, resized to s = S / f pixels
    score      l(x) = CE(teacher(x in the middle of an S x S canvas of the mean colour), y)
    select     the crop of lowest l of each image, then the m f^2 of these with the lowest l
    stitch     mosaic j holds the patches of rank j, m + j, 2 m + j, ..., row by row (`mosaics`)
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ddlight.core.artefact import Unit
from ddlight.core.errors import DataError, UsageError
from ddlight.core.randomness import generator
from ddlight.data.decoded import read_full
from ddlight.methods.base import Synthesiser, smallest_class
from ddlight.methods.patches.mosaic import MosaicLayout, of_class
from ddlight.methods.scoring.cost import operations_per_second
from ddlight.networks.device import current_device
from ddlight.networks.teachers import Teacher
from ddlight.sets.store import Synthesis
from ddlight.views.crop import CROP_UNIFORMS, crop_boxes, resized_crop
from ddlight.views.loader import eval_batch
from ddlight.views.pixels import FullSize

PoolSize = int | float | Literal["rded", "exact"]
PUBLISHED_POOL = 300


@dataclass(frozen=True)
class BestCrops:
    """The best crop of each of n images.

    Args:
        images: uint8 (n, C, s, s).
        losses: float32 (n,): cross-entropy of the class, lower is more realistic.
        rows: int64 (n,): where they come from, ascending positions in the training split.
    """

    images: np.ndarray
    losses: np.ndarray
    rows: np.ndarray


class PatchSynthesiser(Synthesiser):
    """RDED's steps, of which a method says in `rank` which patches it takes first.

    Deviation: patches are rounded to 8 bits before they are scored, so that what is scored is what is stored; the code
    cuts the fraction off when it saves. They are stored without loss, not as JPEG of quality 75. Pool and crops are
    drawn by `seed`, where the code's differ from run to run. Crops are cut from a dataset's whole pictures where it
    consists of files.

    Args:
        teacher: scores the patches; it must know the dataset's classes, in its order.
        crops: random crops of each image.
        crop_scale: area of a crop, as a fraction of its image's.
        pool_size: images of each class that crops are taken from: a number, a share of the class between 0 and 1,
            "exact" for as many as there are patches, or "rded" for 300. Never fewer than there are patches with "rded"
            (a guess: the code fails there), never more than the class has.
    """

    def __init__(
        self,
        *args: Any,
        teacher: Teacher | None = None,
        crops: int = 5,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        pool_size: PoolSize = "rded",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if crops < 1:
            raise UsageError(f"crops is at least 1; given: {crops}.")
        if not isinstance(pool_size, str) and not (pool_size >= 1 if isinstance(pool_size, int) else 0 < pool_size < 1):
            raise UsageError(
                f"pool_size is {pool_size}; allowed: a number of images, a share of the class above 0 and below 1, "
                "rded or exact."
            )
        self.teacher, self.crops, self.crop_scale, self.pool_size = teacher, crops, crop_scale, pool_size
        self.layout = MosaicLayout(self, 1)

    @property
    def tile_factor(self) -> int:  # type: ignore[override]
        """f, patches per side of an image."""
        return self.layout.factor

    @property
    def all_teachers(self) -> list[Teacher]:
        """The teacher. Raises UsageError where there is none."""
        if self.teacher is None:
            raise UsageError(
                f"{type(self).__name__} needs a teacher that knows the classes of the dataset: "
                "--data.teacher=RunTeacher --data.teacher.run=FOLDER for a run of 'ddlight fit' on the full data, or "
                "for ImageNet-1K --data.teacher=TorchvisionTeacher --data.teacher.model=resnet18"
            )
        return [self.teacher]

    # --- the method ---

    def make(self, unit: Unit) -> Synthesis:
        """Crop, score, select and stitch one class."""
        candidates = of_class(self, unit)
        pool = self.pool(unit, candidates)
        best = self.best_crops(unit, candidates, np.sort(pool))
        chosen = best.images[self.rank(best, pool)[: self.layout.pieces]]
        return self.layout.stitched(unit, self.arranged(unit, chosen))

    def pool(self, unit: Unit, candidates: np.ndarray) -> np.ndarray:
        """Draw the images that crops are taken from: positions in the training split."""
        drawn = generator(self.seed, "pool", unit.number).permutation(candidates)
        return drawn[: self.pool_count(len(candidates))]

    def pool_count(self, images: int) -> int:
        """How many of a class's images crops are taken from."""
        if isinstance(self.pool_size, float):
            return math.ceil(self.pool_size * images)
        names = {"rded": max(PUBLISHED_POOL, self.layout.pieces), "exact": self.layout.pieces}
        return min(images, names[self.pool_size] if isinstance(self.pool_size, str) else self.pool_size)

    def best_crops(self, unit: Unit, candidates: np.ndarray, rows: np.ndarray) -> BestCrops:
        """Cut K crops of each image and keep the one of lowest loss.

        Args:
            unit: the class.
            candidates: int64 (N,): all of its images, ascending; an image's crops do not depend on the pool.
            rows: int64 (n,): the pool, ascending.
        """
        drawn = generator(self.seed, "patches", unit.number).random((len(candidates), self.crops, CROP_UNIFORMS))
        drawn = drawn[np.searchsorted(candidates, rows)]
        step, images, losses = max(1, eval_batch(self.dataset.info) // self.crops), [], []
        for k in range(0, len(rows), step):
            cut = self.cut(rows[k : k + step], drawn[k : k + step])
            loss = self.losses(cut, unit.classes[0]).reshape(-1, self.crops)
            best, each = loss.argmin(1), np.arange(len(loss))
            images.append(cut.numpy().reshape(*loss.shape, *cut.shape[1:])[each, best])
            losses.append(loss[each, best])
        return BestCrops(np.concatenate(images), np.concatenate(losses), rows)

    def cut(self, rows: np.ndarray, drawn: np.ndarray) -> Tensor:
        """Crops of images (n,), K of each: uint8 (n K, C, s, s)."""
        u, each = drawn.reshape(-1, CROP_UNIFORMS), np.repeat(np.arange(len(rows)), self.crops)
        if files := self.dataset.encoded("train"):
            paths = [files[row] for row in rows.tolist()]
            whole = FullSize(
                paths, read_full, lambda k: self.dataset.take("train", rows[k]), self.layout.side, math.inf
            )
            return whole.cut(each, u, self.crop_scale, (1, 1))
        boxes = crop_boxes(u, self.dataset.info.size, self.crop_scale, (1, 1))
        return resized_crop(torch.from_numpy(self.dataset.take("train", rows)), boxes, self.layout.side, rows=each)

    def canvases(self, patches: Tensor) -> Tensor:
        """Patches uint8 (n, C, s, s) as the teacher scores them, each on its canvas: (n, C', S, S) in [0, 1]."""
        floats = patches.to(current_device()).float() / 255
        return on_canvas(floats, self.dataset.info.size, self.loaded_teachers[0].input.mean)

    def losses(self, patches: Tensor, label: int) -> np.ndarray:
        """Cross-entropy of the class for patches uint8 (n, C, s, s): float32 (n,)."""
        teacher = self.loaded_teachers[0]
        logits = teacher.logits(self.canvases(patches))
        losses = F.cross_entropy(logits, torch.full((len(logits),), label, device=logits.device), reduction="none")
        if not losses.isfinite().all():
            raise DataError(f"The teacher {teacher.name} answers with numbers that are not finite. Train it again.")
        return losses.cpu().numpy()

    @abstractmethod
    def rank(self, best: BestCrops, pool: np.ndarray) -> np.ndarray:
        """Order the patches: positions in `best`, int64 (n,), those that are taken first.

        Args:
            best: the patches.
            pool: the images that they come from, in the pool's own order.
        """

    def arranged(self, unit: Unit, patches: np.ndarray) -> np.ndarray:
        """Patches (m f^2, C, s, s), best first, in the order that `mosaics` takes: as they are ranked."""
        return patches

    # --- what goes with it ---

    def prepare(self) -> None:
        """Look at classes, pool and teacher before anything costly begins.

        Raises:
            UsageError: a class or its pool has fewer images than there are patches, or a patch would have no pixels.
        """
        self.layout.require()
        label, count = smallest_class(self.dataset)
        pool, name = self.pool_count(count), self.dataset.info.classes[label]
        self.layout.require_pieces(pool, f"pool_size {self.pool_size} takes {pool} of class '{name}'")
        _ = self.teachers_acc

    @property
    def scored_crops(self) -> int:
        """Crops that the teacher scores for the whole set, as far as the dataset's table knows its classes."""
        info = self.dataset.info
        return self.crops * info.num_classes * self.pool_count(info.train // info.num_classes)

    def estimate_seconds(self) -> float:
        """Time of the teacher's forward passes."""
        return self.scored_crops * self.loaded_teachers[0].flops / operations_per_second()

    def facts(self) -> dict[str, Any]:
        """The teacher, and the operations of its forward passes."""
        teacher = self.loaded_teachers[0]
        return {
            "teacher": teacher.name,
            "teacher_acc_train": self.teachers_acc[0],
            "scored_crops": self.scored_crops,
            "flops_synthesis": self.scored_crops * teacher.flops,
        }


class RDED(PatchSynthesiser):
    """Mosaics of the most realistic patches of random images, as one teacher sees them.

    Paper: arXiv 2312.03526; the code github.com/LINs-lab/RDED where the two differ.
    On images of 28 pixels crops of 8 to 100 % of the area cost 18 points under hard labels, of which the choice wins
    most back; `crop_scale: [1, 1]` takes whole images.

    Args:
        factor: patches per side of a mosaic; null takes 2 from 96 pixels on (published: 224 and 128 px) and 1 below
            (published: 32 and 64 px).
    """

    def __init__(self, *args: Any, factor: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.factor, self.layout = factor, MosaicLayout(self, factor)

    def rank(self, best: BestCrops, pool: np.ndarray) -> np.ndarray:
        """Order the patches, most realistic first."""
        return np.argsort(best.losses, kind="stable")


def on_canvas(patches: Tensor, size: int, colour: tuple[float, ...]) -> Tensor:
    """Put patches in the middle of canvases: (n, len(colour), size, size); grey ones are repeated for three colours.

    With the teacher's mean as the colour, the canvas is 0 once it is normalised, as the code pads it.

    Args:
        patches: float in [0, 1], (n, C, s, s).
        size: of the canvas, in pixels.
        colour: of the canvas, per channel.
    """
    side, start = patches.shape[-1], (size - patches.shape[-1]) // 2
    fill = torch.tensor(colour, device=patches.device).reshape(1, -1, 1, 1)
    canvas = fill.repeat(len(patches), 1, size, size)
    canvas[..., start : start + side, start : start + side] = patches
    return canvas

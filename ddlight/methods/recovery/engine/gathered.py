"""Statistics of the real images in a teacher's layers: one pass over the training split, sealed, shared by all who ask.

Every set that is recovered from the same teacher and data finds the same folder. Classes are units of work, so that
ranks share the pass and a stopped one goes on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load, save
from torch import Tensor

from ddlight.core import files
from ddlight.core.artefact import Artefact, Unit, Workspace
from ddlight.core.errors import DataError
from ddlight.core.randomness import generator
from ddlight.data.base import RealDataset
from ddlight.methods.images import NormalisedSpace
from ddlight.methods.recovery.engine.observer import Observer
from ddlight.methods.recovery.engine.statistics import EachImage, LayerStatistics
from ddlight.networks.device import current_device
from ddlight.networks.teachers import Teacher
from ddlight.views import dsa
from ddlight.views.crop import CROP_UNIFORMS, crop_boxes, flip, resized_crop
from ddlight.views.loader import eval_batch

VERSION = 2
"""Raised by hand when other numbers come out of the same data and teacher."""
FILE = "statistics.safetensors"
LARGE = 96
"""From this many pixels on, a dataset is treated as the papers treat photographs of 224 pixels."""
CROP = (0.08, 1.0)
"""Area of the crops under which photographs are seen."""


class RealStatistics(Artefact):
    """Statistics of a dataset's training images in one teacher's layers, over all of them and over each class.

    Each image is seen once, mirrored at random: a photograph under a random crop (`CROP`), an image below 96 pixels
    moved by up to an eighth of its side inside a frame of zeros (4 pixels of 32, 8 of 64), as G-VBSM's and EDC's
    scripts for CIFAR and Tiny-ImageNet see them. Draws do not depend on a set's seed. A class's statistics are means
    over its images of each image's own mean and variance, as in EDC's code.
    Deviation: variances over all images are those of all pixels together. The codes average the variances of random
    batches of 64 or 256, which leaves out one 64th or 256th of what differs from image to image.

    Args:
        teacher: loaded.
        dataset: the real dataset.
        cache: folder of condensed sets; the statistics lie in <cache>/<dataset>/statistics/<fingerprint>.
        patch: side of a patch in pixels of a layer's maps.
    """

    kind = "record of real statistics"

    def __init__(self, teacher: Teacher, dataset: RealDataset, cache: Path, patch: int) -> None:
        super().__init__(cache / dataset.info.name / "statistics")
        self.teacher, self.dataset, self.patch = teacher, dataset, patch

    def identity(self) -> dict[str, Any]:
        """Data, teacher, and how its layers and the images are seen."""
        return {
            "version": VERSION,
            "dataset_identity": self.dataset.identity(),
            "teacher": self.teacher.fingerprint(),
            "input": asdict(self.teacher.input),
            "patch": self.patch,
            "views": "crop" if self._photographs else "shift",
        }

    @property
    def _photographs(self) -> bool:
        return self.dataset.info.size >= LARGE

    def of_all(self, device: torch.device) -> dict[int, LayerStatistics]:
        """Statistics of each layer over all images, by layer number: vectors. Raises DataError where a file changed."""
        return self._read(device, "all", slice(None))

    def of_classes(self, classes: np.ndarray, device: torch.device) -> dict[int, LayerStatistics]:
        """Statistics per class by layer number: row i is that of `classes[i]`. Raises as `of_all`."""
        low, high = int(classes.min()), int(classes.max()) + 1
        rows = torch.from_numpy(classes - low).to(device)
        between = self._read(device, "classes", slice(low, high))
        return {layer: tuple(s[rows] for s in statistics) for layer, statistics in between.items()}

    def _read(self, device: torch.device, kind: str, rows: slice) -> dict[int, LayerStatistics]:
        statistics: dict[int, LayerStatistics] = {}
        with safe_open(self._file, "pt") as tensors:
            names = list(tensors.keys())
            for layer, place in sorted(tuple(map(int, key.split(".")[1:])) for key in names if key.startswith(kind)):
                tensor = tensors.get_slice(f"{kind}.{layer}.{place}")[rows].to(device)
                statistics[layer] = (*statistics.get(layer, ()), tensor)
        return statistics

    @cached_property
    def _file(self) -> str:
        """The file, verified."""
        self.verified()
        return str(self.folder / FILE)

    # --- making them ---

    def units(self) -> list[Unit]:
        """The classes."""
        return [Unit(c, (c,)) for c in range(self.dataset.num_classes)]

    @cached_property
    def _observer(self) -> Observer:
        device = current_device()
        taken, statistics = self.teacher.input, partial(EachImage, patch=self.patch)
        return Observer(self.teacher, NormalisedSpace(taken.mean, taken.std), device, statistics)

    def views(self, label: int) -> Iterator[Tensor]:
        """A class's images as they are seen, in the teacher's own size and normalisation, a few at a time."""
        info, rows = self.dataset.info, np.flatnonzero(self.dataset.index("train").labels == label)
        if not len(rows):
            raise DataError(f"Class '{info.classes[label]}' of {info.name} has no training images.")
        u = generator(0, "real statistics", label).random((len(rows), CROP_UNIFORMS + 1))
        step = eval_batch(info)
        for start in range(0, len(rows), step):
            part, images = u[start : start + step], self.dataset.take("train", rows[start : start + step])
            seen = self._seen(torch.from_numpy(images), part[:, :CROP_UNIFORMS])
            mirrored = (part[:, CROP_UNIFORMS] < 0.5) & info.flip
            yield self.teacher.preprocess(flip(seen, mirrored).float() / 255)

    def _seen(self, images: Tensor, u: np.ndarray) -> Tensor:
        """Images uint8 (B, C, S, S), cropped or moved, in the teacher's own size and in grey levels."""
        size, own = images.shape[-1], self.teacher.input.size
        if self._photographs:
            return resized_crop(images, crop_boxes(u, size, CROP), own)
        moved = dsa.apply(images.float(), "crop", dsa.parameters("crop", u, size))
        return resized_crop(moved, np.tile([0, 0, size, size], (len(images), 1)), own)

    @torch.no_grad()
    def make_unit(self, work: Workspace, unit: Unit) -> None:
        """One class: sums over its images of each statistic, and of the squares of means, in float64.

        Raises:
            DataError: it has no images, or the teacher's layers have values that are not finite.
        """
        sums: dict[str, Tensor] = {}
        device, count = next(self._observer.network.parameters()).device, 0
        for views in self.views(unit.classes[0]):
            count += len(views)
            _, measured = self._observer(views.to(device))
            for name, total in _sums(measured):
                sums[name] = sums.get(name, torch.zeros(())) + total.cpu()
        if not all(torch.isfinite(total).all() for total in sums.values()):
            raise DataError(f"Layers of the teacher {self.teacher.name} are not finite. Train it again.")
        work.write(unit, save({**sums, "count": torch.tensor([count])}))

    def collect(self, place: Path, work: Workspace) -> dict[str, Any]:
        """Divide the sums of all classes."""
        made = [load(work.read(unit)) for unit in self.units()]
        counts = torch.cat([one["count"] for one in made]).double()
        names = [name for name in made[0] if name[0].isdigit()]
        tensors: dict[str, Tensor] = {}
        for name in names:
            sums = torch.stack([one[name] for one in made])
            tensors[f"classes.{name}"] = (sums / counts[:, None]).float()
            tensors[f"all.{name}"] = sums.sum(0) / counts.sum()
        for name in (name for name in made[0] if name.startswith("square.")):
            mean, variance = _pair(name)
            square = torch.stack([one[name] for one in made]).sum(0) / counts.sum()
            tensors[variance] = tensors[variance] + square - tensors[mean].square()
        content = save({name: tensor.float().contiguous() for name, tensor in tensors.items()})
        files.write_bytes(place / FILE, content)
        return {
            "dataset": self.dataset.info.name,
            "teacher_name": self.teacher.name,
            "bytes": len(content),
            "images": int(counts.sum()),
        }


def _sums(measured: Mapping[int, LayerStatistics]) -> Iterator[tuple[str, Tensor]]:
    """Sums over images of each statistic (B, n), and of the squares of the means: float64 (n,), by name."""
    for layer, statistics in measured.items():
        for place, values in enumerate(statistics):
            yield f"{layer}.{place}", values.double().sum(0)
            if place % 2 == 0:
                yield f"square.{layer}.{place}", values.double().square().sum(0)


def _pair(square: str) -> tuple[str, str]:
    """Names of the mean that was squared and of the variance that goes with it."""
    _, layer, place = square.split(".")
    return f"all.{layer}.{place}", f"all.{layer}.{int(place) + 1}"

"""What is computed once of each class of the full data and shared by all sets that ask: latents, statistics of them."""

from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional as F

from ddlight.core.artefact import Artefact, Unit, Workspace
from ddlight.core.naming import named
from ddlight.core.randomness import generator
from ddlight.data.base import RealDataset
from ddlight.data.decoded import decode_files, open_rgb
from ddlight.methods.generative.engine.backbone import Backbone, Denoiser
from ddlight.networks.device import current_device

VERSION = 1
AT_ONCE = 32
"""Images that are encoded together."""
Crop = Literal["adm", "squash", "centre"]


class OfClasses(Artefact):
    """Tensors of each class in a file of its own, read class by class: memory never grows with the dataset.

    Args:
        backbone: the generator.
        dataset: whose training split is looked at.
        cache: folder of condensed sets; it lies in <cache>/<dataset>/latents/<fingerprint>.
    """

    def __init__(self, backbone: Backbone, dataset: RealDataset, cache: Path) -> None:
        super().__init__(cache / dataset.info.name / "latents")
        self.backbone, self.dataset, self.cache = backbone, dataset, cache

    @abstractmethod
    def tensors(self, model: Denoiser, label: int) -> dict[str, Tensor]:
        """What is kept of a class."""

    def identity(self) -> dict[str, Any]:
        """Kind, data and generator; a kind of its own adds its options."""
        return {
            "version": VERSION,
            "of": self.kind,
            "dataset_identity": self.dataset.identity(),
            "backbone": named(self.backbone),
        }

    @cached_property
    def _model(self) -> Denoiser:
        return self.backbone.load(self.dataset, self.cache)

    def units(self) -> list[Unit]:
        """The classes."""
        return [Unit(c, (c,)) for c in range(self.dataset.num_classes)]

    def make_unit(self, work: Workspace, unit: Unit) -> None:
        """Compute a class's."""
        with torch.no_grad():
            kept = self.tensors(self._model, unit.classes[0])
        work.write(unit, save({name: tensor.cpu().contiguous() for name, tensor in kept.items()}))

    def collect(self, place: Path, work: Workspace) -> dict[str, Any]:
        """Put the classes' files into the sealed folder."""
        for unit in self.units():
            work.link(unit, place)
        return {"dataset": self.dataset.info.name, "seconds": self.seconds}

    def of_class(self, label: int) -> dict[str, Tensor]:
        """A class's tensors, on the CPU."""
        return load((self.folder / f"{label:06d}{self.suffix}").read_bytes())

    def rows(self, label: int) -> np.ndarray:
        """Positions of a class's images in the training split, ascending, int64 (n,)."""
        return np.flatnonzero(self.dataset.index("train").labels == label)


class Latents(OfClasses):
    """Latents of the full data, float16; 8 KiB an image of DiT-XL/2 at 256 pixels, 10.5 GB for ImageNet-1K.

    Args:
        sampled: a draw of each image's posterior instead of its mean.
        flip: mirror every second image, drawn.
        crop: how a picture becomes square where it is read from a file.
    """

    kind = "latents"

    def __init__(self, *args: Any, sampled: bool = False, flip: bool = False, crop: Crop = "adm") -> None:
        super().__init__(*args)
        self.sampled, self.flip, self.crop = sampled, flip, crop

    def identity(self) -> dict[str, Any]:
        """As every kind's, with the options."""
        return {**super().identity(), "options": [self.sampled, self.flip, self.crop]}

    def tensors(self, model: Denoiser, label: int) -> dict[str, Tensor]:
        """Latents (n, C h w), in the order of the class's images."""
        rng, parts = generator(0, "latents", label), []
        for images in real_images(self.dataset, model, self.rows(label), self.crop):
            images = mirrored(images, rng) if self.flip else images
            mean, deviation = model.encode(images)
            if self.sampled:
                mean = mean + deviation * torch.from_numpy(rng.standard_normal(mean.shape, np.float32)).to(mean)
            parts.append(mean.flatten(1).half().cpu())
        return {"latents": torch.cat(parts)}

    def points(self, label: int) -> np.ndarray:
        """A class's latents, float32 (n, C h w)."""
        return self.of_class(label)["latents"].float().numpy()


def real_images(dataset: RealDataset, model: Denoiser, rows: np.ndarray, crop: Crop) -> Iterator[Tensor]:
    """Training images as a generator takes them, in [-1, 1], a batch at a time: (n, channels, size, size).

    Pictures in files are cropped from the whole where the generator's images are larger than the dataset's.
    """
    paths, info, size = dataset.encoded("train"), dataset.info, model.size
    for part in (rows[k : k + AT_ONCE] for k in range(0, len(rows), AT_ONCE)):
        if paths and size > info.size:
            chosen = [paths[row] for row in part.tolist()]
            pixels = decode_files(chosen, lambda path: squared(open_rgb(path), size, crop), (3, size, size))
        else:
            pixels = dataset.take("train", part)
        images = torch.from_numpy(np.ascontiguousarray(pixels)).to(current_device()).float() / 127.5 - 1
        yield fitted(images, size, model.channels)


def mirrored(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Images (B, C, S, S), every second one of which, drawn, is mirrored."""
    chosen = torch.from_numpy(rng.random(len(images)) < 0.5).to(images.device)
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def squared(picture: Image.Image, size: int, crop: Crop) -> np.ndarray:
    """A picture as a square: uint8 (3, size, size).

    "adm" halves it with a box filter while its short side is 2 x size or more, then resizes the short side by a bicubic
    filter and takes the middle; "centre" resizes by a bilinear filter and takes the middle; "squash" forgets the shape.
    """
    if crop == "squash":
        return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    while crop == "adm" and min(picture.size) >= 2 * size:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    scale = size / min(picture.size)
    sides = round(picture.width * scale), round(picture.height * scale)
    picture = picture.resize(sides, Image.Resampling.BICUBIC if crop == "adm" else Image.Resampling.BILINEAR)
    left, top = (sides[0] - size) // 2, (sides[1] - size) // 2
    return np.asarray(picture.crop((left, top, left + size, top + size))).transpose(2, 0, 1)


def fitted(images: Tensor, size: int, channels: int) -> Tensor:
    """Images (B, C, s, s) at another size, bicubic, and in colour or grey as asked."""
    if images.shape[-1] != size:
        images = F.interpolate(images, (size, size), mode="bicubic", antialias=True)
    if images.shape[1] == channels:
        return images
    if channels == 1:
        weights = torch.tensor([0.299, 0.587, 0.114], device=images.device)
        return (images * weights[:, None, None]).sum(1, keepdim=True)
    return images.repeat(1, channels, 1, 1)

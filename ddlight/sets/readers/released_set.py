"""What a released set holds, whatever layout it came in, and what names, shapes and values tell about it."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ddlight.core.errors import DataError, UsageError
from ddlight.views.whiten import WhiteningKind

ZCA = re.compile(r"(?<!no)(?<!no[_-])zca", re.IGNORECASE)
"""In a name: the images are whitened. `NO_ZCA` and `nozca` say the contrary."""
UNWHITENED = re.compile(r"no[_-]?zca", re.IGNORECASE)

WHITENED_ROUGHNESS = 0.6
"""Sets of CIFAR-10 that are known to be whitened have a `roughness` of 0.69 or more, others 0.2 to 0.5."""

Space = Literal["pixel", "normalised", WhiteningKind]


@dataclass(frozen=True)
class ReleasedSet:
    """What a released set holds.

    >>> labels = np.array([0, 0, 1, 1])
    >>> ReleasedSet("folder of class folders", np.zeros((4, 1, 8, 8), np.uint8), labels).first(1).labels
    array([0, 1])

    Args:
        layout: as in the table of `released`.
        images: uint8, or float32 in `space`, (N, C, H, W), class by class; empty for `rows`.
        labels: int64 (N,), or float32 (N, K) of `kind`.
        space: "pixel" in [0, 1], "normalised" by the dataset's mean and std, or a recipe of `views.whiten`.
        kind: "hard", "probabilities", "logits" or "centred".
        lr: learning rate that was learned with the set.
        factor: images were mosaics of factor x factor, and are decoded here.
        rows: int64 (N,), positions in the training split, where the set is a list of real images.
        made_for: int64 (N,), the class that each image was made for, where labels are soft.
        why: how the space of floats was told, or that it was assumed.
        doubt: what speaks against `space`, where that was assumed; with the options that settle it.
        contradiction: why the numbers cannot be in the space that was assumed; the set is refused unless one is given.
        notes: what a reader should know, a sentence each.
    """

    layout: str
    images: np.ndarray
    labels: np.ndarray
    space: Space = "pixel"
    kind: str = "hard"
    lr: float | None = None
    factor: int = 1
    rows: np.ndarray | None = None
    made_for: np.ndarray | None = None
    why: str = ""
    doubt: str = ""
    contradiction: str = ""
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> np.ndarray:
        """Class of each image, int64 (N,)."""
        return self.labels if self.made_for is None else self.made_for

    @property
    def counts(self) -> np.ndarray:
        """Images of each class, int64 (K,)."""
        return np.bincount(self.classes, minlength=0 if self.labels.ndim == 1 else self.labels.shape[1])

    @property
    def ipc(self) -> int:
        """Images of the class that has most; with soft labels images divided by classes."""
        return int(self.counts.max()) if self.made_for is None else -(-len(self.labels) // self.labels.shape[1])

    def take(self, places: np.ndarray) -> "ReleasedSet":
        """The images at some places, int64 (n,), in that order."""
        if self.rows is not None:
            return replace(self, rows=self.rows[places], labels=self.labels[places])
        made_for = None if self.made_for is None else self.made_for[places]
        return replace(self, images=self.images[places], labels=self.labels[places], made_for=made_for)

    def first(self, ipc: int) -> "ReleasedSet":
        """The first `ipc` images of each class, in class order. Raises UsageError where a class has fewer."""
        counts = self.counts
        if counts.min() < ipc:
            raise UsageError(
                f"ipc={ipc} is more than the released set has: class {int(counts.argmin())} has {counts.min()} images. "
                f"Use --data.ipc={counts.min()} or less, or leave ipc out to take all."
            )
        return self.take(np.concatenate([np.flatnonzero(self.classes == c)[:ipc] for c in range(len(counts))]))

    def lines(self) -> list[str]:
        """What was found, a line each."""
        counts = self.counts
        span = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
        lines = [f"released set, layout {self.layout}: {len(self.labels):,} images, {span} per class"]
        if self.rows is None:
            shape = " x ".join(map(str, self.images.shape[1:]))
            why = f" ({self.why})" if self.why else ""
            span = f"{self.images.min():.3g} to {self.images.max():.3g}"
            lines.append(f"images {shape}, {self.images.dtype}, {span}, {self.space}{why}")
        learned = f", learned lr {self.lr:.3g}" if self.lr is not None else ""
        return [*lines, f"labels {self.kind}, {len(counts)} classes{learned}", *self.notes]


def from_arrays(images: Any, labels: Any, path: Path, layout: str, centred: bool = False) -> ReleasedSet:
    """A set of images (N, C, H, W) and labels (N,) or (N, K), as tensors, arrays or lists of numbers.

    Whole numbers up to 255 or 65,535 and floats in [0, 1] are pixels, other floats normalised; the values say what soft
    labels are: probabilities, or else logits, or those of kernel regression where `centred`.

    Raises:
        DataError: images of other dimensions, labels that are not finite, or classes that are no whole numbers.
    """
    pixels, labels = numbers(images, path, "images"), numbers(labels, path, "labels")
    if pixels.ndim != 4 or not pixels.size:
        raise DataError(f"{path} holds images of shape {pixels.shape}; (N, C, H, W) is expected.")
    labels = labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim not in (1, 2) or not labels.size or not np.isfinite(labels).all():
        whole = labels.ndim in (1, 2) and labels.size
        what = "numbers that are not finite" if whole else f"shape {labels.shape}"
        raise DataError(f"{path} has labels of {what}; (N,) classes, or finite numbers (N, K) are expected.")
    if labels.ndim == 1 and (labels != np.rint(labels)).any():
        wrong = labels[labels != np.rint(labels)][0]
        raise DataError(f"{path} has labels such as {wrong:.4g}; the numbers of classes are whole.")
    pixels, contradiction = _pixels(pixels, path)
    space: Space = "pixel" if pixels.dtype == np.uint8 or (pixels.min() >= 0 and pixels.max() <= 1) else "normalised"
    labels = labels.astype(np.int64 if labels.ndim == 1 else np.float32)
    kind = "hard"
    if labels.ndim > 1:
        sums_to_one = labels.min() >= 0 and np.abs(labels.sum(1) - 1).max() < 1e-2  # of float16 too
        kind = "probabilities" if sums_to_one else "centred" if centred else "logits"
    made_for = None if labels.ndim == 1 else classes_of_soft_labels(labels)
    return ReleasedSet(layout, pixels, labels, space, kind, made_for=made_for, contradiction=contradiction)


def numbers(content: Any, path: Path, what: str) -> np.ndarray:
    """Tensors of any kind, arrays or lists as an array. Raises DataError where they are not real numbers."""
    try:
        if isinstance(content, Tensor):
            content = content.detach().to_dense()
            content = content.float() if content.dtype == torch.bfloat16 else content
            content = content.numpy()
        array = np.asarray(content)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged lists, quantised tensors
        raise DataError(f"{path} holds {what} that are no array of numbers: {str(error).splitlines()[0]}") from error
    if array.dtype.kind not in "fiub":
        raise DataError(f"{path} holds {what} of type {array.dtype}; numbers are expected.")
    return array


def _pixels(images: np.ndarray, path: Path) -> tuple[np.ndarray, str]:
    """Images as uint8 or float32, and what speaks against the space that their numbers suggest; "" where nothing."""
    least, most = float(images.min()), float(images.max())
    if images.dtype == np.uint8 or not np.isfinite([least, most]).all():
        return np.ascontiguousarray(images), ""
    if least >= 0 and 1 < most <= 65535 and (images == np.rint(images)).all():
        whole = images.astype(np.uint8) if most <= 255 else images.astype(np.float32) / 65535
        return np.ascontiguousarray(whole), ""
    floats = np.ascontiguousarray(images, np.float32)
    if least >= 0 and most <= 1:
        return floats, ""
    says = f"{path} holds numbers from {least:.4g} to {most:.4g}, which are neither pixels in [0, 1] nor"
    if least >= -0.05:
        return floats, f"{says} normalised, as none is below 0. Say which: --data.space=pixel, --data.space=normalised"
    if least >= -1.05 and most <= 1.05:
        return floats, f"{says} surely normalised. Say which: --data.space=scaled ([-1, 1]) or --data.space=normalised"
    return floats, ""


def brought_to(content: ReleasedSet, space: Space | Literal["scaled"], path: Path) -> ReleasedSet:
    """Take float images to be in a space that is given. Raises DataError where their numbers cannot be."""
    images, given = content.images, replace(content, why="as given", doubt="", contradiction="")
    least, most = float(images.min()), float(images.max())
    if space == "scaled":
        if least < -1.05 or most > 1.05:
            raise DataError(f"{path} holds numbers from {least:.4g} to {most:.4g}; scaled ones lie in [-1, 1].")
        return replace(given, images=np.clip((images + 1) / 2, 0, 1), space="pixel")
    if space == "pixel" and (least < -0.5 or most > 1.5):  # learned pixels may leave [0, 1] a little
        top = 255 if most <= 255.5 else 65535
        if least < 0 or most > top:
            raise DataError(f"{path} holds numbers from {least:.4g} to {most:.4g}; pixels lie in [0, 1] or [0, 255].")
        return replace(given, images=np.clip(images / np.float32(top), 0, 1), space="pixel")
    return replace(given, space=space)


def classes_of_soft_labels(labels: np.ndarray) -> np.ndarray:
    """Class that each image was made for, int64 (N,), of learned labels (N, K).

    Learning moves the strongest class of a label away from it now and then, and its place does not move: images lie
    class by class, or the classes in turn. The strongest class counts where neither agrees with half of the labels.
    """
    strongest = labels.argmax(1)
    count, classes = labels.shape
    if count % classes:
        return strongest
    blocks = np.array([np.bincount(block, minlength=classes).argmax() for block in strongest.reshape(classes, -1)])
    orders = [np.repeat(np.arange(classes), count // classes), np.tile(np.arange(classes), count // classes)]
    if len(set(blocks.tolist())) == classes:  # class by class, but counted in another order than the dataset's
        orders.append(np.repeat(blocks, count // classes))
    best = max(orders, key=lambda order: int((order == strongest).sum()))
    return best if 2 * (best == strongest).sum() >= count else strongest


def whitened_if_named(content: ReleasedSet, path: Path, recipe: Space) -> ReleasedSet:
    """Say that float images are whitened where the name of their file or its folder says zca."""
    if content.space == "pixel":
        return content
    if ZCA.search(path.name) or ZCA.search(path.absolute().parent.name):
        return replace(content, space=recipe, why="its name says zca", contradiction="")
    option, rough, doubt = f"--data.space={recipe}", roughness(content.images), ""
    if rough > WHITENED_ROUGHNESS and not UNWHITENED.search(f"{path.absolute().parent.name}/{path.name}"):
        doubt = (
            f"{path} is taken as normalised, and looks whitened: neighbouring pixels differ by {rough:.2f} standard "
            f"deviations, as after ZCA. If it is whitened: {option}; if not: --data.space=normalised"
        )
    return replace(content, why=f"assumed, as no name says zca; if it is whitened: {option}", doubt=doubt)


def roughness(images: np.ndarray) -> float:
    """Mean difference of neighbouring pixels, in standard deviations of all: 1.13 for white noise."""
    steps = [np.abs(np.diff(images, axis=axis)).mean() for axis in (2, 3)]
    return float(np.mean(steps) / max(float(images.std()), 1e-12))

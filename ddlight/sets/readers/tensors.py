"""Files of torch.save: DC, DSA, DM (`res_*.pt`); MTT, TESLA, DATM, SelMatch, DC-bench (`images*.pt`), IDC."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ddlight.core.errors import DataError
from ddlight.data.base import RealDataset
from ddlight.networks.torch_file import read_torch_file
from ddlight.sets.readers.class_folders import number
from ddlight.sets.readers.released_set import (
    ReleasedSet,
    classes_of_soft_labels,
    from_arrays,
    numbers,
    whitened_if_named,
)

IN_PIXELS = "images_zca"
"""Beginning of what MTT and TESLA save beside whitened images: the same, brought back to pixels."""
ALONE = "{} holds images alone; their labels are expected beside them, under the same name with 'labels' in it."
IDC_FACTOR = 2
"""Factor of IDC's released sets, which the files do not say."""


def read_tensors(path: Path, dataset: RealDataset) -> ReleasedSet:
    """Read a set from a .pt or .pth file and what lies beside it; DataError where it is damaged or no known layout."""
    content = read_torch_file(path)
    if isinstance(content, dict) and "data" in content:
        try:
            images, labels = content["data"][-1]
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise DataError(f"{path} has data without images and labels of an experiment ({error}).") from error
        notes = (f"the last of {len(content['data'])} experiments",)
        last = from_arrays(images, labels, path, "res_*.pt")
        if last.images.dtype == np.uint8:
            return replace(last, notes=notes)
        return replace(last, space="normalised", why="as all of this layout", notes=notes)
    if isinstance(content, list | tuple) and len(content) == 2:
        return _mosaics(from_arrays(content[0], content[1], path, "data.pt"))
    if isinstance(content, Tensor):
        return _images_and_labels(content, path)
    raise DataError(f"{path} holds {type(content).__name__}: no layout that is known.")


def tensor_files(folder: Path) -> list[Path]:
    """Files of images of a folder, without those of MTT and TESLA that are brought back to pixels."""
    files = (*folder.glob("images*.pt"), *folder.glob("*_images.pt"))
    return [file for file in files if not file.name.startswith(IN_PIXELS)]


def read_tensor_folder(folder: Path, dataset: RealDataset) -> ReleasedSet:
    """Read the set of a folder: the best images, in as many files as they are, or those of the last step."""
    files = tensor_files(folder)
    last = max(files, key=lambda file: ("best" in file.name, number(file), file.name))
    parts = [file for file in files if re.search(r"_best_\d+\.pt$", file.name)] or [last]
    sets = [read_tensors(part, dataset) for part in sorted(parts, key=number)]
    images, labels = np.concatenate([s.images for s in sets]), np.concatenate([s.labels for s in sets])
    made_for = None if labels.ndim == 1 else classes_of_soft_labels(labels)
    return replace(sets[0], images=images, labels=labels, made_for=made_for)


def file_beside(path: Path, kind: str) -> Path | None:
    """The file of "labels" or of the learned "lr" that belongs to a file of images, if there is one.

    It has the images' name with that word in it, also in the singular; or it is the one file of labels that has the
    images' number, such as `10label.pt` beside `CIFAR10_IPC10_images.pt`.
    """
    images = IN_PIXELS if path.name.startswith(IN_PIXELS) else "images"
    if images not in path.name:
        return None
    files = [path.with_name(path.name.replace(images, word, 1)) for word in (kind, kind.removesuffix("s"))]
    if found := [file for file in files if file.exists()]:
        return found[0]
    others = path.parent.glob(f"*label*{path.suffix}") if kind == "labels" else ()
    same = [file for file in others if number(file) == number(path)]
    return same[0] if len(same) == 1 else None


def _images_and_labels(images: Tensor, path: Path) -> ReleasedSet:
    """Images and what lies beside them, in the space that names and neighbours tell."""
    labels, lr = file_beside(path, "labels"), file_beside(path, "lr")
    if labels is None:
        raise DataError(ALONE.format(path))
    content = from_arrays(images, read_torch_file(labels), path, "images*.pt")
    if lr is not None:
        rate = numbers(read_torch_file(lr), lr, "a learning rate")
        if rate.size != 1 or not np.isfinite(rate).all() or rate.item() <= 0:
            raise DataError(f"{lr} holds {rate.ravel()[:3].tolist()}; one learning rate above 0 is expected.")
        content = replace(content, lr=float(rate.item()))
    if path.name.startswith(IN_PIXELS):
        why = "images_zca_* are whitened images brought back to pixels"
        return replace(content, space="pixel", why=why, contradiction="")
    if content.space != "pixel" and content.kind == "logits" and lr is not None:
        why = "logits and lr*.pt beside them: DATM, which whitens every set"
        return replace(content, space="zca", why=why, contradiction="")
    if content.space != "pixel" and any(path.parent.glob("images_zca_*.pt")):
        return replace(content, space="zca", why="images_zca_*.pt lie beside it", contradiction="")
    return whitened_if_named(content, path, "zca")


def _mosaics(content: ReleasedSet) -> ReleasedSet:
    """IDC's images cut into the factor x factor images that they are, each resized to full size (arXiv 2205.14959)."""
    if content.space != "pixel" or content.images.dtype == np.uint8:
        return content
    count, channels, height, width = content.images.shape
    side = height // IDC_FACTOR
    tiles = torch.from_numpy(content.images).unfold(2, side, side).unfold(3, side, side)
    small = tiles.permute(0, 2, 3, 1, 4, 5).reshape(-1, channels, side, side)
    full = functional.interpolate(small, (height, width), mode="bilinear", align_corners=False)
    labels = np.repeat(content.labels, IDC_FACTOR**2, axis=0)
    made_for = None if content.made_for is None else np.repeat(content.made_for, IDC_FACTOR**2)
    note = f"decoded as mosaics of {IDC_FACTOR} x {IDC_FACTOR}: {count} stored images are {len(full)}"
    return replace(content, images=full.numpy(), labels=labels, made_for=made_for, factor=IDC_FACTOR, notes=(note,))

"""ddlight from Python: choose images, open a set, judge it. The classes of the commands, behind three functions."""

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ddlight.cli.command_line import module_of, quiet
from ddlight.cli.configs import find_config
from ddlight.core import discover
from ddlight.core.artefact import MANIFEST, read_manifest, verify
from ddlight.core.errors import UsageError
from ddlight.core.result import FILE as RESULT
from ddlight.core.result import Result, Seconds
from ddlight.data.base import RealDataset
from ddlight.data.folder import ImageFolder
from ddlight.data.in_memory import InMemory
from ddlight.recipes import table
from ddlight.sets.module import CondensedDataModule
from ddlight.sets.opened import find, open_dataset, root_of
from ddlight.sets.store import StoredSet, read_selection
from ddlight.sets.store import load as load_set
from ddlight.train.record import condense_seconds, record
from ddlight.train.trainer import Trainer
from ddlight.views.pixels import memory_limit

Images = np.ndarray | Tensor | str | os.PathLike[str] | RealDataset | Dataset[Any]


class LoadedSet(Dataset[tuple[Tensor, Tensor]]):
    """A condensed set as a torch Dataset of (image, label).

    An image is float32 (C, H, W): in [0, 1] where the set holds pixels, else in the space that the manifest names. A
    label is an int64 scalar, or float32 (K,) where the set has soft labels.

    Attributes:
        data: the data module that feeds the set to a run.
        images: uint8 or float32 (N, C, H, W).
        labels: int64 (N,), or float32 (N, K).
        classes: names of the classes.
        manifest: what was sealed with the set.
    """

    def __init__(self, data: CondensedDataModule) -> None:
        data.setup("fit")
        stored = data.require()
        self.data, self.images, self.labels, self.manifest = data, stored.images, stored.labels, stored.manifest
        self.classes: list[str] = list(stored.manifest["classes"])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        image = torch.as_tensor(np.asarray(self.images[[number]])[0])
        return image / 255 if image.dtype == torch.uint8 else image, torch.as_tensor(self.labels[number])


class SealedSet(CondensedDataModule):
    """A condensed set that lies in a folder, whatever made it.

    Args:
        path: the folder.
        dataset: the real dataset that it condenses; opened as the manifest names it by default.
        root: folder of the real images, if not the one that the set was made from.
    """

    def __init__(self, path: Path, dataset: RealDataset | None = None, root: str | None = None) -> None:
        manifest = read_manifest(path)
        super().__init__(dataset or open_dataset(manifest, root), manifest["ipc"], manifest["seed"])
        self.path = path
        self.space, self.tile_factor, self.label_kind = manifest["space"], manifest["tile_factor"], manifest["labels"]

    @property
    def folder(self) -> Path:
        """The folder."""
        return self.path

    def setup(self, stage: str) -> None:
        """Load the set. Raises DataError where it was changed."""
        self.stored = self.stored or self.read()

    def read(self) -> StoredSet:
        """The set, verified. Raises DataError where it was changed."""
        return load_set(self.path, self.dataset, memory_limit(), verify(self.path))

    def prepare_fit(self) -> None:
        """Nothing is made; a whitening is fitted by one process."""
        _ = self.whitening


def select(
    data: Images,
    labels: Sequence[int] | np.ndarray | Tensor | None = None,
    *,
    ipc: int = 10,
    method: str | type = "KMeans",
    seed: int = 0,
    cache: str | None = None,
    **options: Any,
) -> np.ndarray:
    """Choose images per class, as `ddlight condense` does.

    >>> images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    >>> with tempfile.TemporaryDirectory() as cache:
    ...     select(images, [0, 1] * 20, ipc=3, method="Random", cache=cache).shape
    (6,)

    Args:
        data: uint8 images (N, C, H, W) with `labels`; a folder of class folders; a RealDataset such as
            `ddlight.Digits()`; or a torch Dataset of (image, label), whose images are PIL images or tensors (C, H, W),
            uint8 or in [0, 1], of one size.
        labels: int (N,), where `data` are images.
        ipc: images per class.
        method: a coreset's name or class; `ddlight.list_methods("select")` names them.
        seed: of every draw.
        cache: folder of condensed sets; null means $DDLIGHT_CACHE or ~/.cache/ddlight/condensed.
        options: of the method.

    Returns:
        int64 (M,): positions in the data, class by class; of a folder or a RealDataset, positions in its training split
        (`dataset.index("train")` has their ids, which are paths for a folder).

    Raises:
        UsageError: there is no such method, it makes images instead, or the images or labels are not of that kind.
        DataError: the data are missing or damaged.
    """
    made = _class(method)(_dataset(data, labels), ipc=ipc, seed=seed, cache=cache, **options)
    folder = made.condense()
    if not (folder / "selection.csv").is_file():
        raise UsageError(f"{type(made).__name__} makes images; only coresets choose: ddlight methods select")
    return read_selection(folder)[0]


def load(source: str | os.PathLike[str] | CondensedDataModule, *options: str, root: str | None = None) -> LoadedSet:
    """Open a condensed set; one that is missing and quick to make is made.

    Args:
        source: folder of a condensed set or of a run; a config's file or name; or a data module such as
            `ddlight.Random(ddlight.Digits(), ipc=10)`.
        options: of a config, as they are typed: "--data.ipc=20".
        root: folder of the real images, if not the one that a set or run names.

    Raises:
        DataError: the set was changed, or data are missing.
        UsageError: there is no such folder or config; MissingSetError: the set takes long to make.
    """
    return LoadedSet(_module(source, options, root))


def judge(
    condensed: str | os.PathLike[str] | CondensedDataModule | LoadedSet,
    *,
    regime: str | type | None = None,
    student: Any = "ConvNet",
    protocol: str = "dcbench",
    seed: int = 0,
    run: str | os.PathLike[str] | None = None,
    root: str | None = None,
    **options: Any,
) -> Result:
    """Train a student on a condensed set and read the test split once, as `ddlight fit` does.

    Args:
        condensed: what `load` takes, or what it gave.
        regime: name or class; by default the one that the protocol was published with.
        student: name, class or description, such as `ddlight.ConvNet(width=32)`.
        protocol: published recipe: `ddlight protocols`.
        seed: of initialisation, order and augmentation.
        run: folder to keep result.json, the student and the curve in; by default nothing is kept.
        root: folder of the real images, if not the one that a set or run names.
        options: of the regime, such as `budget=Budget(epochs=60)` or `teacher=ddlight.RunTeacher("runs/teacher")`.

    Returns:
        Result: the content of result.json; `result.acc.test` is the accuracy in percent.

    Raises:
        DataError, UsageError: as `load`; or there is no such regime, student or protocol.
    """
    started = time.perf_counter()
    data = condensed.data if isinstance(condensed, LoadedSet) else _module(condensed, (), root)
    if not len(data.dataset.index("test")):
        raise UsageError(f"{data.dataset.info.name} has no test images, which a student is judged on.")
    quiet()
    network = _class(student)() if isinstance(student, str | type) else student
    model = _class(regime or table.find(protocol).regime)(network, protocol=protocol, seed=seed, **options)
    with tempfile.TemporaryDirectory() as place:
        trainer = Trainer(run=str(run or Path(place) / "run"), progress=False, devices=1)
        trainer.fit_run(model, data)
        setup = (trainer.clock.started or started) - started
        seconds = Seconds(condense_seconds(data), setup, trainer.clock.seconds, trainer.evaluate_seconds)
        result = record(trainer, model, data, "python", seconds)
    if run is not None:
        result.write(Path(run) / RESULT)
    return result


def _class(name: str | type) -> Any:
    return discover.load_class(name) if isinstance(name, str) else name


def _module(source: Any, options: Sequence[str], root: str | None) -> CondensedDataModule:
    """The data module of a set's or a run's folder, or of a config."""
    if isinstance(source, CondensedDataModule):
        return source
    path = Path(source)
    if not path.is_dir() and path.name not in (MANIFEST, RESULT) and find_config(path).is_file():
        return module_of(["condense", "--config", str(path), *options])
    folder = find(path)
    if (folder / MANIFEST).is_file():
        return SealedSet(folder, root=root)
    return SealedSet(Path(Result.read(folder).set.path), root=root or root_of(folder))


def _dataset(data: Any, labels: Any) -> RealDataset:
    """What a selection is made from, as a dataset."""
    if isinstance(data, RealDataset):
        return data
    if isinstance(data, str | os.PathLike):
        return ImageFolder(str(data))
    if isinstance(data, Dataset) and not isinstance(data, Tensor):
        pairs = [data[number] for number in range(len(data))]  # type: ignore[arg-type]
        sizes = {np.shape(image) for image, _ in pairs}
        if len(sizes) > 1:
            raise UsageError(f"The images have {len(sizes)} sizes: give them one, or the folder that they lie in.")
        data, labels = np.stack([_pixels(image) for image, _ in pairs]), [int(label) for _, label in pairs]
    if labels is None:
        raise UsageError("Images need their labels: ddlight.select(images, labels, ipc=10)")
    return InMemory(_array(data), _array(labels))


def _pixels(image: Any) -> np.ndarray:
    """An image as uint8 (C, H, W)."""
    pixels = _array(image)
    if pixels.dtype.kind == "f":
        if pixels.min() < 0 or pixels.max() > 1:
            raise UsageError("Images in floating point lie in [0, 1] here: give them before they are normalised.")
        return np.rint(pixels * 255).astype(np.uint8)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return pixels if isinstance(image, Tensor) else np.moveaxis(pixels, -1, 0)


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)

"""What every method shares: units of work in, a sealed set on disk, training batches out.

A method is a LightningDataModule in one file. A `Selector` chooses real images, a `Synthesiser` makes new ones; both
are pure functions of one unit, so that ranks, job arrays, a resumed run and two racing processes give the same bytes.
"""

import logging
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ddlight.core import files, naming
from ddlight.core.artefact import Artefact, Unit, Workspace
from ddlight.core.discover import source_digest
from ddlight.core.errors import DataError, MissingSetError, UsageError
from ddlight.core.files import cache_folder
from ddlight.core.naming import named
from ddlight.core.randomness import generator
from ddlight.core.result import peak_host_memory
from ddlight.data.base import RealDataset
from ddlight.networks.teachers import Teacher, check_teacher
from ddlight.sets import store
from ddlight.sets.store import Made, Selection, StoredSet, Synthesis
from ddlight.sets.whitening import set_whitening
from ddlight.views import pixels
from ddlight.views.loader import Batch, EvalLoader, RunLoader, eval_batch
from ddlight.views.pixels import Pixels, WorkerLoader
from ddlight.views.whiten import Whitening

log = logging.getLogger("ddlight")

BUILD_SECONDS = 600.0
"""`fit` builds a missing set itself where that is estimated to take less."""
CHECKED_IMAGES = 200
"""A method's teachers are tried on so many training images before anything is made with them."""


class CondensedDataModule(LightningDataModule):
    """A condensed set: where it lies, how it is made, how it is fed.

    Every constructor argument is kept under its own name. Those that differ from their defaults, the data and the seed
    name the set; `cache` does not.

    Args:
        dataset: the real dataset that is condensed.
        ipc: images per class.
        seed: of every draw that makes the set.
        cache: folder of condensed sets; null means $DDLIGHT_CACHE or ~/.cache/ddlight/condensed.
    """

    recipe_version: ClassVar[int] = 1
    """Raised by hand when a method starts to make other sets from the same arguments."""
    space: str = "pixel"
    """Space of float images: "pixel" in [0, 1], "normalised" by the dataset's mean and std, or whitened by a recipe of
    `views.whiten`: then students train, and are tested, on images that are whitened alike."""
    selected_on: ClassVar[str] = "none"
    """Where this method's choices are made: "none", "held_out" or "test"."""
    cost_recorded: ClassVar[bool] = True
    """Whether the manifest's seconds are those of making the set; where others made it, they are of reading it."""
    one_unit: bool = False
    """Whether all classes are one unit of work."""
    tiny: ClassVar[dict[str, Any]] = {}
    """Argument values with which the method runs in seconds; `--tiny` takes them."""
    tile_factor: int = 1
    """Images are mosaics of factor x factor patches."""
    learns_lr: bool = False
    """Whether `make` learns a learning rate with the images; `--model.recipe.lr=set` trains with it."""
    own_steps: tuple[int, int] | None = None
    """Steps of the training that `make` learns with the images, and images of each; protocol own repeats it."""
    label_kind: str = "hard"
    """hard, probabilities, logits or centred; `SoftLabel(labels="set")` trains on soft ones."""

    def __init__(self, dataset: RealDataset, ipc: int = 10, seed: int = 0, cache: str | None = None) -> None:
        super().__init__()
        if not isinstance(dataset, RealDataset):
            raise UsageError(
                f"{type(self).__name__} takes a dataset, such as Digits(); given: {dataset!r}. "
                "A method of your own says so in its constructor: dataset: RealDataset."
            )
        if ipc < 1 or seed < 0:
            raise UsageError(f"ipc must be at least 1 and seed at least 0; given: ipc={ipc}, seed={seed}.")
        self.dataset, self.ipc, self.seed, self.cache = dataset, ipc, seed, cache
        self.stored: StoredSet | None = None
        self._on_device: tuple[Pixels, Tensor] | None = None
        self.progress = False  # whether scoring runs that the set needs say how far they are; the Trainer says so

    # --- the method ---

    def units(self) -> list[Unit]:
        """Independent pieces of work, one per class unless a method says otherwise."""
        if self.one_unit:
            return [Unit(0, tuple(range(self.dataset.num_classes)))]
        return [Unit(c, (c,)) for c in range(self.dataset.num_classes)]

    def make(self, unit: Unit) -> Made:
        """Make one unit. A pure function of the arguments, the data and the unit."""
        raise NotImplementedError

    def checked(self, unit: Unit, made: Any) -> Made:
        """What `make` returned, once it is known to be a piece of a set. Raises DataError where it is not."""
        if not isinstance(made, Selection | Synthesis):
            raise DataError(
                f"{type(self).__name__}.make returned {type(made).__name__} for unit {unit.number}; a Selection or a "
                "Synthesis of ddlight.sets.store is expected."
            )
        return made

    def check_counts(self, counts: np.ndarray | int) -> None:
        """Look at the images of each class (K,), or at all of a set of soft labels, before it is sealed."""

    def save_progress(self, unit: Unit, tensors: Mapping[str, Tensor]) -> None:
        """Keep the progress of a long unit in place of what was saved before; it goes when the set is sealed.

        Args:
            unit: the unit that `make` is at.
            tensors: what `make` needs to go on from here, by name, on any device.
        """
        content = save({name: tensor.contiguous().cpu() for name, tensor in tensors.items()})
        files.write_bytes(self._progress_file(unit), files.sealed(content))

    def load_progress(self, unit: Unit) -> dict[str, Tensor] | None:
        """What a stopped process saved last of a unit, on the CPU; None where there is nothing, or it is damaged."""
        path = self._progress_file(unit)
        if not path.exists():
            return None
        try:
            return load(files.unsealed(path.read_bytes()))
        except (DataError, SafetensorError):
            log.warning("%s is damaged: unit %d begins anew", path, unit.number)
            return None

    def _progress_file(self, unit: Unit) -> Path:
        return self.working / f"{unit.number:06d}.progress"

    def prepare(self) -> None:
        """Make what all units need, in one process before others are launched; by default there is nothing."""

    def estimate_seconds(self) -> float:
        """Rough time to make the set on this machine; a method that does not say is taken to be quick."""
        return 0.0

    def estimate_memory(self) -> int:
        """Rough bytes that making the set takes beside the libraries; 0 where a method does not say."""
        return 0

    def facts(self) -> dict[str, Any]:
        """What the method adds to the manifest, as JSON; nothing by default."""
        return {}

    @property
    def all_teachers(self) -> list[Teacher]:
        """Networks that the method is given and asks; their weights are part of the set's name."""
        return []

    @property
    def loaded_teachers(self) -> list[Teacher]:
        """Networks that the method asks, loaded. Raises DataError or UsageError as `Teacher.load`."""
        return self._load(self.all_teachers)

    def _load(self, teachers: list[Teacher]) -> list[Teacher]:
        info = self.dataset.info
        for teacher in teachers:
            teacher.load(self.dataset.num_classes, info.channels, info.size, info.classes, info.name)
        return teachers

    @cached_property
    def teachers_acc(self) -> list[float]:
        """Accuracy in percent of each of them on a few training images. Raises and warns as `check_teacher`."""
        return self.check_teachers(self.loaded_teachers)

    def check_teachers(self, teachers: list[Teacher]) -> list[float]:
        """Accuracy in percent of loaded teachers on a few training images, drawn; the rest is as `check_teacher`."""
        if not teachers:
            return []
        split = self.dataset.index("train")
        rows = np.sort(generator(0, "check_teacher").permutation(len(split))[:CHECKED_IMAGES])
        images, labels = torch.from_numpy(self.dataset.take("train", rows)), torch.from_numpy(split.labels[rows])
        found = [check_teacher(teacher, images, labels) for teacher in teachers]
        for teacher, acc in zip(teachers, found, strict=True):
            log.info("teacher %s: %.0f %% of %d training images right", teacher.name, acc, len(rows))
        return found

    @property
    def expected_images(self) -> int:
        """Size of the set, known before it is made; 0 where the data must be read for it."""
        return self.ipc * self.dataset.info.num_classes

    # --- the set's name ---

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """Arguments that shape the set and differ from their defaults, as JSON; teachers by their weights."""
        self._load(self.all_teachers)
        shaping = {n: p for n, p in naming.parameters(type(self)).items() if n not in ("cache", "dataset", "seed")}
        return {n: named(getattr(self, n)) for n, p in shaping.items() if getattr(self, n) != p.default}

    @property
    def fingerprint(self) -> str:
        """16 hex digits that name the set: class, recipe version, arguments, data and seed."""
        return self.artefact.fingerprint

    @cached_property
    def artefact(self) -> "CondensedSet":
        """The set on disk."""
        return CondensedSet(self)

    @property
    def folder(self) -> Path:
        """Where the sealed set lies."""
        return self.artefact.folder

    @property
    def working(self) -> Path:
        """Where the set lies while it is made."""
        return self.artefact.working

    @property
    def learned_lr(self) -> float | Literal["set"] | None:
        """Learning rate that was learned with the set, "set" before it is made; None where none is learned."""
        if self.stored is not None:
            return self.stored.manifest["learned_lr"]  # type: ignore[no-any-return]
        if not self.learns_lr:
            return None
        try:  # where teachers must be downloaded, or data are missing, the set has no name yet
            made = all(teacher.at_hand() for teacher in self.all_teachers) and self.artefact.exists
        except DataError:
            return "set"
        return self.artefact.manifest()["learned_lr"] if made else "set"

    # --- making it ---

    def condense(self, rank: int = 0, ranks: int = 1) -> Path:
        """Make whatever is missing of the set, together with any other process that does the same, and seal it.

        Args:
            rank: this process; only spreads where processes begin.
            ranks: number of processes.
        """
        if not self.artefact.exists:
            self.prepare()
        return self.artefact.ensure(rank / max(ranks, 1))

    # --- feeding it ---

    def setup(self, stage: str) -> None:
        """Load the set, after making it where it is missing and quick to make.

        Raises:
            DataError: the set was changed on disk.
            MissingSetError: the set is missing and takes long to make.
        """
        if self.stored is not None or stage not in ("fit", "test", "validate"):
            return
        if not self.artefact.exists:
            self._require_quick()
            log.info("condensing %s to ipc %s with %s", self.dataset.info.name, self.ipc, type(self).__name__)
        trainer = self.trainer
        self.condense(trainer.global_rank if trainer else 0, trainer.world_size if trainer else 1)
        self.stored = self.read()

    def read(self) -> StoredSet:
        """The sealed set, verified. Raises DataError where it is missing, was changed, or is another one."""
        return store.load(self.folder, self.dataset, pixels.memory_limit(), self.artefact.verified())

    def prepare_fit(self) -> None:
        """Before processes are launched: `prepare` where the set is missing. Raises MissingSetError where that is long.

        A whitening that was never fitted is fitted here too, by one process.
        """
        if not self.artefact.exists:
            self._require_quick()
            self.prepare()
        _ = self.whitening

    def _require_quick(self) -> None:
        seconds = self.estimate_seconds()
        if seconds > BUILD_SECONDS:
            raise MissingSetError(
                f"The condensed set {self.folder} does not exist and takes about {seconds / 60:.0f} minutes to make. "
                "Make it first: the same command with 'condense' in place of 'fit'."
            )

    @cached_property
    def whitening(self) -> Whitening | None:
        """How images become what the student takes, where the set is whitened. Raises as `dataset_whitening`."""
        return set_whitening(self.space, self.dataset, cache_folder(self.cache))

    def require(self) -> StoredSet:
        """The loaded set. Raises UsageError before `setup`."""
        if self.stored is None:
            raise UsageError("The condensed set is not loaded: call setup('fit') first.")
        return self.stored

    def train_dataloader(self) -> RunLoader | WorkerLoader:
        """The run's batches; length and batch come from the regime's resolved plan."""
        trainer: Any = self.trainer
        run = trainer.lightning_module.run
        accumulate = trainer.accumulate_grad_batches
        loader = RunLoader(
            *(run.images, run.batch, run.steps, run.seed, accumulate, trainer.global_rank, trainer.world_size),
            *(run.replay, None if run.own is None else run.own.batches),
        )
        images, viewer = self.require().images, trainer.lightning_module.viewer
        if viewer is None or not pixels.decodes(images):
            return loader
        labels = torch.zeros(0)
        return WorkerLoader(loader, lambda batch: viewer.precut(batch.attach(images, labels)))

    def val_dataloader(self) -> EvalLoader | list[Any]:
        """The held-out split, where the dataset has one."""
        return self._eval_loader("held_out") if len(self.dataset.index("held_out")) else []

    def test_dataloader(self) -> EvalLoader:
        """The test split."""
        return self._eval_loader("test")

    def _eval_loader(self, name: Any) -> EvalLoader:
        trainer, labels, batch = self.trainer, self.dataset.index(name).labels, eval_batch(self.dataset.info)
        rank, ranks = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        return EvalLoader(partial(self.dataset.take, name), labels, batch, rank, ranks=ranks)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch; training batches get the set's tensors, which are moved once."""
        if not isinstance(batch, Batch):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        return pixels.moved(batch, device).attach(*self.tensors(device))

    def tensors(self, device: torch.device) -> tuple[Pixels, Tensor]:
        """The whole set's images, on `device` where they are a tensor, and its labels."""
        if self._on_device is None or self._on_device[1].device != device:
            stored = self.require()
            images = stored.images
            held = torch.from_numpy(images).to(device) if isinstance(images, np.ndarray) else images
            self._on_device = held, torch.from_numpy(stored.labels).to(device)
        return self._on_device


class CondensedSet(Artefact):
    """A condensed set on disk, made unit by unit by its data module."""

    kind = "condensed set"
    again = "'ddlight condense'"

    def __init__(self, data: CondensedDataModule) -> None:
        place = cache_folder(data.cache) / data.dataset.info.name / type(data).__name__
        super().__init__(place / f"ipc{data.ipc}")
        self.data = data

    def identity(self) -> dict[str, Any]:
        """Class, recipe version (of a user's class its code), arguments, data and seed."""
        data = self.data
        return {
            "method": type(data).__name__,
            "recipe_version": data.recipe_version,
            **({"source": source} if (source := source_digest(type(data))) else {}),
            "args": data.arguments,
            "dataset_identity": data.dataset.identity(),
            "seed": data.seed,
        }

    def units(self) -> list[Unit]:
        """The method's units."""
        return self.data.units()

    def make_unit(self, work: Workspace, unit: Unit) -> None:
        """Let the method make a unit."""
        store.put(work, unit, self.data.checked(unit, self.data.make(unit)))

    def collect(self, place: Path, work: Workspace) -> dict[str, Any]:
        """Write images and labels; how they are to be read, and what making them cost."""
        data, info = self.data, self.data.dataset.info
        facts = {
            "dataset": info.name,
            "dataset_root": data.dataset.given_root,
            "classes": list(info.classes),
            "ipc": data.ipc,
            "space": data.space,
            "mean": list(info.mean),
            "std": list(info.std),
            "labels": data.label_kind,
            "learned_lr": None,  # where the units learned one, `write_set` says so
            "tile_factor": data.tile_factor,
            "selected_on": data.selected_on,
            "seconds": self.seconds,
            "peak_memory_bytes": peak_host_memory(),
            **data.facts(),
        }
        made, split = self._counted(work), data.dataset.index("train")
        return {**facts, **store.write_set(place, made, split.ids, split.labels, info.classes)}

    def _counted(self, work: Workspace) -> Iterator[Made]:
        """The units' pieces in order; after the last one their images are counted."""
        labels: list[np.ndarray] = []
        for unit in self.data.units():
            piece = store.get(work, unit)
            if isinstance(piece, Synthesis):
                labels.append(piece.labels)
            yield piece
        if labels:
            joined = np.concatenate(labels)
            hard = joined.ndim == 1
            self.data.check_counts(
                np.bincount(joined, minlength=self.data.dataset.num_classes) if hard else len(joined)
            )

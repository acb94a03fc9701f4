"""The scoring run: one network trained on the full data while a `Recorder` listens; sealed, shared by all who ask.

Every selector that asks for the same run (data, network, recipe, length, seed, what is recorded) finds the same folder,
so one run feeds all scores.
"""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from safetensors.numpy import save

from ddlight.core import files
from ddlight.core.artefact import Artefact, Unit, Workspace
from ddlight.core.errors import BusyError, UsageError
from ddlight.core.naming import named
from ddlight.data.base import RealDataset
from ddlight.methods.baselines.full import FullData
from ddlight.methods.scoring.recorder import Recorder
from ddlight.methods.scoring.table import COLUMNS, IDS, ScoreTable, read_table
from ddlight.networks.device import device_options
from ddlight.networks.flops import TRAINING, forward_flops
from ddlight.networks.students import ConvNet, ResNet, Student
from ddlight.networks.teachers import RunTeacher, Teacher
from ddlight.recipes.budget import Budget, images_seen
from ddlight.recipes.plan import Override, Plan, Setting
from ddlight.recipes.table import resolve
from ddlight.regimes.base import Regime, student_name
from ddlight.regimes.hard_label import HardLabel
from ddlight.regimes.soft_label import SoftLabel
from ddlight.train.trainer import Trainer

Build = Callable[..., Trainer]

log = logging.getLogger("ddlight")
RECIPE_VERSION = 1
"""Raised by hand when a scoring run starts to record other numbers from the same arguments."""
UNIT = Unit(0)
RECORDED = ("early", "dual", "ring", "clean", "tdds")
"""Fields of `Scoring` that say what is recorded."""
STUDENT_FILES = ("student.safetensors", "student.json")


@dataclass(frozen=True)
class Scoring:
    """How the network that scores the images is trained, and what is recorded.

    Args:
        student: the network; null takes a ConvNet of width 128 below 96 pixels (3 blocks at 32, 4 at 64) and a
            ResNet-18 from there on.
        protocol: its recipe, on the full data; see `ddlight protocols`. One that mixes images is refused.
        recipe: numbers that replace the protocol's.
        budget: length that replaces the protocol's, in one of steps, epochs, images, full_epochs.
        teacher: gives every image one frozen soft label to match; then EL2N-SL is recorded too (train.el2n_sl).
        seed: of initialisation, order and augmentation; null takes the set's, so that another set is scored anew.
        early: number of first passes over whose views EL2N is averaged.
        dual: number of first passes that DUAL looks at.
        ring: passes in a window of Dyn-Unc and DUAL.
        clean: passes over the unaugmented images, equally spaced over the run.
        tdds: number of first passes that TDDS looks at; 0 records nothing for it, since it takes 8 bytes per class and
            4 bytes per pass for every image while the run trains.
    """

    student: Student | None = None
    protocol: str = "ccs"
    recipe: Override | None = None
    budget: Budget | None = None
    teacher: Teacher | None = None
    seed: int | None = None
    early: int = 10
    dual: int = 30
    ring: int = 10
    clean: int = 10
    tdds: int = 0

    def __post_init__(self) -> None:
        """Check the numbers. Raises UsageError."""
        for name, least in (("early", 1), ("dual", 1), ("ring", 2), ("clean", 0), ("tdds", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"scoring.{name} is {getattr(self, name)}; allowed: {least} or more.")
        if self.tdds == 1:
            raise UsageError("scoring.tdds is 1, and one pass has no change; allowed: 0, and 2 or more.")


class ScoringRun(Artefact):
    """A scoring run of a dataset: its name on disk, how it is made, its table.

    Args:
        scoring: how it is trained and what is recorded.
        dataset: whose training split is scored.
        ipc: of the set that asks: recipes may depend on it.
        seed: of the set that asks, where `scoring` has none.
        cache: folder of condensed sets; the run lies in <cache>/<dataset>/scoring/<fingerprint>.
    """

    kind = "scoring run"
    again = "'ddlight score'"

    def __init__(self, scoring: Scoring, dataset: RealDataset, ipc: int, seed: int, cache: Path) -> None:
        super().__init__(cache / dataset.info.name / "scoring")
        self.scoring, self.dataset, self.ipc, self.cache = scoring, dataset, ipc, cache
        self.seed = seed if scoring.seed is None else scoring.seed
        self._build: Build = partial(Trainer, **device_options())

    @cached_property
    def student(self) -> Student:
        """The network that is trained."""
        if self.scoring.student is not None:
            return self.scoring.student
        size = self.dataset.info.size
        return ResNet() if size >= 96 else ConvNet(depth=3 if size < 48 else 4)

    @cached_property
    def plan(self) -> Plan:
        """Recipe, augmentation and length in explicit numbers. Raises UsageError for a recipe that mixes images."""
        info, how, name = self.dataset.info, self.scoring, student_name(self.student)
        setting = Setting(info.num_classes, self.ipc, info.channels, info.flip, name, 1, info.size)
        plan = resolve(how.protocol, setting, how.recipe, how.budget)
        if plan.augment.mix != "none":
            raise UsageError(
                f"Protocol {how.protocol} mixes images ({plan.augment.mix}), and a mixed image scores no single one. "
                "Take another, such as --data.scoring.protocol=ccs, or --data.scoring.recipe.mix=none."
            )
        return plan.over(info.train, info.train, how.recipe)

    def identity(self) -> dict[str, Any]:
        """Data, network, recipe as it is used, and what is recorded."""
        how, teacher = self.scoring, self.scoring.teacher
        if teacher is not None:
            info = self.dataset.info
            teacher.load(info.num_classes, info.channels, info.size, info.classes, info.name)
        return {
            "version": RECIPE_VERSION,
            "dataset_identity": self.dataset.identity(),
            "network": named(self.student),
            "plan": [named(self.plan.recipe), named(self.plan.augment), named(self.plan.budget)],
            "teacher": teacher.fingerprint() if teacher is not None else None,
            "seed": self.seed,
            "recorded": [getattr(how, name) for name in RECORDED if name != "tdds" or how.tdds],
        }

    @property
    def steps(self) -> int:
        """Optimiser steps of the run."""
        full = self.dataset.info.train
        return self.plan.budget.total_steps(full, self.plan.recipe.batch, full)

    @property
    def images(self) -> int:
        """Images that the network sees while it trains."""
        return images_seen(self.steps, self.dataset.info.train, self.plan.recipe.batch)

    def table(self) -> ScoreTable:
        """The verified table. Raises DataError where it is damaged or of other data."""
        ids, name = self.dataset.index("train").ids, self.dataset.info.name
        return read_table(self.folder, self.verified()).require_ids(ids, name)

    @property
    def passes(self) -> int:
        """Passes of the run that reach every image: a cut-off last one does not count."""
        return self.images // self.dataset.info.train

    @property
    def trained(self) -> RunTeacher:
        """The trained network. Raises DataError where another run lies in its folder."""
        if self.exists:
            self.manifest()
        return RunTeacher(str(self.folder))

    # --- making it ---

    def make(self, build: Build | None = None, ranks: int = 1, progress: bool = False) -> Path:
        """Make the run where it is missing, and continue one that was stopped.

        Where one process trains alone, others that need the same run wait until it is done. Where several ranks train
        together, rank 0 holds the lock, and other processes are refused (BusyError).

        Args:
            build: makes the Trainer, given run= and callbacks=; by default one that trains on `current_device` alone.
            ranks: processes that call this together.
            progress: say how far a training on one device is.

        Raises:
            BusyError: several ranks want to train and another process is at it.
        """
        if self.exists:
            return self.folder
        self._build = build or partial(Trainer, progress=progress, **device_options())
        log.info("scoring %s: %d steps of %s", self.dataset.info.name, self.steps, type(self.student).__name__)
        if ranks > 1 and not self._train_together():
            return self.folder
        return self.ensure()

    def make_unit(self, work: Workspace, unit: Unit) -> None:
        """Train on one device."""
        self._train(work, *self._parts(work))

    def _train_together(self) -> bool:
        """Train on all ranks. Whether this is the first of them, which goes on to seal."""
        work = self.workspace()
        claim = work.claim(UNIT)
        trainer, model, recorder = self._parts(work)
        if not trainer.is_global_zero:
            self._fit(trainer, model)
            return False
        if not claim.take():
            raise BusyError(f"Another process is making the scoring run {self.folder}. Wait for it, or stop it.")
        with claim.held():
            self._train(work, trainer, model, recorder)
        return True

    def _parts(self, work: Workspace) -> tuple[Trainer, Regime, Recorder]:
        """Trainer, model and recorder, before they are put to work."""
        how, info, plan = self.scoring, self.dataset.info, self.plan
        temperature = plan.recipe.temperature if how.teacher is not None else 0.0
        recorder = Recorder(
            info.train, how.early, how.dual, how.ring, how.clean, temperature, how.tdds, info.num_classes
        )
        trainer = self._build(run=str(work.folder / "run"), callbacks=[recorder])
        recipe = Override(**plan.as_override())
        own: dict[str, Any] = {"protocol": how.protocol, "recipe": recipe, "budget": plan.budget, "seed": self.seed}
        model: Regime
        if how.teacher is None:
            model = HardLabel(self.student, **own)
        else:
            model = SoftLabel(self.student, teacher=how.teacher, **own)
        model.listeners.append(recorder.observe)
        return trainer, model, recorder

    def _fit(self, trainer: Trainer, model: Regime) -> None:
        checkpoint = trainer.run / "last.ckpt"
        data = FullData(self.dataset, self.ipc, cache=str(self.cache))
        trainer.fit(model, datamodule=data, ckpt_path=checkpoint if checkpoint.exists() else None)

    def _train(self, work: Workspace, trainer: Trainer, model: Regime, recorder: Recorder) -> None:
        """Train, and write the unit: its columns, and the facts of the manifest beside its student."""
        self._fit(trainer, model)
        info = self.dataset.info
        assert model.network is not None
        forward = forward_flops(model.network, info.channels, info.size)
        scores = model.scores.get("held_out")
        facts = {
            "seconds": trainer.clock.seconds,
            "passes": recorder.passes,
            "readings": recorder.readings,
            "images_seen": self.images,
            "images_read": recorder.readings * info.train,
            "flops": forward * (TRAINING * self.images + recorder.readings * info.train),
            "state_bytes": recorder.state_bytes,
            "held_out_acc": scores.acc if scores else None,
        }
        files.write_json(trainer.run / "facts.json", facts)
        work.write(UNIT, save({k: v.numpy() for k, v in recorder.columns().items()}))

    def collect(self, place: Path, work: Workspace) -> dict[str, Any]:
        """Write columns, ids and the trained student; what the training took."""
        run = work.folder / "run"
        files.write_bytes(place / COLUMNS, work.read(UNIT))
        for name in STUDENT_FILES:
            shutil.copy2(run / name, place / name)
        files.write_bytes(place / IDS, json.dumps(self.dataset.index("train").ids.tolist()).encode())
        how, plan = self.scoring, self.plan
        return {
            **files.read_json(run / "facts.json"),
            "dataset": self.dataset.info.name,
            "student": {"class": type(self.student).__name__, **vars(self.student)},
            "protocol": how.protocol,
            "recipe": asdict(plan.recipe),
            "augment": asdict(plan.augment),
            "budget": asdict(plan.budget),
            **{name: getattr(how, name) for name in RECORDED},
        }

"""Choosing a setting on held-out data: every candidate is a set of its own, trains students, and the best is kept.

Each trial is a unit of work with its own file, so that a stopped search continues and several processes share it. The
test split is never read.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ddlight.core import files
from ddlight.core.artefact import Artefact, Unit, Workspace
from ddlight.core.errors import UsageError
from ddlight.core.files import cache_folder
from ddlight.core.naming import named
from ddlight.methods.base import Selector
from ddlight.methods.scoring.cost import image_flops, operations_per_second
from ddlight.networks.device import device_options
from ddlight.networks.flops import TRAINING
from ddlight.networks.students import ConvNet, Student
from ddlight.recipes.budget import Budget, images_seen
from ddlight.recipes.plan import Override
from ddlight.regimes.hard_label import HardLabel
from ddlight.train.trainer import Trainer

log = logging.getLogger("ddlight")
FILE = "search.json"
TINY_SEARCH: dict[str, Any] = {
    "student": {"class_path": "ddlight.ConvNet", "init_args": {"depth": 3, "width": 8}},
    "budget": {"steps": 5},
}
"""A search of seconds, for `--tiny`."""


@dataclass(frozen=True)
class Search:
    """How the students of a search are trained: on each candidate set, with hard labels.

    Args:
        student: the network; null takes a ConvNet of depth 3 and width 128.
        protocol: its recipe.
        recipe: numbers that replace the protocol's.
        budget: length that replaces the protocol's.
        trials: trainings of each candidate, whose accuracies are averaged.
    """

    student: Student | None = None
    protocol: str = "ht_small_hard"
    recipe: Override | None = None
    budget: Budget | None = None
    trials: int = 1

    def __post_init__(self) -> None:
        """Check the numbers. Raises UsageError."""
        if self.trials < 1:
            raise UsageError(f"search.trials is {self.trials}; allowed: 1 or more.")

    @property
    def network(self) -> Student:
        """The network that is trained."""
        return self.student or ConvNet()


@dataclass(frozen=True)
class Choice:
    """What a search found.

    Args:
        best: position of the candidate with the highest mean accuracy; the first of equal ones.
        acc: held-out accuracy of each candidate, percent, mean over trials.
        images: images that all students of the search saw.
        seconds: that all trainings took.
    """

    best: int
    acc: tuple[float, ...]
    images: int
    seconds: float


class ValueSearch(Artefact):
    """The choice between several values of one of a method's arguments: each is a set, on which students are trained.

    Args:
        how: students are trained.
        method: whose argument it is; its dataset must hold images out.
        argument: its name; it lists the values.
    """

    kind = "search"
    suffix = ".json"

    def __init__(self, how: Search, method: Selector, argument: str) -> None:
        super().__init__(cache_folder(method.cache) / method.dataset.info.name / "search")
        self.how, self.method, self.argument = how, method, argument
        self.values: Sequence[float] = getattr(method, argument)

    @cached_property
    def candidates(self) -> list[Selector]:
        """The method with each value; how students are trained is no part of their names."""
        return [self.method.variant(**{self.argument: (value,), "search": Search()}) for value in self.values]

    def identity(self) -> dict[str, Any]:
        """How students are trained, and on which sets."""
        sets = [data.fingerprint for data in self.candidates]
        return {"how": named(self.how), "sets": sets, "seed": self.method.seed}

    def units(self) -> list[Unit]:
        """The trials of the first candidate, then those of the next."""
        return [Unit(k) for k in range(len(self.values) * self.how.trials)]

    def make_unit(self, work: Workspace, unit: Unit) -> None:
        """Train one student and read the held-out split."""
        candidate, trial = divmod(unit.number, self.how.trials)
        run, seed = work.folder / f"run{unit.number}", self.method.seed + 1000 * trial
        work.write(unit, json.dumps(_trial(self.how, self.candidates[candidate], seed, run)).encode())

    def collect(self, place: Path, work: Workspace) -> dict[str, Any]:
        """Write all trials into one file."""
        trials = [json.loads(work.read(unit)) for unit in self.units()]
        files.write_json(place / FILE, trials)
        return {"trials": len(trials)}

    # --- what it says ---

    @cached_property
    def choice(self) -> Choice:
        """What was found, made where it is missing.

        Raises:
            UsageError: the dataset holds nothing out.
            DataError: as `verified`.
        """
        if not self.method.dataset.info.held_out:
            raise UsageError(
                "A setting is chosen on images held out from training, and this dataset holds none out: "
                "--data.dataset.held_out=50 (images per class), or give the setting itself."
            )
        self.ensure()
        self.verified()
        trials, n = files.read_json(self.folder / FILE), self.how.trials
        means = [sum(t["acc"] for t in trials[k : k + n]) / n for k in range(0, len(trials), n)]
        images, seconds = sum(t["images"] for t in trials), sum(t["seconds"] for t in trials)
        return Choice(means.index(max(means)), tuple(means), images, seconds)

    @property
    def value(self) -> float:
        """The value that was chosen."""
        return self.values[self.choice.best]

    def estimate_seconds(self) -> float:
        """Rough time of training all students."""
        model = HardLabel(self.how.network, self.how.protocol, self.how.recipe, self.how.budget)
        run = model.resolve_run(self.method, self.method.expected_images, self.method.dataset.info.train)
        seen = len(self.units()) * images_seen(run.steps, run.images, run.batch)
        return self._operations(seen) / operations_per_second()

    def _operations(self, images: int) -> float:
        """Operations of training students on that many images in all."""
        return TRAINING * image_flops(self.how.network, self.method.dataset) * images

    def charged(self, facts: dict[str, Any]) -> dict[str, Any]:
        """The facts of a method's manifest, the search's cost counted as that of scoring, and what was tried."""
        return {
            **facts,
            "scoring_seconds": facts["scoring_seconds"] + self.choice.seconds,
            "scoring_images": facts["scoring_images"] + self.choice.images,
            "flops_scoring": facts["flops_scoring"] + self._operations(self.choice.images),
            "search": {"chosen": self.value, "options": list(self.values), **asdict(self.choice)},
        }


def _trial(how: Search, data: Selector, seed: int, run: Path) -> dict[str, Any]:
    """Train one student on a candidate's set and read the held-out split."""
    model = HardLabel(how.network, how.protocol, how.recipe, how.budget, seed)
    trainer = Trainer(run=str(run), progress=False, **device_options())
    checkpoint = run / "last.ckpt"
    trainer.fit(model, datamodule=data, ckpt_path=checkpoint if checkpoint.exists() else None)
    if "held_out" not in model.scores:
        trainer.validate(model, datamodule=data, verbose=False)
    images, acc = model.images_seen(model.run.steps), model.scores["held_out"].acc
    log.info("%s: held-out acc %.1f %%", data.arguments, acc)
    return {"set": data.fingerprint, "acc": acc, "images": images, "seconds": trainer.clock.seconds}

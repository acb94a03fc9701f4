"""RecoveredSynthesiser: what every decoupled distillation method shares around `engine.loop`."""

from abc import abstractmethod
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ddlight.core.artefact import Unit
from ddlight.core.errors import UsageError
from ddlight.core.override import replaced
from ddlight.core.randomness import generator
from ddlight.methods.base import Synthesiser
from ddlight.methods.images import NormalisedSpace, repeatable
from ddlight.methods.recovery.engine.loop import Loss, Objective, recover
from ddlight.methods.recovery.engine.observer import Observer
from ddlight.methods.recovery.engine.options import Recovery, RecoveryOverride
from ddlight.methods.recovery.engine.parts import Part, Start
from ddlight.methods.recovery.engine.statistics import Statistics, packed, unpack
from ddlight.methods.recovery.engine.teachers import TINY_SQUEEZE, Teachers
from ddlight.methods.recovery.engine.views import Views
from ddlight.methods.scoring.cost import operations_per_second, scoring_facts, scoring_seconds
from ddlight.methods.scoring.run import ScoringRun
from ddlight.methods.watch import IterationBar
from ddlight.networks.device import current_device, number_format
from ddlight.networks.teachers import Teacher
from ddlight.sets.store import Synthesis

Carried = Mapping[str, Tensor]
"""What one block hands to the next where a method carries state."""


class RecoveredSynthesiser(Synthesiser):
    """Makes images of which trained networks say the right class, block by block of images that count together.

    A method holds its teachers (`networks`), where images begin (`start`) and further `parts`, and says in `published`
    which numbers its paper has for a dataset. What else it has of its own it overrides: `crop_floors`, `statistics`
    (what is matched of a network), `losses` (what else is asked), `recover` (stages, changed weights).
    Images are kept without loss, as PNG. Deviation: all published codes but FADRM's store JPEG of quality 75.
    Unless blocks go class after class, a smaller set is a prefix of a larger one.

    Args:
        recovery: numbers that replace the published ones.
    """

    tiny: ClassVar[dict[str, Any]] = {"squeeze": TINY_SQUEEZE, "teacher": None, "recovery": {"iterations": 5}}
    matched: ClassVar[type[Statistics]] = Statistics
    """Which layers of the teachers are matched."""
    class_after_class: ClassVar[bool] = False
    """Blocks are images in the order of the set's classes, rather than one image of each of several classes."""
    passes: float = 3.0
    """Operations of one iteration in units of a forward pass; the backward pass, to the images alone, takes two."""
    view_area: float = 1.0
    """Mean area of the views over the iterations, as a fraction of the images'."""
    carry_state: bool = False
    """Whether blocks of one unit follow one another and hand on what they have changed."""
    networks: Teachers
    start: Start
    parts: Sequence[Part] = ()

    def __init__(self, *args: Any, recovery: RecoveryOverride = RecoveryOverride(), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.recovery = recovery

    # --- what a method says ---

    @abstractmethod
    def published(self) -> Recovery:
        """The paper's numbers for this dataset and ipc."""

    def in_order(self) -> list[list[Unit]]:
        """Blocks that follow one another where state is carried: by default all of them."""
        return [self.blocks()]

    def crop_floors(self) -> np.ndarray | None:
        """Smallest crop at each iteration, as a fraction of the image's area, (T,); None takes whole images."""
        numbers = self.numbers
        return np.full(numbers.iterations, numbers.min_crop) if numbers.min_crop else None

    def statistics(self, network: nn.Module, number: int, block: Unit) -> Statistics:
        """What is matched of teacher `number`, copied in `network`: by default what its BatchNorm layers remember."""
        return Statistics(network, self.numbers.first_weight, self.numbers.var_weight)

    def losses(self, block: Unit) -> dict[str, Loss]:
        """Further terms of the loss, by name, their weights included."""
        return {}

    def recover(self, objective: Objective, images: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        """Recover a block's images, and say what the next one is to be handed: by default running statistics.

        Args:
            objective: networks, views and numbers.
            images: normalised float32 (B, C, S, S), on the device.
            carried: what the block before handed on; empty for the first, and for all where no state is carried.
        """
        statistics = [observer.statistics for observer in objective.observers]
        unpack(carried, statistics, images.device)
        return recover(objective, images), packed(statistics)

    # --- numbers and networks ---

    @cached_property
    def numbers(self) -> Recovery:
        """The numbers that are used. Raises UsageError where the images are too small for them."""
        numbers = replaced(self.published(), self.recovery.given())
        numbers.check_size(self.dataset.info.size)
        kind = current_device().type
        chosen = number_format(numbers.precision, "bf16", "fp32", kind, "recovery.precision")
        return replace(numbers, precision=chosen)  # type: ignore[arg-type]

    @property
    def device(self) -> torch.device:
        """This process's GPU where there is one."""
        return current_device()

    @cached_property
    def pixels(self) -> NormalisedSpace:
        """Where images live: normalised as the dataset is."""
        return NormalisedSpace(self.dataset.info.mean, self.dataset.info.std)

    @property
    def all_teachers(self) -> list[Teacher]:
        """Teachers that were given: their weights are part of the set's name."""
        return self.networks.given

    @property
    def scoring_runs(self) -> list[ScoringRun]:
        """Teachers that are trained for this dataset; `ddlight score` trains them too."""
        return self.networks.scoring_runs

    @property
    def loaded_teachers(self) -> list[Teacher]:
        """The teachers, loaded: those that are ready made, or those that were trained for it."""
        return self._load(self.networks.all)

    # --- blocks ---

    @cached_property
    def _places(self) -> list[np.ndarray]:
        classes, size = self.dataset.num_classes, self.numbers.batch
        rows = np.arange(classes * self.ipc).reshape(classes, self.ipc)
        parts = rows.reshape(1, -1) if self.class_after_class else rows.T
        return [part[start : start + size] for part in parts for start in range(0, len(part), size)]

    def blocks(self) -> list[Unit]:
        """Images that are recovered together, at most `batch` of them."""
        return [self._unit(number, places) for number, places in enumerate(self._places)]

    def _unit(self, number: int, places: np.ndarray) -> Unit:
        classes, images = (tuple(np.unique(part).tolist()) for part in np.divmod(places, self.ipc))
        return Unit(number, classes, images)

    def places(self, block: Unit) -> np.ndarray:
        """Places of a block's images, int64 (B,): image k of class c has place c ipc + k."""
        return self._places[block.number]

    def labels(self, block: Unit) -> np.ndarray:
        """Classes of a block's images: int64 (B,)."""
        return self.places(block) // self.ipc

    def initial(self, block: Unit) -> Tensor:
        """Images of a block to begin with, normalised float32 (B, C, S, S)."""
        return self.pixels.enter(self.start(block.number, self.places(block)), self.device)

    # --- before the first unit ---

    def prepare(self) -> None:
        """Check everything, train the teachers that are missing and try all of them, then make the parts.

        Raises:
            UsageError: the numbers do not fit the images, a class has fewer real images than are to begin with, or no
                teacher has layers to match.
        """
        _ = self.numbers
        parts = [*self.parts, self.start]
        for part in parts:
            part.check()
        for run in self.scoring_runs:
            run.make(progress=self.progress)
        self._require_layers()
        _ = self.teachers_acc
        for part in parts:
            part.make()

    def _require_layers(self) -> None:
        if self.numbers.stat_weight and not any(self.matched.find(t.network) for t in self.loaded_teachers):
            names = ", ".join(teacher.name for teacher in self.loaded_teachers)
            raise UsageError(
                f"{type(self).__name__} matches {self.matched.what}, and {names} has none. "
                f"Give a teacher with {self.matched.needs}; "
                "or --data.recovery.stat_weight=0, which matches nothing."
            )

    # --- making units ---

    def units(self) -> list[Unit]:
        """Blocks; or, where state is carried, those that follow one another together."""
        if not self.carry_state:
            return self.blocks()
        places = [np.concatenate([self.places(block) for block in blocks]) for blocks in self.in_order()]
        return [self._unit(number, part) for number, part in enumerate(places)]

    def make(self, unit: Unit) -> Synthesis:
        """Recover a unit's images, in one block or in several that follow one another."""
        blocks = self.in_order()[unit.number] if self.carry_state else [unit]
        kept = (self.load_progress(unit) if self.carry_state else None) or {}
        done = [kept[f"images.{k}"].numpy() for k in range(sum(name.startswith("images.") for name in kept))]
        carried: Carried = {name.partition(".")[2]: t for name, t in kept.items() if name.startswith("carried.")}
        for block in blocks[len(done) :]:
            images, carried = self._recovered(block, carried)
            done.append(images)
            if len(done) < len(blocks):
                state = {f"carried.{name}": tensor for name, tensor in carried.items()}
                self.save_progress(
                    unit, {**{f"images.{k}": torch.from_numpy(part) for k, part in enumerate(done)}, **state}
                )
        labels = np.concatenate([self.labels(block) for block in blocks])
        return Synthesis(np.concatenate(done), labels, self.start.sources * len(labels))

    def _recovered(self, block: Unit, carried: Carried) -> tuple[np.ndarray, Carried]:
        """One block's images, uint8 (B, C, S, S), and what it hands on."""
        info, numbers = self.dataset.info, self.numbers
        rng = generator(self.seed, "recovery views", block.number)
        views = Views(rng, self.crop_floors(), numbers.iterations, numbers.shifts, info.flip and numbers.flip)
        labels = torch.from_numpy(self.labels(block)).to(self.device)
        title = f"recovering block {block.number + 1} of {len(self._places)}"
        with repeatable(), IterationBar(title, numbers.iterations, self.pixels.unit, self.working) as bar:
            observers, losses = self.observers(block), self.losses(block)
            objective = Objective(numbers, self.pixels, labels, observers, views, info.size, losses, bar)
            images, carried = self.recover(objective, self.initial(block), carried)
        return self.pixels.leave(images), carried

    def observers(self, block: Unit) -> list[Observer]:
        """Private copies of the teachers, which answer in turn."""
        measures = [partial(self.statistics, number=n, block=block) for n in range(len(self.networks.all))]
        rest = self.pixels, self.device
        return [
            Observer(teacher, *rest, measure, self.numbers.precision)
            for teacher, measure in zip(self.loaded_teachers, measures, strict=True)
        ]

    # --- what it costs ---

    def estimate_seconds(self) -> float:
        """Time of the recovery and of the teachers that are missing, from the operations that they take."""
        return scoring_seconds(self.scoring_runs) + self.operations() / operations_per_second()

    def operations(self) -> float:
        """Floating-point operations of the recovery and of its parts."""
        forwards = self.networks.forwards
        recovery = self.passes * self.numbers.iterations * self.expected_images * float(np.mean(forwards))
        return self.view_area * recovery + sum(part.operations(forwards) for part in (*self.parts, self.start))

    def facts(self) -> dict[str, Any]:
        """The numbers that were used, the teachers, the parts, and what all of it cost."""
        teachers = [{"name": t.name, "fingerprint": t.fingerprint()} for t in self.loaded_teachers]
        cost = {"flops_synthesis": self.operations(), **scoring_facts(self.scoring_runs)}
        own = [part.facts() for part in (*self.parts, self.start)]
        return {"recovery": asdict(self.numbers), "teachers": teachers, **cost, **dict(ChainMap(*own))}

"""RecoveredSynthesiser: what every decoupled distillation method shares around `engine.loop`."""

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ddlight.core import files
from ddlight.core.artefact import Unit
from ddlight.core.errors import DataError, UsageError
from ddlight.core.files import cache_folder
from ddlight.core.randomness import generator
from ddlight.data.base import RealDataset
from ddlight.methods.base import Synthesiser, require_images
from ddlight.methods.recovery.engine.loop import Block, Loss, recover, repeatable
from ddlight.methods.recovery.engine.observer import Observer, Space
from ddlight.methods.recovery.engine.options import Recovery, RecoveryOverride
from ddlight.methods.recovery.engine.statistics import Statistics
from ddlight.methods.recovery.engine.views import Views
from ddlight.methods.recovery.engine.watch import RecoveryBar
from ddlight.methods.scoring.cost import operations_per_second, scoring_facts, scoring_seconds
from ddlight.methods.scoring.run import Scoring, ScoringRun
from ddlight.networks.device import current_device
from ddlight.networks.flops import build_checked, forward_flops
from ddlight.networks.students import ResNet
from ddlight.networks.teachers import Teacher, TorchvisionTeacher
from ddlight.sets.store import Synthesis

log = logging.getLogger("ddlight")
BACKWARD = 2.0
"""Operations of a backward pass in units of the forward pass: to the images alone, about one; with statistics, more."""
Init = Literal["noise", "real"]
Carried = Mapping[str, Tensor]
"""What one block hands to the next where a method carries state."""
TINY_SQUEEZE: dict[str, Any] = {
    "student": {
        "class_path": "ddlight.networks.students.ConvNet",
        "init_args": {"depth": 3, "width": 8, "norm": "batch"},
    },
    "budget": {"steps": 40},
    "ring": 3,
    "clean": 0,
}
"""A teacher of seconds, for `--tiny`."""


class RecoveredSynthesiser(Synthesiser):
    """Makes images of which trained networks say the right class, block by block of images that count together.

    A method says in `published` which numbers its paper has for a dataset, and overrides what else it has of its own:
    `blocks` (which images are recovered together), `initial` (where they begin), `crop_floors`, `statistics` and
    `observers` (what is matched of which networks), `losses` (what else is asked), `recover` (stages, changed weights).
    Images are kept without loss, as PNG. Deviation: all published codes but FADRM's store JPEG of quality 75.

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of the teachers that are trained for it, where those have none of their own, and of every draw.
        cache: folder of condensed sets.
        teachers: networks that were trained before; none takes torchvision's for ImageNet-1K and trains others.
        squeezes: how teachers are trained where none are given; a null student takes a ResNet-18.
        recovery: numbers that replace the published ones.
    """

    tiny: ClassVar[dict[str, Any]] = {"squeeze": TINY_SQUEEZE, "teacher": None, "recovery": {"iterations": 5}}
    torchvision: tuple[str, ...] = ("resnet18",)
    """Published teachers of ImageNet-1K, with weights IMAGENET1K_V1."""
    init: str = "noise"
    """Where images begin."""
    matched_layers: ClassVar[tuple[str, str]] = (
        "the running statistics of BatchNorm layers",
        "BatchNorm, such as a ResNet or a ConvNet with norm: batch",
    )
    """What is matched of a teacher, and which teachers have it, for the error of one that has not."""
    carry_state: bool = False
    """Whether blocks of one unit follow one another and hand on what they have changed."""

    def __init__(
        self,
        dataset: RealDataset,
        ipc: int,
        seed: int,
        cache: str | None,
        teachers: Sequence[Teacher],
        squeezes: Sequence[Scoring],
        recovery: RecoveryOverride,
    ) -> None:
        super().__init__(dataset, ipc, seed, cache)
        self._given, self._squeezes, self.recovery = list(teachers), list(squeezes), recovery

    # --- what a method says ---

    @abstractmethod
    def published(self) -> Recovery:
        """The paper's numbers for this dataset and ipc."""

    def blocks(self) -> list[Unit]:
        """Images that are recovered together: so many distinct consecutive classes, at one ipc index."""
        classes, size = range(self.dataset.num_classes), self.numbers.batch
        parts = [tuple(classes[start : start + size]) for start in range(0, len(classes), size)]
        places = [(part, k) for k in range(self.ipc) for part in parts]
        return [Unit(number, part, (k,)) for number, (part, k) in enumerate(places)]

    def in_order(self) -> list[list[Unit]]:
        """Blocks that follow one another where state is carried: by default all of them."""
        return [self.blocks()]

    def initial(self, block: Unit) -> Tensor:
        """Images of a block to begin with, normalised float32 (B, C, S, S): noise of N(0, 1), or real ones."""
        if self.init == "real":
            return self.pixels.enter(self.dataset.take("train", self.real_rows(block)), self.device)
        info, rng = self.dataset.info, generator(self.seed, "recovery noise", block.number)
        shape = (len(self.labels(block)), info.channels, info.size, info.size)
        return torch.from_numpy(rng.standard_normal(shape, np.float32)).to(self.device)

    def real_rows(self, block: Unit) -> np.ndarray:
        """Positions of a block's real images in the training split: the ipc-th of each class's own random order."""
        labels, chosen = self.dataset.index("train").labels, np.array(block.images)
        orders = [(np.flatnonzero(labels == c), generator(self.seed, "recovery real", c)) for c in block.classes]
        return np.concatenate([rng.permutation(rows)[chosen] for rows, rng in orders])

    def crop_floors(self) -> np.ndarray | None:
        """Smallest crop at each iteration, as a fraction of the image's area, (T,); None takes whole images."""
        numbers = self.numbers
        return np.full(numbers.iterations, numbers.min_crop) if numbers.min_crop else None

    def statistics(self, network: nn.Module, block: Unit) -> Statistics:
        """What is matched of a network: by default what its BatchNorm layers remember."""
        return Statistics(network, self.numbers.first_weight, self.numbers.var_weight)

    def losses(self, block: Unit) -> dict[str, Loss]:
        """Further terms of the loss, by name, their weights included."""
        return {}

    def recover(self, block: Block, images: Tensor, carried: Carried | None) -> tuple[Tensor, Carried]:
        """Recover a block's images, and say what the next one is to be handed.

        Args:
            block: networks, views and numbers.
            images: normalised float32 (B, C, S, S), on the device.
            carried: what the block before handed on; None for the first, and for all where no state is carried.
        """
        return recover(block, images), {}

    @property
    def source_images_per_image(self) -> int:
        """Real images that go into one."""
        return 1 if self.init == "real" else 0

    # --- numbers and networks ---

    @cached_property
    def numbers(self) -> Recovery:
        """The numbers that are used. Raises UsageError where the images are too small for them."""
        numbers = self.recovery.over(self.published())
        numbers.check_size(self.dataset.info.size)
        return numbers

    @property
    def device(self) -> torch.device:
        """This process's GPU where there is one."""
        return current_device()

    @cached_property
    def pixels(self) -> Space:
        """Where images live: normalised as the dataset is."""
        return Space(self.dataset.info.mean, self.dataset.info.std)

    @property
    def all_teachers(self) -> list[Teacher]:
        """Teachers that were given: their weights are part of the set's name."""
        return self._given

    @property
    def ready_made(self) -> list[Teacher]:
        """Teachers that need no training here: those given, or torchvision's where the dataset is ImageNet-1K."""
        if self._given or self.dataset.info.name != "ImageNet1K" or self.dataset.num_classes != 1000:
            return self._given
        return self._torchvision

    @cached_property
    def _torchvision(self) -> list[Teacher]:
        return [TorchvisionTeacher(name) for name in self.torchvision]

    @cached_property
    def scoring_runs(self) -> list[ScoringRun]:
        """Teachers that are trained for this dataset; `ddlight score` trains them too."""
        if self.ready_made:
            return []
        asked = [s if s.student else replace(s, student=ResNet()) for s in self._squeezes]
        return [ScoringRun(s, self.dataset, self.ipc, self.seed, cache_folder(self.cache)) for s in asked]

    @cached_property
    def loaded_teachers(self) -> list[Teacher]:  # type: ignore[override]
        """The teachers, loaded: those that are ready made, or those that were trained for it."""
        return self._load(self.ready_made or [run.trained for run in self.scoring_runs])

    # --- before the first unit ---

    def prepare(self) -> None:
        """Train the teachers that are missing, and try all of them.

        Raises:
            UsageError: the numbers do not fit the images, a class has fewer real images than are to begin with, or no
                teacher has layers to match.
        """
        _ = self.numbers
        if self.init == "real":
            require_images(self.dataset, self.ipc)
        for run in self.scoring_runs:
            run.make(progress=self.progress)
        self._require_layers()
        _ = self.teachers_acc

    def _require_layers(self) -> None:
        unit = self.blocks()[0]
        if self.numbers.stat_weight and not any(self.statistics(t.network, unit).matched for t in self.loaded_teachers):
            names = ", ".join(teacher.name for teacher in self.loaded_teachers)
            raise UsageError(
                f"{type(self).__name__} matches {self.matched_layers[0]}, and {names} has none. "
                f"Give a teacher with {self.matched_layers[1]}; "
                "or --data.recovery.stat_weight=0, which matches nothing."
            )

    # --- making units ---

    def units(self) -> list[Unit]:
        """Blocks; or, where state is carried, those that follow one another together."""
        if not self.carry_state:
            return self.blocks()
        return [_together(number, blocks) for number, blocks in enumerate(self.in_order())]

    def labels(self, block: Unit) -> np.ndarray:
        """Classes of a block's images, class after class: int64 (B,)."""
        return np.repeat(np.array(block.classes, np.int64), len(block.images))

    def make(self, unit: Unit) -> Synthesis:
        """Recover a unit's images, in one block or in several that follow one another."""
        blocks = self.in_order()[unit.number] if self.carry_state else [unit]
        done, carried = self._progress(unit)
        for block in blocks[len(done) :]:
            images, carried = self._recovered(block, carried)
            done.append(images)
            if len(done) < len(blocks):
                self._keep(unit, done, carried)
        labels = np.concatenate([self.labels(block) for block in blocks])
        return Synthesis(np.concatenate(done), labels, self.source_images_per_image * len(labels))

    def _recovered(self, block: Unit, carried: Carried | None) -> tuple[np.ndarray, Carried]:
        """One block's images, uint8 (B, C, S, S), and what it hands on."""
        info, numbers, device = self.dataset.info, self.numbers, self.device
        rng = generator(self.seed, "recovery views", block.number)
        views = Views(rng, self.crop_floors(), numbers.iterations, numbers.shifts, info.flip)
        labels = torch.from_numpy(self.labels(block)).to(device)
        title = f"recovering block {block.number + 1} of {len(self.blocks())}"
        with repeatable(), RecoveryBar(title, numbers.iterations, self.pixels, self.working) as bar:
            observers, losses = self.observers(block), self.losses(block)
            setting = Block(numbers, self.pixels, labels, observers, views, info.size, losses, bar)
            images, carried = self.recover(setting, self.initial(block), carried)
        return self.pixels.leave(images), carried

    def observers(self, block: Unit) -> list[Observer]:
        """Private copies of the teachers, which answer in turn."""
        measure: Callable[[nn.Module], Statistics] = lambda network: self.statistics(network, block)  # noqa: E731
        device, precision = self.device, self.numbers.precision
        return [Observer(teacher, self.pixels, device, measure, precision) for teacher in self.loaded_teachers]

    def _keep(self, unit: Unit, done: list[np.ndarray], carried: Carried) -> None:
        """Keep the blocks that are done and what they hand on, after a checksum."""
        images = {f"images.{k}": torch.from_numpy(block) for k, block in enumerate(done)}
        state = {f"carried.{name}": tensor.contiguous().cpu() for name, tensor in carried.items()}
        files.write_bytes(self.checkpoint(unit), files.sealed(save({**images, **state})))

    def _progress(self, unit: Unit) -> tuple[list[np.ndarray], Carried | None]:
        """Blocks that an interrupted process has left, and what they hand on; nothing where it left none."""
        path = self.checkpoint(unit)
        if not self.carry_state or not path.exists():
            return [], None
        try:
            found = load(files.unsealed(path.read_bytes()))
        except (DataError, SafetensorError):
            log.warning("%s is damaged: unit %d begins anew", path, unit.number)
            return [], None
        done = [found[f"images.{k}"].numpy() for k in range(sum(name.startswith("images.") for name in found))]
        return done, {name.partition(".")[2]: t for name, t in found.items() if name.startswith("carried.")}

    # --- what it costs ---

    def estimate_seconds(self) -> float:
        """Time of the recovery and of the teachers that are missing, from the operations that they take."""
        return scoring_seconds(self.scoring_runs) + self._operations() / operations_per_second()

    def _operations(self) -> float:
        """Floating-point operations of the recovery."""
        passes = (1 + BACKWARD) * self.numbers.iterations * self.expected_images
        return passes * float(np.mean(self._forwards()))

    def _forwards(self) -> list[float]:
        """Operations of a pass through each teacher, those that are still to be trained among them."""
        return [self._forward(teacher) for teacher in self.ready_made] or self._trained()

    def _forward(self, teacher: Teacher) -> float:
        """Operations of a pass through a teacher; one whose weights are elsewhere is taken for a ResNet-18."""
        info = self.dataset.info
        if not teacher.at_hand():
            return forward_flops(build_checked(ResNet(), info.num_classes, 3, info.size), 3, info.size)
        return self._load([teacher])[0].flops

    def _trained(self) -> list[float]:
        info, size = self.dataset.info, self.dataset.info.size
        students = [run.student for run in self.scoring_runs]
        networks = [build_checked(s, info.num_classes, info.channels, size) for s in students]
        return [forward_flops(network, info.channels, size) for network in networks]

    def facts(self) -> dict[str, Any]:
        """The numbers that were used, the teachers, and what all of it cost."""
        teachers = [{"name": t.name, "fingerprint": t.fingerprint()} for t in self.loaded_teachers]
        cost = {"flops_synthesis": self._operations(), **scoring_facts(self.scoring_runs)}
        return {"recovery": asdict(self.numbers), "teachers": teachers, **cost}


def _together(number: int, blocks: Sequence[Unit]) -> Unit:
    """One unit of several blocks."""
    classes, images = {c for block in blocks for c in block.classes}, {k for block in blocks for k in block.images}
    return Unit(number, tuple(sorted(classes)), tuple(sorted(images)))

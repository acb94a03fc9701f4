"""MatchedSynthesiser: what G-VBSM and EDC share: several teachers in turn, whose convolutions are matched as well."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from ddlight.core.artefact import Unit
from ddlight.core.errors import UsageError
from ddlight.core.files import cache_folder
from ddlight.data.base import RealDataset
from ddlight.methods.recovery.engine.gathered import LARGE, RealStatistics
from ddlight.methods.recovery.engine.loop import Block, recover
from ddlight.methods.recovery.engine.matching import LayerInputs, SmoothedStatistics, packed, unpack
from ddlight.methods.recovery.engine.observer import Observer
from ddlight.methods.recovery.engine.options import RecoveryOverride
from ddlight.methods.recovery.engine.recovered import TINY_SQUEEZE, Carried, RecoveredSynthesiser
from ddlight.methods.scoring.run import Scoring
from ddlight.networks.students import ConvNet, ResNet, Student, Torchvision
from ddlight.networks.teachers import Teacher

LARGE_TEACHERS = ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5")


class MatchedSynthesiser(RecoveredSynthesiser):
    """Recovers images class after class from several teachers, whose real statistics are gathered first.

    A method says in `matching` which statistics of a teacher are matched.
    Deviation: blocks are class after class at every size. G-VBSM's script for Tiny-ImageNet takes one image of each
    class in turn at 10 images a class, with which its data densification has nothing to spread.

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: of the teachers that are trained for it, where those have none of their own, and of every draw.
        cache: folder of condensed sets.
        teachers: networks that were trained before; none takes torchvision's for ImageNet-1K and trains others.
        squeezes: how teachers are trained where none are given; null trains four (`students`).
        recovery: numbers that replace the published ones.
        momentum: of the running means of statistics; null takes the published one.
        carry_state: whether running means go on from block to block.
    """

    recipe_version: ClassVar[int] = 2
    tiny: ClassVar[dict[str, Any]] = {
        "squeezes": [TINY_SQUEEZE, {**TINY_SQUEEZE, "budget": {"steps": 20}}],
        "teachers": None,
        "recovery": {"iterations": 4, "batch": 40},
    }
    torchvision: tuple[str, ...] = LARGE_TEACHERS
    matched_layers: ClassVar[tuple[str, str]] = (
        "inputs of BatchNorm layers and convolutions",
        "convolutions, such as a ResNet",
    )

    def __init__(
        self,
        dataset: RealDataset,
        ipc: int,
        seed: int,
        cache: str | None,
        teachers: Sequence[Teacher] | None,
        squeezes: Sequence[Scoring] | None,
        recovery: RecoveryOverride,
        momentum: float | None,
        carry_state: bool,
    ) -> None:
        trained = squeezes or [Scoring(student, clean=0) for student in students(dataset.info.size)]
        super().__init__(dataset, ipc, seed, cache, teachers or [], trained, recovery)
        if momentum is not None and not 0 <= momentum < 1:
            raise UsageError(f"momentum is {momentum}; allowed: 0 (the images at hand alone) or more, below 1.")
        self.teachers, self.squeezes = teachers, squeezes
        self.momentum, self.carry_state = momentum, carry_state

    # --- what a method says ---

    @property
    @abstractmethod
    def published_momentum(self) -> float:
        """The paper's momentum of the running means for this dataset."""

    @abstractmethod
    def matching(self, network: nn.Module, real: RealStatistics, block: Unit, number: int) -> SmoothedStatistics:
        """What is matched of teacher number `number`, whose copy is `network`, for a block's images."""

    # --- blocks ---

    @property
    def large(self) -> bool:
        """Whether images are as large as photographs."""
        return self.dataset.info.size >= LARGE

    def blocks(self) -> list[Unit]:
        """So many images in a row of all images, class after class: 8 classes of 10 images each, as published."""
        size, total = self.numbers.batch, self.dataset.num_classes * self.ipc
        return [self._block(n, range(start, min(start + size, total))) for n, start in enumerate(range(0, total, size))]

    def _block(self, number: int, places: range) -> Unit:
        classes = sorted({place // self.ipc for place in places})
        return Unit(number, tuple(classes), tuple(sorted({place % self.ipc for place in places})))

    def places(self, block: Unit) -> np.ndarray:
        """Places of a block's images in the set: image k of class c has place c ipc + k; int64 (B,)."""
        start, total = block.number * self.numbers.batch, self.dataset.num_classes * self.ipc
        return np.arange(start, min(start + self.numbers.batch, total))

    def labels(self, block: Unit) -> np.ndarray:
        """Classes of a block's images: int64 (B,)."""
        return self.places(block) // self.ipc

    # --- statistics ---

    @property
    def patch(self) -> int:
        """Side of a patch in pixels of a layer's maps: 16 for photographs and 4 for small images, as in the codes."""
        return 16 if self.large else 4

    @property
    def used_momentum(self) -> float:
        """Momentum of the running means."""
        return self.published_momentum if self.momentum is None else self.momentum

    @cached_property
    def real_statistics(self) -> list[RealStatistics]:
        """What the real images give in each teacher's layers."""
        cache = cache_folder(self.cache)
        return [RealStatistics(teacher, self.dataset, cache, self.patch) for teacher in self.loaded_teachers]

    def statistics(self, network: nn.Module, block: Unit) -> LayerInputs:
        """The layers that are matched of a network."""
        return LayerInputs(network, self.numbers.first_weight, self.numbers.var_weight, self.patch)

    def observers(self, block: Unit) -> list[Observer]:
        """Private copies of the teachers, which answer in turn, each with its own statistics."""
        return [self._observer(block, number) for number in range(len(self.loaded_teachers))]

    def _observer(self, block: Unit, number: int) -> Observer:
        def measure(network: nn.Module) -> SmoothedStatistics:
            return self.matching(network, self.real_statistics[number], block, number)

        return Observer(self.loaded_teachers[number], self.pixels, self.device, measure, self.numbers.precision)

    def prepare(self) -> None:
        """Train the teachers that are missing, try all of them, and gather what the real images give in their layers.

        Raises:
            UsageError: the numbers do not fit the images, or no teacher has layers to match.
        """
        super().prepare()
        for real in self.real_statistics:
            real.ensure()

    def recover(self, block: Block, images: Tensor, carried: Carried | None) -> tuple[Tensor, Carried]:
        """Recover from running means that begin at 0, or go on where the block before left them."""
        statistics = [s for o in block.observers if isinstance(s := o.statistics, SmoothedStatistics)]
        unpack(carried or {}, statistics, images.device)
        return recover(block, images), packed(statistics) if self.carry_state else {}

    # --- what goes with it ---

    def _operations(self) -> float:
        """Operations of the recovery and of one pass of each teacher over the real images."""
        return super()._operations() + self.dataset.info.train * sum(self._forwards())

    def facts(self) -> dict[str, Any]:
        """As any recovery's, with the statistics that were matched."""
        return {**super().facts(), "statistics": [real.fingerprint for real in self.real_statistics]}


def students(size: int) -> list[Student]:
    """Architectures of the teachers that are trained where none are given, by the images' side in pixels.

    From 96 pixels on those of ImageNet-1K. Below, a ResNet-18 and three ConvNets with BatchNorm.
    Deviation: the codes for small images have MobileNetV2, WRN-16-2 and ShuffleNetV2 in versions for 32 pixels too.
    """
    if size >= LARGE:
        return [ResNet(), *(Torchvision(name) for name in LARGE_TEACHERS[1:])]
    depth = 3 if size < 48 else 4
    return [ResNet(), ConvNet(depth, 128, "batch"), ConvNet(depth - 1, 128, "batch"), ConvNet(depth, 32, "batch")]

"""The networks that images are recovered from: those that were given, torchvision's, or trained for the dataset."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from ddlight.core.files import cache_folder
from ddlight.data.base import RealDataset
from ddlight.methods.base import Synthesiser
from ddlight.methods.recovery.engine.gathered import LARGE
from ddlight.methods.scoring.cost import image_flops
from ddlight.methods.scoring.run import Scoring, ScoringRun
from ddlight.networks.students import ConvNet, ResNet, Student, Torchvision
from ddlight.networks.teachers import Teacher, TorchvisionTeacher

TINY_SQUEEZE: dict[str, Any] = {
    "student": {
        "class_path": "ddlight.ConvNet",
        "init_args": {"depth": 3, "width": 8, "norm": "batch"},
    },
    "budget": {"steps": 40},
    "ring": 3,
    "clean": 0,
}
"""A teacher of seconds, for `--tiny`."""
TINY_TEACHERS: dict[str, Any] = {
    "squeezes": [TINY_SQUEEZE, {**TINY_SQUEEZE, "budget": {"steps": 20}}],
    "teachers": None,
}
"""Two of them."""
LARGE_TEACHERS = ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5")
"""G-VBSM's and EDC's networks."""


class Teachers:
    """One or several networks that a set is recovered from.

    Args:
        data: the set.
        given: networks that were trained before; none takes torchvision's for ImageNet-1K and trains others.
        squeezes: how networks are trained where none are given; one without a student takes a ResNet-18.
        published: torchvision's networks with weights IMAGENET1K_V1, for ImageNet-1K.
        students: architectures that are trained where `squeezes` names none.
    """

    def __init__(
        self,
        data: Synthesiser,
        given: Sequence[Teacher | None] | None,
        squeezes: Sequence[Scoring] | None,
        published: Sequence[str] = ("resnet18",),
        students: Sequence[Student] = (ResNet(),),
    ) -> None:
        self.data, self.given = data, [teacher for teacher in given or () if teacher]
        self.squeezes = squeezes or [Scoring(student, clean=0) for student in students]
        self.published = published

    @cached_property
    def ready_made(self) -> list[Teacher]:
        """Those that need no training here: the given ones, or torchvision's where the dataset is ImageNet-1K."""
        dataset = self.data.dataset
        if self.given or dataset.name != "ImageNet1K" or dataset.num_classes != 1000:
            return self.given
        return [TorchvisionTeacher(name) for name in self.published]

    @cached_property
    def scoring_runs(self) -> list[ScoringRun]:
        """Trainings of those that are trained here."""
        if self.ready_made:
            return []
        data, cache = self.data, cache_folder(self.data.cache)
        trained = [s if s.student else replace(s, student=ResNet()) for s in self.squeezes]
        return [ScoringRun(scoring, data.dataset, data.ipc, data.seed, cache) for scoring in trained]

    @cached_property
    def all(self) -> list[Teacher]:
        """All of them, in their turn; not loaded."""
        return self.ready_made or [run.trained for run in self.scoring_runs]

    @cached_property
    def forwards(self) -> list[float]:
        """Operations of a pass through each, trained or not; one that must be downloaded counts as a ResNet-18."""
        dataset, info = self.data.dataset, self.data.dataset.info
        for teacher in (teacher for teacher in self.ready_made if teacher.at_hand()):
            teacher.load(dataset.num_classes, info.channels, info.size, info.classes, info.name)
        ready = [t.flops if t.at_hand() else image_flops(ResNet(), dataset) for t in self.ready_made]
        return ready or [image_flops(run.student, dataset) for run in self.scoring_runs]


def photographs(dataset: RealDataset) -> bool:
    """Whether images are as large as photographs, from 96 pixels on."""
    return dataset.info.size >= LARGE


def students(dataset: RealDataset) -> list[Student]:
    """Architectures of G-VBSM's and EDC's teachers that are trained where none are given.

    For photographs those of ImageNet-1K; for small images a ResNet-18 and three ConvNets with BatchNorm.
    Deviation: the codes for small images have MobileNetV2, WRN-16-2 and ShuffleNetV2 in versions for 32 pixels too.
    """
    if photographs(dataset):
        return [ResNet(), *(Torchvision(name) for name in LARGE_TEACHERS[1:])]
    depth = 3 if dataset.info.size < 48 else 4
    return [ResNet(), ConvNet(depth, 128, "batch"), ConvNet(depth - 1, 128, "batch"), ConvNet(depth, 32, "batch")]

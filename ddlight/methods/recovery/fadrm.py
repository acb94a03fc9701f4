"""FADRM: images that begin as patches of real ones and are led back to them between the stages of their recovery.

P are patches of real images (`RealPatches`), P|D the same resized to D x D pixels; D_1..D_K are the stages' sizes:

    X = P|D_1
    for j = 1..K:
        T / K iterations of SRe2L's loop on X, with an Adam of their own        (multi-resolution optimisation)
        X <- alpha X|D_{j+1} + (1 - alpha) P|D_{j+1}, except after the last     (adjustable residual connection)

One cosine over all T iterations, views of D_j pixels. FADRM asks one network, FADRM+ several in turn, whose turns go on
from stage to stage. Labels come later, from the same networks in training mode (protocols fadrm and fadrm_plus).
"""

from functools import cached_property
from itertools import product
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ddlight.core.errors import UsageError
from ddlight.methods.recovery.engine import (
    TINY_TEACHERS,
    Carried,
    Objective,
    Part,
    Patches,
    PatchImages,
    RecoveredSynthesiser,
    Recovery,
    Teachers,
    recover,
)
from ddlight.methods.scoring.run import Scoring
from ddlight.networks.students import ConvNet, ResNet, Student, Torchvision
from ddlight.networks.teachers import Teacher

SMALL = 64
"""Up to this many pixels all stages have the images' own size."""
LOW = 200 / 224
"""Size of the smaller stages above that, as a fraction of the images'."""
MODELS = ("resnet18", "densenet121", "shufflenet_v2_x1_0", "mobilenet_v2")
"""FADRM+'s networks, in their turn."""
FEWEST = ("resnet18", "mobilenet_v2", "shufflenet_v2_x1_0", "alexnet")
"""The same at ipc 1 on ImageNet-1K."""


def resized(images: Tensor, size: int) -> Tensor:
    """Images (B, C, S, S) at (B, C, size, size): bilinear without antialiasing, as the code has it."""
    if images.shape[-1] == size:
        return images
    return interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=False)


def residual(images: Tensor, patches: Tensor, size: int, alpha: float) -> Tensor:
    """alpha X|D + (1 - alpha) P|D, with D = `size`: (B, C, size, size)."""
    return alpha * resized(images, size) + (1 - alpha) * resized(patches, size)


class Stages(Part):
    """Stages of several sizes with the patches blended in between.

    Args:
        data: the set that is recovered in them.
        sizes: D_1..D_K in pixels.
        alpha: weight of the images beside the patches.
    """

    data: RecoveredSynthesiser

    def __init__(self, data: RecoveredSynthesiser, sizes: list[int], alpha: float) -> None:
        super().__init__(data)
        if not 0 <= alpha <= 1:
            raise UsageError(f"alpha is {alpha}; allowed: 0 (the patches alone) to 1 (no residual), such as 0.5.")
        self.whole, self.sizes, self.alpha = data.dataset.info.size, sizes, alpha

    @cached_property
    def all(self) -> list[tuple[int, int, int]]:
        """Size, first iteration and end of each stage. Raises UsageError where they do not fit the images."""
        sizes, whole, numbers, count = self.sizes, self.whole, self.data.numbers, len(self.sizes)
        if sizes[-1] != whole:
            raise UsageError(f"sizes is {sizes}; the last stage has the size of the images, {whole}: [..., {whole}].")
        numbers.check_size(min(sizes))
        if numbers.iterations < count:
            raise UsageError(
                f"recovery.iterations is {numbers.iterations}; {count} stages take at least one each. Give "
                f"--data.recovery.iterations={count} or more, or fewer --data.sizes."
            )
        ends = [numbers.iterations * j // count for j in range(count + 1)]
        return list(zip(sizes, ends[:-1], ends[1:], strict=True))

    @property
    def view_area(self) -> float:
        """Mean area of the views over the iterations, as a fraction of the images'."""
        total = self.all[-1][2]
        return sum((end - first) * (size / self.whole) ** 2 for size, first, end in self.all) / total

    def check(self) -> None:
        """Look at the stages. Raises UsageError where they do not fit the images."""
        _ = self.all

    @torch.no_grad()
    def make(self) -> None:
        """Show each teacher the views of all stages. Raises UsageError where one takes no such views."""
        for teacher, size in product(self.data.loaded_teachers, sorted(set(self.sizes))):
            taken, network = teacher.input, teacher.network
            device, side = next(network.parameters()).device, round(size * taken.size / self.whole)
            try:
                network(torch.zeros(1, len(taken.mean), side, side, device=device))
            except RuntimeError as error:
                raise UsageError(
                    f"The teacher {teacher.name} takes no views of {side} pixels, which a stage of {size} shows it "
                    f"({error}). Give --data.sizes={[self.whole] * len(self.sizes)}, or a teacher that averages over "
                    "places, such as a ResNet."
                ) from None

    def recover(self, objective: Objective, patches: Tensor) -> Tensor:
        """Recover images stage by stage, with the patches that they begin as blended in between."""
        images = resized(patches, self.sizes[0])
        for size, first, end in self.all:
            if first:
                images = residual(images, patches, size, self.alpha)
            images = recover(objective, images, first, end)
        return images


def published_sizes(whole: int) -> list[int]:
    """200, 224, 200, 224; in proportion for other sizes above 64 pixels, four times the whole size up to there."""
    return [whole] * 4 if whole <= SMALL else [round(LOW * whole), whole] * 2


class FADRM(RecoveredSynthesiser):
    """Patches of real images that a trained network changes in stages, each of which begins half a patch again.

    Paper: arXiv 2506.24125 (NeurIPS 2025); numbers from its code (github.com/Jiacheng8/FADRM): those of CIFAR-100 up to
    32 pixels, of Tiny-ImageNet up to 64, of ImageNet-1K above, with the rate of its own that ImageNette has.
    Deviation: mixed precision, which images above 64 pixels have, is bf16 where that is fast, not fp16 with scaled
    losses; where bf16 is slow, fp32.
    Paper and code differ in the evaluation: the code's is protocol fadrm, the paper says EDC's (protocol edc).
    `recovery.iterations` are those of all stages together.

    Args:
        teacher: a trained network with BatchNorm layers; null takes torchvision's ResNet-18 (IMAGENET1K_V1) for
            ImageNet-1K and trains one on any other dataset.
        squeeze: how the teacher is trained where none is given; a null student takes a ResNet-18.
        patches: difficulty of the patches that images begin as: easy, medium (as published) or hard, see
            `RealPatches`; "whole" takes random whole images.
        sizes: side of the images in each stage, in pixels, the last of them the dataset's own; null takes 200, 224,
            200, 224 in proportion, 64, 64 up to 64 pixels, and four times the whole size up to 32.
        alpha: weight of the images beside the patches where the two are blended; 1 blends nothing.
    """

    tiny: ClassVar[dict[str, Any]] = {**RecoveredSynthesiser.tiny, "patches": "whole"}

    def __init__(
        self,
        *args: Any,
        teacher: Teacher | None = None,
        squeeze: Scoring = Scoring(clean=0),
        patches: Patches = "medium",
        sizes: list[int] | None = None,
        alpha: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.teacher, self.squeeze = teacher, squeeze
        self.patches, self.sizes, self.alpha = patches, sizes, alpha
        whole = self.dataset.info.size
        published = [whole] * 2 if 32 < whole <= SMALL else published_sizes(whole)  # Tiny-ImageNet has two stages
        self.networks, self.stages = Teachers(self, [teacher], [squeeze]), Stages(self, sizes or published, alpha)
        self.start, self.parts = PatchImages(self, self.networks, patches), [self.stages]

    def published(self) -> Recovery:
        """2,000 iterations in four stages; Tiny-ImageNet has 1,000 in two."""
        info = self.dataset.info
        if info.size <= 32:
            return Recovery(2000, lr=0.25, roll=4)
        if info.size <= SMALL:
            return Recovery(1000, lr=0.01, roll=4)
        return Recovery(2000, lr=0.05 if self.dataset.name == "ImageNette" else 0.25, precision="auto")

    @property
    def view_area(self) -> float:  # type: ignore[override]
        """Mean area of the views over the iterations, as a fraction of the images'."""
        return self.stages.view_area

    def recover(self, objective: Objective, images: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        """Recover a block's images stage by stage."""
        return self.stages.recover(objective, images), {}


class FADRMPlus(RecoveredSynthesiser):
    """FADRM (FADRM+) with several networks, which are asked in turn.

    Paper: arXiv 2506.24125 (NeurIPS 2025); numbers from its code (github.com/Jiacheng8/FADRM).
    On ImageNet-1K the networks are torchvision's ResNet-18, DenseNet-121, ShuffleNetV2 x1.0 and MobileNetV2 (all
    IMAGENET1K_V1), below ipc 10 ResNet-18, MobileNetV2, ShuffleNetV2 x1.0 and AlexNet; that ipc 1 there takes the
    second patch of each class (id 1) is left out.
    Deviation: mixed precision, which images above 64 pixels have, is bf16 where that is fast, not fp16 with scaled
    losses; where bf16 is slow, fp32. Up to 64 pixels the code has small versions of the four, of which there is only a
    ResNet-18 here: it and a ConvNet are trained.
    Paper and code differ in the evaluation: the code's is protocol fadrm_plus, the paper says EDC's (protocol edc).
    `recovery.iterations` are those of all stages together.

    Args:
        teachers: trained networks, of which one has BatchNorm layers; the first scores the patches. Null takes
            torchvision's for ImageNet-1K and trains others.
        squeezes: how teachers are trained where none are given, one entry each; a null student takes a ResNet-18. Null
            takes the four architectures above 64 pixels, ResNet-18 and a ConvNet with BatchNorm up to there.
        patches: difficulty of the patches that images begin as: easy, medium (as published) or hard, see
            `RealPatches`; "whole" takes random whole images.
        sizes: side of the images in each stage, in pixels, the last of them the dataset's own; null takes 200, 224,
            200, 224 in proportion, and four times the whole size up to 64 pixels.
        alpha: weight of the images beside the patches where the two are blended; 1 blends nothing.
    """

    tiny: ClassVar[dict[str, Any]] = {**TINY_TEACHERS, "recovery": {"iterations": 5}, "patches": "whole"}

    def __init__(
        self,
        *args: Any,
        teachers: list[Teacher] | None = None,
        squeezes: list[Scoring] | None = None,
        patches: Patches = "medium",
        sizes: list[int] | None = None,
        alpha: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.teachers, self.squeezes = teachers, squeezes
        self.patches, self.sizes, self.alpha = patches, sizes, alpha
        whole, models = self.dataset.info.size, FEWEST if self.ipc < 10 else MODELS
        self.networks = Teachers(self, teachers, squeezes, models, trained_students(whole))
        self.stages = Stages(self, sizes or published_sizes(whole), alpha)
        self.start, self.parts = PatchImages(self, self.networks, patches), [self.stages]

    def published(self) -> Recovery:
        """2,000 iterations in four stages."""
        if self.dataset.info.size <= SMALL:
            return Recovery(2000, lr=0.25, roll=4)
        return Recovery(2000, lr=0.25, precision="auto")

    @property
    def view_area(self) -> float:  # type: ignore[override]
        """Mean area of the views over the iterations, as a fraction of the images'."""
        return self.stages.view_area

    def recover(self, objective: Objective, images: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        """Recover a block's images stage by stage."""
        return self.stages.recover(objective, images), {}


def trained_students(size: int) -> list[Student]:
    """Networks that are trained for images of `size` pixels where no teachers are given."""
    if size <= SMALL:
        return [ResNet(), ConvNet(depth=3 if size < 48 else 4, norm="batch")]
    return [ResNet(), *map(Torchvision, MODELS[1:])]

"""SRe2L: squeeze the data into a network, recover images from it, let it label them.

Images X of 100 distinct classes y begin as noise and are moved by Adam to lower

    CE(f(v(X)), y) + lambda sum_l w_l (|mean_l(v(X)) - RM_l| + |var_l(v(X)) - RV_l|)

over T iterations, v a random crop, flip and roll of the whole batch, RM and RV what BatchNorm layer l of the frozen
network f remembers of the real images. Labels come later, from f, under the regime that is chosen (`TeacherLabel` and
protocol sre2l as published).
"""

from typing import Any, ClassVar

from ddlight.methods.recovery.engine import STARTS, Init, RecoveredSynthesiser, Recovery, Teachers
from ddlight.methods.scoring.run import Scoring
from ddlight.networks.teachers import Teacher


class SRe2L(RecoveredSynthesiser):
    """Noise that is moved until a trained network knows its class and its BatchNorm layers see what they remember.

    Paper: arXiv 2306.13092; numbers from its code (github.com/VILA-Lab/SRe2L): those of CIFAR-100 at 32 pixels, where
    images are neither cropped nor mirrored, of Tiny-ImageNet at other sizes up to 64, of ImageNet-1K above. On 28 grey
    pixels CIFAR's numbers make images that look like their class and are two to six points better with a teacher, and
    worse under hard labels (tried; `recovery` takes them).

    Args:
        teacher: a trained network with BatchNorm layers; null takes torchvision's ResNet-18 (IMAGENET1K_V1) for
            ImageNet-1K and trains one on any other dataset.
        squeeze: how the teacher is trained where none is given; a null student takes a ResNet-18.
        init: images begin as noise, as published, or as random real ones.
    """

    recipe_version: ClassVar[int] = 2

    def __init__(
        self,
        *args: Any,
        teacher: Teacher | None = None,
        squeeze: Scoring = Scoring(clean=0),
        init: Init = "noise",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.teacher, self.squeeze, self.init = teacher, squeeze, init
        self.networks, self.start = Teachers(self, [teacher], [squeeze]), STARTS[init](self)

    def published(self) -> Recovery:
        """The numbers of ImageNet-1K, Tiny-ImageNet or CIFAR-100, by the images' size."""
        if self.dataset.info.size == 32:
            return Recovery(1000, lr=0.25, roll=4, min_crop=0.0, flip=False)
        if self.dataset.info.size <= 64:
            return Recovery(4000, lr=0.1, stat_weight=1.0, roll=4, symmetric_roll=True)
        return Recovery(4000, lr=0.25)

"""SRe2L++: SRe2L that begins with patches of real images instead of noise.

    X begins as patches of medium difficulty (`RealPatches`); then SRe2L's loop, with the same numbers

Labels come later, from the same network in training mode (protocol sre2lpp).
"""

from typing import Any, ClassVar

from ddlight.methods.recovery.engine import Patches, PatchImages, RecoveredSynthesiser, Recovery, Teachers
from ddlight.methods.scoring.run import Scoring
from ddlight.networks.teachers import Teacher


class SRe2LPlusPlus(RecoveredSynthesiser):
    """Patches of real images that are moved until a trained network's BatchNorm layers see what they remember.

    Paper: arXiv 2501.07575, whose baseline it is; numbers from its code (github.com/Jiacheng8/CV-DD). That code has no
    script of it for images up to 64 pixels: these have the numbers of the others with rolls of 4 pixels (guess).
    Deviation: mixed precision, which images above 64 pixels have, is bf16 where that is fast, not fp16 with scaled
    losses; where bf16 is slow, fp32. Images are kept as PNG, not as JPEG of quality 75.

    Args:
        teacher: a trained network with BatchNorm layers; null takes torchvision's ResNet-18 (IMAGENET1K_V1) for
            ImageNet-1K and trains one on any other dataset.
        squeeze: how the teacher is trained where none is given; a null student takes a ResNet-18.
        patches: difficulty of the patches that images begin as: easy, medium (as published) or hard, see
            `RealPatches`; "whole" takes random whole images.
    """

    tiny: ClassVar[dict[str, Any]] = {**RecoveredSynthesiser.tiny, "patches": "whole"}

    def __init__(
        self,
        *args: Any,
        teacher: Teacher | None = None,
        squeeze: Scoring = Scoring(clean=0),
        patches: Patches = "medium",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.teacher, self.squeeze, self.patches = teacher, squeeze, patches
        self.networks = Teachers(self, [teacher], [squeeze])
        self.start = PatchImages(self, self.networks, patches)

    def published(self) -> Recovery:
        """4,000 iterations."""
        if self.dataset.info.size <= 64:
            return Recovery(4000, lr=0.25, roll=4)
        return Recovery(4000, lr=0.25, precision="auto")

"""SRe2L++: SRe2L that begins with patches of real images instead of noise.

    X begins as patches of medium difficulty (`RealPatches`); then SRe2L's loop, with the same numbers

Labels come later, from the same network in training mode (protocol sre2lpp).
"""

from ddlight.data.base import RealDataset
from ddlight.methods.recovery.engine.options import Recovery, RecoveryOverride
from ddlight.methods.recovery.engine.patched import PatchedSynthesiser, Start
from ddlight.methods.scoring.run import Scoring
from ddlight.networks.teachers import Teacher


class SRe2LPlusPlus(PatchedSynthesiser):
    """Patches of real images that are moved until a trained network's BatchNorm layers see what they remember.

    Paper: arXiv 2501.07575, whose baseline it is; numbers from its code (github.com/Jiacheng8/CV-DD). That code has no
    script of it for images up to 64 pixels: these have the numbers of the others with rolls of 4 pixels (guess).
    Deviation: mixed precision, which images above 64 pixels have, is bf16, not fp16 with scaled losses; images are kept
    as PNG, not as JPEG of quality 75.

    Args:
        dataset: the real dataset.
        ipc: images per class; a smaller set is a prefix of a larger one.
        seed: of the teacher that is trained for it, where that has none of its own, and of every draw.
        cache: folder of condensed sets.
        teacher: a trained network with BatchNorm layers; null takes torchvision's ResNet-18 (IMAGENET1K_V1) for
            ImageNet-1K and trains one on any other dataset.
        squeeze: how the teacher is trained where none is given; a null student takes a ResNet-18.
        recovery: numbers that replace the published ones.
        patches: difficulty of the patches that images begin as: easy, medium (as published) or hard, see
            `RealPatches`; "whole" takes random whole images.
    """

    def __init__(
        self,
        dataset: RealDataset,
        ipc: int = 10,
        seed: int = 0,
        cache: str | None = None,
        teacher: Teacher | None = None,
        squeeze: Scoring = Scoring(clean=0),
        recovery: RecoveryOverride = RecoveryOverride(),  # noqa: B008  frozen
        patches: Start = "medium",
    ) -> None:
        super().__init__(dataset, ipc, seed, cache, [teacher] if teacher else [], [squeeze], recovery, patches)
        self.teacher, self.squeeze = teacher, squeeze

    def published(self) -> Recovery:
        """4,000 iterations."""
        if self.dataset.info.size <= 64:
            return Recovery(4000, lr=0.25, roll=4)
        return Recovery(4000, lr=0.25, precision="bf16")

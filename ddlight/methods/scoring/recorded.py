"""Label regimes whose training step is listened to by a `Recorder`; nothing else about them changes."""

from torch import Tensor

from ddlight.methods.scoring.recorder import Recorder
from ddlight.regimes.base import Regime
from ddlight.regimes.hard_label import HardLabel
from ddlight.regimes.soft_label import SoftLabel
from ddlight.views.view import View


class Recorded(Regime):
    """What a recorded regime does before its own loss. `recorder` is set once the regime is built."""

    recorder: Recorder

    def loss(self, logits: Tensor, targets: Tensor, view: View) -> Tensor:
        """Record, then compare."""
        self.recorder.observe(logits.detach(), targets, view)
        return super().loss(logits, targets, view)


class RecordedHardLabel(Recorded, HardLabel):
    """HardLabel, recorded."""


class RecordedSoftLabel(Recorded, SoftLabel):
    """SoftLabel, recorded."""

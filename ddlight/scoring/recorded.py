"""Label regimes whose training step is listened to by a `Recorder`; nothing else about them changes."""

from typing import Any

from torch import Tensor

from ddlight.regimes.hard_label import HardLabel
from ddlight.regimes.soft_label import SoftLabel
from ddlight.scoring.recorder import Recorder
from ddlight.transforms.view import View


class RecordedHardLabel(HardLabel):
    """HardLabel, recorded.

    Args:
        recorder: hears the logits of every training step.
        arguments: HardLabel's.
        named: HardLabel's.
    """

    def __init__(self, recorder: Recorder, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.recorder = recorder

    def loss(self, logits: Tensor, targets: Tensor, view: View) -> Tensor:
        """Record, then compare."""
        self.recorder.observe(logits.detach(), targets, view)
        return super().loss(logits, targets, view)


class RecordedSoftLabel(SoftLabel):
    """SoftLabel, recorded.

    Args:
        recorder: hears the logits of every training step.
        arguments: SoftLabel's.
        named: SoftLabel's.
    """

    def __init__(self, recorder: Recorder, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.recorder = recorder

    def loss(self, logits: Tensor, targets: Tensor, view: View) -> Tensor:
        """Record, then compare."""
        self.recorder.observe(logits.detach(), targets, view)
        return super().loss(logits, targets, view)

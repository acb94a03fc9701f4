"""HardLabel: the student matches the class of the image."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ddlight.regimes.base import Regime
from ddlight.sets.opened import hard_classes
from ddlight.views.view import View


class HardLabel(Regime):
    """Cross-entropy with the class; in mixed images with both classes, by their share.

    Paper: HL of arXiv 2604.18811; mixing loss of MGD3 / Minimax as used by arXiv 2606.18209.
    Soft labels of a set are reduced to their largest class. The temperature of a protocol has no part in it.
    """

    def targets(self, view: View) -> Tensor:
        """Classes of the images and of their partners: int64 (2, B)."""
        return torch.stack([hard_classes(view.labels), hard_classes(view.partner_labels)])

    def loss(self, logits: Tensor, targets: Tensor, view: View) -> Tensor:
        """share * CE(own class) + (1 - share) * CE(partner's class), mean over images."""
        own = F.cross_entropy(logits, targets[0], reduction="none")
        if not view.mixed:
            return own.mean()
        other = F.cross_entropy(logits, targets[1], reduction="none")
        return (view.share * own + (1 - view.share) * other).mean()

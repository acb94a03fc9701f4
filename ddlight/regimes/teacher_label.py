"""TeacherLabel: the student matches one teacher on the very view it sees."""

from typing import Any

from torch import Tensor

from ddlight.networks.teachers import Teacher
from ddlight.regimes.base import Regime
from ddlight.regimes.losses import kl_divergence
from ddlight.views.view import View


class TeacherLabel(Regime):
    """KL divergence to softmax(teacher / T) on each augmented, mixed view.

    Paper: SL+KD of arXiv 2604.18811; RDED's relabelling (arXiv 2312.03526). The factor T**2 is `recipe.t_squared`, off.

    Args:
        teacher: labels each view; never part of a checkpoint.
        protocol: published recipe; see `ddlight protocols`.
    """

    online = True

    def __init__(self, *args: Any, teacher: Teacher, protocol: str = "rded", **kwargs: Any) -> None:
        super().__init__(*args, protocol=protocol, **kwargs)  # type: ignore[misc]  # the student alone is positional
        self.teacher = teacher

    @property
    def all_teachers(self) -> list[Teacher]:
        """The teacher."""
        return [self.teacher]

    def targets(self, view: View) -> Tensor:
        """Softened probabilities of the teacher on this view: (B, K)."""
        recipe, images = self.run.plan.recipe, self.unit_images(view.images)
        return (self.teacher.logits(images, recipe.batch_statistics) / recipe.temperature).softmax(1)

    def loss(self, logits: Tensor, targets: Tensor, view: View) -> Tensor:
        """KL(teacher || student), both at temperature T, mean over images."""
        return kl_divergence(logits, targets, self.run.plan.recipe)

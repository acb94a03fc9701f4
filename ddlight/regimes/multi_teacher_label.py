"""MultiTeacherLabel: the student matches the mean logits of several teachers on the view it sees."""

from typing import Any

from torch import Tensor

from ddlight.networks.teachers import Teacher, mean_logits
from ddlight.regimes.base import Regime
from ddlight.regimes.losses import kl_divergence, mse_with_class
from ddlight.views.view import View


class MultiTeacherLabel(Regime):
    """Squared error to the mean of the teachers' logits, plus a little cross-entropy of the unmixed label.

    Paper: EDC's evaluation (arXiv 2404.13733), used by arXiv 2606.18209: MSE + 0.025 CE, the CE with the class of the
    base image even where most of it is covered by its partner. G-VBSM (arXiv 2311.17950) scales the teachers' logits to
    one norm first, FADRM+ (arXiv 2506.24125) takes the KL divergence instead: the recipe says which.

    Args:
        teachers: the teachers; each has its own normalisation and size, none is part of a checkpoint.
        protocol: published recipe; see `ddlight protocols`.
    """

    online = True

    def __init__(self, *args: Any, teachers: list[Teacher], protocol: str = "edc", **kwargs: Any) -> None:
        super().__init__(*args, protocol=protocol, **kwargs)  # type: ignore[misc]  # the student alone is positional
        self.teachers = teachers

    @property
    def all_teachers(self) -> list[Teacher]:
        """The teachers."""
        return self.teachers

    def targets(self, view: View) -> Tensor:
        """Mean logits of the teachers on this view: (B, K)."""
        recipe, images = self.run.plan.recipe, self.unit_images(view.images)
        return mean_logits(self.teachers, images, recipe.balance, recipe.batch_statistics)

    def loss(self, logits: Tensor, targets: Tensor, view: View) -> Tensor:
        """MSE(student, mean logits) + ce_weight * CE(student, unmixed class); or KL, both at temperature T."""
        recipe = self.run.plan.recipe
        if recipe.distance == "kl":
            return kl_divergence(logits, (targets / recipe.temperature).softmax(1), recipe)
        return mse_with_class(logits, targets, view.labels, recipe)

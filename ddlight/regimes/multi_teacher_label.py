"""MultiTeacherLabel: the student matches the mean logits of several teachers on the view it sees."""

from torch import Tensor

from ddlight.networks.students import Student
from ddlight.networks.teachers import Teacher, mean_logits
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.base import Regime
from ddlight.regimes.losses import kl_divergence, mse_with_class
from ddlight.views.view import View


class MultiTeacherLabel(Regime):
    """Squared error to the mean of the teachers' logits, plus a little cross-entropy of the unmixed label.

    Paper: EDC's evaluation (arXiv 2404.13733), used by arXiv 2606.18209: MSE + 0.025 CE, the CE with the class of the
    base image even where most of it is covered by its partner. G-VBSM (arXiv 2311.17950) scales the teachers' logits to
    one norm first, FADRM+ (arXiv 2506.24125) takes the KL divergence instead: the recipe says which.

    Args:
        student: the network that is trained.
        teachers: the teachers; each has its own normalisation and size, none is part of a checkpoint.
        protocol: published recipe; see `ddlight protocols`.
        recipe: numbers that replace the protocol's.
        budget: length that replaces the protocol's, in one of steps, epochs, images, full_epochs.
        seed: of initialisation, order and augmentation.
        test_curve: read the test split this many times during training; 0 reads it once, at the end.
        difficulty_curve: score the set's own images this many times during training, into difficulty.csv; 0 never.
        save_epochs: also export the student after these passes over the set (1 is the first).
        compile_networks: compile the student, and teachers that label views, in place.
    """

    online = True

    def __init__(
        self,
        student: Student,
        teachers: list[Teacher],
        protocol: str = "edc",
        recipe: Override | None = None,
        budget: Budget | None = None,
        seed: int = 0,
        test_curve: int = 0,
        difficulty_curve: int = 0,
        save_epochs: tuple[int, ...] = (),
        compile_networks: bool = False,
    ) -> None:
        super().__init__(
            student, protocol, recipe, budget, seed, test_curve, difficulty_curve, save_epochs, compile_networks
        )
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

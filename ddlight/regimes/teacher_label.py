"""TeacherLabel: the student matches one teacher on the very view it sees."""

from torch import Tensor

from ddlight.networks.students import Student
from ddlight.networks.teachers import Teacher
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.base import Regime
from ddlight.regimes.losses import kl_divergence
from ddlight.views.view import View


class TeacherLabel(Regime):
    """KL divergence to softmax(teacher / T) on each augmented, mixed view.

    Paper: SL+KD of arXiv 2604.18811; RDED's relabelling (arXiv 2312.03526). The factor T**2 is `recipe.t_squared`, off.

    Args:
        student: the network that is trained.
        teacher: labels each view; never part of a checkpoint.
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
        teacher: Teacher,
        protocol: str = "rded",
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

"""SoftLabel: the student matches one frozen soft label per image, whatever view it sees."""

import torch
from torch import Tensor

from ddlight.networks.students import Student
from ddlight.networks.teachers import Teacher
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.base import Regime, Run
from ddlight.regimes.losses import kl_divergence
from ddlight.views.loader import Batch
from ddlight.views.view import View, to_unit

CHUNK = 256


class SoftLabel(Regime):
    """KL divergence to softmax(teacher(x) / T) of the clean image x, computed once and then fixed.

    Paper: SL of arXiv 2604.18811. In mixed images the two labels are mixed by their share. The factor T**2 is
    `recipe.t_squared`, off.

    Args:
        student: the network that is trained.
        teacher: labels each image once; never part of a checkpoint.
        protocol: published recipe; see `ddlight protocols`.
        recipe: numbers that replace the protocol's.
        budget: length that replaces the protocol's, in one of steps, epochs, images, full_epochs.
        seed: of initialisation, order and augmentation.
        test_curve: read the test split this many times during training; 0 reads it once, at the end.
        difficulty_curve: score the set's own images this many times during training, into difficulty.csv; 0 never.
        save_epochs: also export the student after these passes over the set (1 is the first).
        compile_networks: compile the student, and teachers that label views, in place.
    """

    def __init__(
        self,
        student: Student,
        teacher: Teacher,
        protocol: str = "ht_small_soft",
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
        self.labels: Tensor | None = None

    @property
    def all_teachers(self) -> list[Teacher]:
        """The teacher."""
        return [self.teacher]

    def view(self, batch: Batch, step: int) -> View:
        """The batch as the student sees it; the first call labels the whole set."""
        if self.labels is None:
            self.labels = self._label_set()
        return super().view(batch, step)

    def _label_set(self) -> Tensor:
        images, _ = self.data.tensors(self.device)
        parts = (images[rows] for rows in torch.arange(len(images), device=images.device).split(CHUNK))
        info, space, whitening = self.data.dataset.info, self.data.space, self.data.whitening
        clean = (to_unit(part.to(self.device), info, space, whitening) for part in parts)
        logits = torch.cat([self.teacher.logits(part) for part in clean])
        return (logits / self.run.plan.recipe.temperature).softmax(1)

    def soft_labels(self, images: Tensor, rows: Tensor) -> Tensor | None:
        """The frozen labels: (B, K)."""
        assert self.labels is not None
        return self.labels[rows]

    def labelled_images(self) -> int:
        """Images of the set: each is labelled once."""
        return self.run.images

    def label_bytes(self, run: Run, classes: int) -> int:
        """Bytes of one float32 label an image."""
        return 4 * run.images * classes

    def targets(self, view: View) -> Tensor:
        """The images' frozen labels, mixed as the images are: (B, K)."""
        assert self.labels is not None
        own = self.labels[view.ids]
        if not view.mixed:
            return own
        return torch.lerp(self.labels[view.partner_ids], own, view.share[:, None])

    def loss(self, logits: Tensor, targets: Tensor, view: View) -> Tensor:
        """KL(label || student), the student at temperature T, mean over images."""
        return kl_divergence(logits, targets, self.run.plan.recipe)

"""SoftLabel: the student matches one frozen soft label per image, whatever view it sees."""

from typing import Any, Literal

import torch
from torch import Tensor

from ddlight.core.errors import UsageError
from ddlight.networks.teachers import Teacher
from ddlight.regimes.base import Regime, ResolvedRun
from ddlight.regimes.losses import kl_divergence
from ddlight.views.loader import Batch
from ddlight.views.view import View, to_unit

CHUNK = 256
"""Images that a teacher labels at once."""


class SoftLabel(Regime):
    """KL divergence to softmax(teacher(x) / T) of the clean image x, computed once and then fixed.

    Paper: SL of arXiv 2604.18811. In mixed images the two labels are mixed by their share. The factor T**2 is
    `recipe.t_squared`, off.
    With `labels=set` the set's own soft labels (MTT with soft labels, TESLA, DATM, FRePo) take the teacher's place, as
    `own_labels` makes them probabilities; the student is at temperature T all the same.

    Args:
        teacher: labels each image once; never part of a checkpoint. None with `labels=set`.
        labels: whose soft labels are matched: the "teacher"'s, or those that the "set" came with.
        protocol: published recipe; see `ddlight protocols`.
    """

    def __init__(
        self,
        *args: Any,
        teacher: Teacher | None = None,
        labels: Literal["teacher", "set"] = "teacher",
        protocol: str = "ht_small_soft",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, protocol=protocol, **kwargs)  # type: ignore[misc]  # the student alone is positional
        if teacher is None and labels == "teacher":
            allowed = ", ".join(sorted(kind.__name__ for kind in Teacher.__subclasses__()))
            raise UsageError(
                f"'model.teacher' is missing: give it in the config, or as --model.teacher=... Allowed: {allowed}. Or "
                "match the soft labels that the set came with: --model.labels=set."
            )
        if teacher is not None and labels == "set":
            raise UsageError("SoftLabel takes a teacher, or the set's own labels (--model.labels=set), and not both.")
        self.teacher, self.labels, self.frozen = teacher, labels, torch.empty(0)

    @property
    def all_teachers(self) -> list[Teacher]:
        """The teacher, if one is asked."""
        return [self.teacher] if self.teacher is not None else []

    @property
    def title(self) -> str:
        """Class, and whose labels were matched where they are not a teacher's."""
        return "SoftLabel(labels=set)" if self.labels == "set" else "SoftLabel"

    def view(self, batch: Batch, step: int) -> View:
        """The batch as the student sees it; the first call labels the whole set."""
        if not len(self.frozen):
            self.frozen = self._label_set()
        return super().view(batch, step)

    def _label_set(self) -> Tensor:
        """Labels of the whole set: probabilities (N, K)."""
        images, labels = self.data.tensors(self.device)
        temperature = self.run.plan.recipe.temperature
        if self.teacher is None:
            return own_labels(labels, self.data.require().manifest["labels"], temperature)
        parts = (images[rows] for rows in torch.arange(len(images), device=images.device).split(CHUNK))
        info, space, whitening = self.data.dataset.info, self.data.space, self.data.whitening
        clean = (to_unit(part.to(self.device), info, space, whitening) for part in parts)
        return (torch.cat([self.teacher.logits(part) for part in clean]) / temperature).softmax(1)

    def soft_labels(self, images: Tensor, rows: Tensor) -> Tensor | None:
        """The frozen labels: (B, K)."""
        return self.frozen[rows]

    def labelled_images(self) -> int:
        """Images of the set: each is labelled once."""
        return self.run.images

    def label_bytes(self, run: ResolvedRun, classes: int) -> int:
        """Bytes of one float32 label an image; 0 where the set brings them."""
        return 4 * run.images * classes if self.all_teachers else 0

    def targets(self, view: View) -> Tensor:
        """The images' frozen labels, mixed as the images are: (B, K)."""
        labels = self.frozen[view.ids]
        return torch.lerp(self.frozen[view.partner_ids], labels, view.share[:, None]) if view.mixed else labels

    def loss(self, logits: Tensor, targets: Tensor, view: View) -> Tensor:
        """KL(label || student), the student at temperature T, mean over images."""
        return kl_divergence(logits, targets, self.run.plan.recipe)

    def _named(self) -> dict[str, Any]:
        return {**super()._named(), "labels": self.labels}


def own_labels(labels: Tensor, kind: str, temperature: float) -> Tensor:
    """A set's own soft labels as probabilities: float32 (N, K).

    Probabilities are taken as they are, logits as softmax(logits / T). Centred labels, those of kernel regression, are
    a class's one-hot minus 1 / K before they are learned: 1 / K is added, what is below 0 becomes 0, and the rest is
    scaled to sum 1.

    Args:
        labels: (N, K), or the classes (N,) of a set with hard labels.
        kind: "probabilities", "logits" or "centred", as the set's manifest has it.
        temperature: T.

    Raises:
        UsageError: the labels are hard, or a centred one has nothing above -1 / K.
    """
    if labels.ndim == 1 or kind == "hard":
        raise UsageError(
            "labels is 'set', and this set has hard labels only. Give a teacher (--model.labels=teacher "
            "--model.teacher=...), or take --model=HardLabel."
        )
    labels = labels.float()
    if kind == "logits":
        return (labels / temperature).softmax(1)
    if kind == "probabilities":
        return labels
    shares = (labels + 1 / labels.shape[1]).clamp(min=0)
    if not bool((shares.sum(1) > 0).all()):
        raise UsageError("labels is 'set', and a centred label of this set has no class above -1 / K: no distribution.")
    return shares / shares.sum(1, keepdim=True)

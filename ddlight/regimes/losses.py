"""Losses that several regimes share."""

from torch import Tensor
from torch.nn import functional as F

from ddlight.recipes.plan import Recipe
from ddlight.sets.opened import hard_classes


def kl_divergence(logits: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    """KL(targets || softmax(logits / T)), mean over images, as RDED and SRe2L without the factor T**2.

    Args:
        logits: (B, K) of the student.
        targets: (B, K) probabilities, already softened.
        recipe: temperature T, and whether the loss is multiplied by T**2.
    """
    softened = F.log_softmax(logits.float() / recipe.temperature, dim=1)
    loss = F.kl_div(softened, targets, reduction="batchmean")
    return loss * recipe.temperature**2 if recipe.t_squared else loss


def mse_with_class(logits: Tensor, targets: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """MSE(student, targets) + ce_weight * CE(student, unmixed class): EDC's loss (arXiv 2404.13733).

    Args:
        logits: (B, K) of the student.
        targets: (B, K) logits.
        labels: (B,) or (B, K): the images' own labels.
        recipe: weight of the cross-entropy.
    """
    return F.mse_loss(logits, targets) + recipe.ce_weight * F.cross_entropy(logits, hard_classes(labels))

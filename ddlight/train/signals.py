"""What one forward pass says of each image: pure functions of logits and labels, in float32 under any precision."""

import torch
from torch import Tensor
from torch.nn import functional as F


def of_class(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What logits (B, C) say of the own class, each float32 (B,).

    - `prob_true`: softmax probability of the own class.
    - `el2n`: ||softmax - one-hot||, in [0, sqrt 2]: EL2N of arXiv 2107.07075 for one network.
    - `margin_prob`: probability of the own class minus the largest other one, in [-1, 1].
    - `margin_logit`: logit of the own class minus the largest other one: AUM's margin, arXiv 2001.10528.
    - `correct`: 1 where the own class's logit is above all others, else 0.
    """
    wide, own = logits.float(), labels[:, None]
    logit, others = wide.gather(1, own), wide.scatter(1, own, -torch.inf)
    rival = others.amax(1, keepdim=True)
    top = torch.maximum(logit, rival)
    weights, mine = (others - top).exp_(), (logit - top).exp()  # softmax's numerators; the largest is 1
    rest = weights.sum(1, keepdim=True)
    total = rest + mine
    prob, missing = mine / total, rest / total  # 1 - prob, without its rounding
    columns = {
        "prob_true": prob,
        "el2n": torch.hypot(torch.linalg.vector_norm(weights, dim=1, keepdim=True) / total, missing),
        "margin_prob": prob - (rival - top).exp() / total,
        "margin_logit": logit - rival,
        "correct": (logit > rival).float(),
    }
    return {name: column[:, 0] for name, column in columns.items()}


def el2n_sl(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """||softmax(logits / T) - targets|| / T: EL2N-SL, Definition 1 of arXiv 2604.18811: float32 (B,).

    It is the norm of the gradient of KL(targets || softmax(logits / T)) with respect to the logits (B, C) of the
    student; `targets` (B, C) are the teacher's probabilities, softened by the same T.
    """
    softened = (logits.float() / temperature).softmax(1)
    return (softened - targets.float()).norm(dim=1) / temperature


def change(now: Tensor, before: Tensor) -> Tensor:
    """Sum over classes of |p (log p - log q)|, p and q probabilities now and a pass before, (B, C): float32 (B,).

    Source: arXiv 2311.13613, its code.
    """
    tiny = 1e-8  # as TDDS's code has it
    return (now * ((now + tiny).log() - (before + tiny).log())).abs().sum(1)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with the own class, in nats: float32 (B,)."""
    return F.cross_entropy(logits.float(), labels, reduction="none")


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax, in nats: float32 (B,). A probability of zero adds nothing."""
    log_p = logits.float().log_softmax(1)
    return -(log_p.exp() * log_p).nan_to_num(0.0).sum(1)


def least_confidence(logits: Tensor) -> Tensor:
    """1 minus the largest probability: float32 (B,)."""
    return 1 - logits.float().softmax(1).amax(1)


def top_margin(logits: Tensor) -> Tensor:
    """Largest probability minus the second largest: float32 (B,)."""
    top = logits.float().softmax(1).topk(2, dim=1).values
    return top[:, 0] - top[:, 1]

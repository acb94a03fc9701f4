"""Protocols of arXiv 2604.18811, "Hard Truths about Soft Labels"."""

from dataclasses import replace

from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Augment, Plan, Setting
from ddlight.recipes.protocols.common import ADAMW, SGD, dsa_strategy
from ddlight.recipes.protocols.rded import rded, rded_batch
from ddlight.recipes.schedules import Schedule


def ht_small_hard(s: Setting) -> Plan:
    """Hard labels of arXiv 2604.18811, small scale (Table 4).

    300 epochs, SGD 0.01, x0.1 at epoch 151, batch 256, DSA (text). Momentum 0.9 and decay 5e-4 are DC-bench's (code).
    """
    schedule = Schedule("step", milestones=(151 / 300,), gamma=0.1, stepped="epoch")
    return Plan(replace(SGD, batch=256, schedule=schedule), Augment(dsa=dsa_strategy(s)), Budget(epochs=300))


def ht_small_soft(s: Setting) -> Plan:
    """Soft labels of arXiv 2604.18811, small scale (Table 4).

    300 epochs, AdamW 1e-3, cosine without warm-up, KL at T = 20, batch 256, DSA (text). Decay 0.01 on all parameters
    (the library's default; derived), no T**2 (guess).
    """
    recipe = replace(ADAMW, batch=256, decay_1d=True)
    return Plan(recipe, Augment(dsa=dsa_strategy(s)), Budget(epochs=300))


def ht_large_hard(s: Setting) -> Plan:
    """Hard labels of arXiv 2604.18811 on ImageNet-1K: a guess but for the batch of 200 at ipc 100.

    About 7.8 passes over the full data whatever the ipc (guess: 1000/200/100 epochs at ipc 10/50/100), RDED's batch
    rule (derived), AdamW 1e-3 with decay 0.01, cosine, RandomResizedCrop (0.08, 1) and flip (guess).
    """
    recipe = replace(ADAMW, batch=rded_batch(s))
    return Plan(recipe, Augment(crop_scale=(0.08, 1.0), flip=s.flip), Budget(full_epochs=7.8))


def ht_large_kd(s: Setting) -> Plan:
    """SL+KD of arXiv 2604.18811 on ImageNet-1K: RDED's recipe, 300 epochs (derived from its numbers; a guess)."""
    return rded(s)

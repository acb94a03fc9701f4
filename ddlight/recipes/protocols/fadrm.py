"""Protocols of FADRM (arXiv 2506.24125) and SRe2L++ (arXiv 2501.07575): labels of teachers in training mode."""

from dataclasses import replace

from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Plan, Setting
from ddlight.recipes.protocols.common import ADAMW, crop_mix
from ddlight.recipes.schedules import Schedule

FADRM_TEACHERS = ("resnet18", "densenet121", "shufflenet_v2_x1_0", "mobilenet_v2")
"""Of FADRM+."""


def fadrm(s: Setting) -> Plan:
    """FADRM's evaluation (arXiv 2506.24125, code): labels of teachers in training mode, tiny batches.

    AdamW with rate and zeta by student and ipc, decay 0.01 on matrices, KL at T = 20, batch 16 (10 on ten classes of
    96 pixels or more), 300 epochs (1000 at 32 pixels, and at 64 with ipc 1), RandomResizedCrop (0.08, 1), flip, CutMix.
    The code splits each batch into halves, for the teachers' BatchNorm as for the student's: the configs have
    `trainer.accumulate_grad_batches: 2`. Every part of a batch, be it a rank's or a micro-batch, is labelled by itself.
    Rates are those of ImageNet-1K, and of ImageNette for ten classes of 96 pixels or more; the scripts for CIFAR,
    Tiny-ImageNet and ImageWoof have others in places (guess). Other students than ResNet-50 and 101 take ResNet-18's,
    and ResNet-101 on ImageNette at ipc 10, which its code cannot run, ResNet-50's (guess). FADRM+ (`fadrm_plus`)
    averages four teachers; at ipc 1 its code has AlexNet in place of DenseNet-121.
    """
    few = s.classes <= 10 and s.size >= 96
    lr, zeta = _by_ipc(FADRM_NETTE if few else FADRM_LARGE, s)
    epochs = 1000 if s.size <= 32 or (s.size <= 64 and s.ipc < 10) else 300
    return _batch_labels(s, lr, zeta, epochs)


def sre2lpp(s: Setting) -> Plan:
    """SRe2L++'s evaluation (arXiv 2501.07575, code): as `fadrm`, with rates of its own.

    ImageNet-1K: 1e-3, zeta 2 (ipc 50: 1). ImageNette: ResNet-18 5e-4, zeta 2 (ipc 10: 1); ResNet-50 5e-4 (ipc 10:
    1e-3), zeta 1 (ipc 1: 2).
    """
    few = s.classes <= 10 and s.size >= 96
    return _batch_labels(s, *_by_ipc(SRE2LPP_NETTE if few else SRE2LPP_LARGE, s), 300)


Rates = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
"""Rate and zeta at ipc 1, 10 and 50."""
FADRM_LARGE: dict[str, Rates] = {
    "resnet18": ((1e-3, 2), (1e-3, 2), (1e-3, 1)),
    "resnet50": ((5e-4, 2), (1e-3, 2), (1e-3, 1)),
    "resnet101": ((3.5e-3, 2), (1e-3, 2), (5e-4, 1)),
}
FADRM_NETTE: dict[str, Rates] = {
    "resnet18": ((5e-4, 2), (5e-4, 1), (5e-4, 2)),
    "resnet50": ((5e-4, 2), (5e-4, 1), (5e-4, 1)),
    "resnet101": ((5e-4, 2), (5e-4, 1), (1e-3, 2)),
}
SRE2LPP_LARGE: dict[str, Rates] = {"resnet18": ((1e-3, 2), (1e-3, 2), (1e-3, 1))}
SRE2LPP_NETTE: dict[str, Rates] = {
    "resnet18": ((5e-4, 2), (5e-4, 1), (5e-4, 2)),
    "resnet50": ((5e-4, 2), (1e-3, 1), (5e-4, 1)),
}


def _by_ipc(rates: dict[str, Rates], s: Setting) -> tuple[float, float]:
    """Rate and zeta of a student, those of the nearest published ipc below."""
    return rates.get(s.student, rates["resnet18"])[0 if s.ipc < 10 else 1 if s.ipc < 50 else 2]


def _batch_labels(s: Setting, lr: float, zeta: float, epochs: int) -> Plan:
    batch = 10 if s.classes <= 10 and s.size >= 96 else 16
    schedule = Schedule("cosine", zeta=zeta, stepped="epoch")
    recipe = replace(ADAMW, lr=lr, batch=batch, schedule=schedule, distance="kl", batch_statistics=True)
    return Plan(recipe, crop_mix(s, 0.08), Budget(epochs=epochs))

"""Protocols of DatasetCondensation and DC-bench (arXiv 2207.09639)."""

from dataclasses import replace

from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Augment, Plan, Setting
from ddlight.recipes.protocols.common import SGD, dsa_strategy
from ddlight.recipes.schedules import Schedule


def dcbench(s: Setting) -> Plan:
    """`evaluate_synset` of DatasetCondensation and DC-bench (arXiv 2207.09639) without augmentation (code).

    SGD 0.01, momentum 0.9, decay 5e-4, batch 256, E = 300: E + 1 epochs; after the epoch with index E // 2 + 1
    the rate falls tenfold and the momentum is forgotten.
    Deviation: for MNIST that code takes DC's own augmentation with E = 1000, and noisy crops for BatchNorm ConvNets;
    here every dataset is trained without.
    """
    return _dcbench(300, Augment())


def dcbench_dsa(s: Setting) -> Plan:
    """`evaluate_synset` with DSA: as `dcbench`, E = 1000 (code)."""
    return _dcbench(1000, Augment(dsa=dsa_strategy(s)))


def _dcbench(epochs: int, augment: Augment) -> Plan:
    drop = (epochs // 2 + 2) / (epochs + 1)
    schedule = Schedule("step", milestones=(drop,), gamma=0.1, stepped="epoch")
    return Plan(replace(SGD, batch=256, schedule=schedule, reset_momentum=True), augment, Budget(epochs=epochs + 1))

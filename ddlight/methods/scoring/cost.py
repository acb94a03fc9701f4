"""What scoring runs cost, and one that costs next to nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ddlight.data.base import RealDataset
from ddlight.methods.scoring.run import ScoringRun
from ddlight.networks.flops import TRAINING, build_checked, forward_flops
from ddlight.networks.students import Student

TINY_SCORING: dict[str, Any] = {
    "student": {"class_path": "ddlight.ConvNet", "init_args": {"depth": 3, "width": 8}},
    "budget": {"steps": 40},
    "ring": 3,
    "clean": 4,
}
"""A scoring run of seconds, for `--tiny`."""


def operations_per_second() -> float:
    """A cautious guess of how fast this machine trains: small ConvNets on one CPU core, or any network on a GPU."""
    return 3e12 if torch.cuda.is_available() else 3e10


def image_flops(student: Student, dataset: RealDataset) -> float:
    """Operations of one image's forward pass. Raises UsageError where the network does not take the images."""
    info = dataset.info
    return forward_flops(build_checked(student, info.num_classes, info.channels, info.size), info.channels, info.size)


def scoring_facts(runs: Sequence[ScoringRun]) -> dict[str, Any]:
    """What the manifest of a set says of the scoring runs behind it."""
    manifests = [run.manifest() for run in runs]
    return {
        "scoring": [m["fingerprint"] for m in manifests],
        "scoring_seconds": sum(m["seconds"] for m in manifests),
        "scoring_images": sum(m["images_seen"] + m["images_read"] for m in manifests),
        "flops_scoring": sum(m["flops"] for m in manifests),
    }


def training_facts(name: str, made: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest of a set says, under this name, of a training behind it that has a manifest of its own."""
    return {
        name: made["fingerprint"],
        "scoring_seconds": made["seconds"],
        "scoring_images": made["images_seen"],
        "flops_scoring": made["flops"],
    }


def scoring_seconds(runs: Sequence[ScoringRun]) -> float:
    """Rough time of those scoring runs that are missing."""
    missing = [run for run in runs if not run.exists]
    images = [TRAINING * run.images + run.scoring.clean * run.dataset.info.train for run in missing]
    operations = [image_flops(run.student, run.dataset) * n for run, n in zip(missing, images, strict=True)]
    return sum(operations) / operations_per_second()

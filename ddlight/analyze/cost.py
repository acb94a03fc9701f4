"""What a set cost to make, charged both ways: without the networks that came trained, and with them.

arXiv 2606.18209 charges a coreset for the training of its own scoring network and a distilled set for none of its
teachers and generators. Here both sets get both numbers. A cost that nobody recorded is None, never 0.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

UNRECORDED = ("Released",)
"""Methods whose sets others made: the time in the manifest is that of reading them."""
SHARED = {"statistics": "statistics of real images", "patch_set": "patches", "mosaics": "mosaics"}
"""Facts of a manifest that name what was made apart, once, and is in no set's seconds."""


@dataclass(frozen=True)
class Cost:
    """Seconds and floating-point operations; None where they are not known.

    Operations are of training networks and optimising images. One pass over the real images for their features, and
    what a choice computes from scores or features, are not counted.
    """

    seconds: float | None  # making the set: synthesis or selection, its search, a score-based method's scoring run
    flops: float | None
    seconds_networks: float | None  # all that, and training the teachers and other networks behind it
    flops_networks: float | None
    notes: tuple[str, ...] = ()  # what these numbers leave out


def cost(manifest: Mapping[str, Any]) -> Cost:
    """Read the account of a set off its manifest.

    A scoring run, and the students of a search, are shared by all sets that ask for them, and charged to each in full.
    Scoring runs that are a distillation's teachers are networks; those that score images for a coreset are part of
    making it.
    """
    m = manifest
    if m["method"] in UNRECORDED:
        return Cost(None, None, None, None, ("others made the set: what it cost is not recorded",))
    seconds, flops = m["seconds"], m.get("flops_synthesis", 0.0 if _counted(m) else None)
    whole = (
        seconds + m.get("scoring_seconds", 0.0),
        None if flops is None else flops + m.get("flops_scoring", 0.0),
    )
    made = (seconds, flops) if "recovery" in m else whole
    notes = [f"seconds leave out: {title}, made once and shared" for key, title in SHARED.items() if m.get(key)]
    pretrained = [*_pretrained(m)]
    if pretrained:
        notes.append(f"training of {', '.join(pretrained)} is not recorded")
    total = (None, None) if pretrained else whole
    return Cost(made[0], made[1], total[0], total[1], tuple(notes))


def _counted(manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest without operations of its own means that there were none: a choice by scores, or at random."""
    return bool(manifest.get("scoring")) or (manifest["kind"] == "indices" and not any(_weights(manifest["args"])))


def _pretrained(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Names of the networks that came trained."""
    trained = bool(manifest.get("scoring")) and "recovery" in manifest
    if "teacher" in manifest:
        yield f"teacher {manifest['teacher']}"
    elif manifest.get("teachers") and not trained:
        yield from (f"teacher {teacher['name']}" for teacher in manifest["teachers"])
    else:
        networks = [f"{network['class']} {str(network['weights'])[:12]}" for network in _weights(manifest["args"])]
        yield from networks or (["CLIP"] if "concepts" in manifest else [])


def _weights(value: Any) -> Iterator[Mapping[str, Any]]:
    """Networks in a method's arguments, however deep: what is named by its weights."""
    if isinstance(value, Mapping):
        if "weights" in value and "class" in value:
            yield value
        else:
            value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _weights(inner)

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

    Attributes:
        seconds: making the set: synthesis or selection, its search, and the scoring run of a score-based method.
        flops: likewise; of training networks and optimising images. One pass over the real images for their features,
            and what a choice computes from scores or features, are not counted.
        seconds_networks: all that, and training the teachers and other networks behind it.
        flops_networks: likewise.
        notes: what these numbers leave out.
    """

    seconds: float | None
    flops: float | None
    seconds_networks: float | None
    flops_networks: float | None
    notes: tuple[str, ...] = ()


def cost(manifest: Mapping[str, Any]) -> Cost:
    """Read the account of a set off its manifest.

    A scoring run, and the students of a search, are shared by all sets that ask for them, and charged to each in full.
    Scoring runs that are a distillation's teachers are networks; those that score images for a coreset are part of
    making it.
    """
    m = manifest
    if m["method"] in UNRECORDED:
        return Cost(None, None, None, None, ("others made the set: what it cost is not recorded",))
    scoring, teachers = (m.get("scoring_seconds", 0.0), m.get("flops_scoring", 0.0)), "recovery" in m
    seconds, flops = m["seconds"], m.get("flops_synthesis", 0.0 if _counted(m) else None)
    notes = _left_out(m)
    whole = _sum(seconds, scoring[0]), _sum(flops, scoring[1])
    own = (seconds, flops) if teachers else whole
    pretrained = [*_pretrained(m)]
    if pretrained:
        notes.append(f"training of {', '.join(pretrained)} is not recorded")
    networks = (None, None) if pretrained else whole
    return Cost(own[0], own[1], networks[0], networks[1], tuple(notes))


def _counted(manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest without operations of its own means that there were none: a choice by scores, or at random."""
    return bool(manifest.get("scoring")) or (manifest["kind"] == "indices" and not any(_weights(manifest["args"])))


def _sum(first: float | None, second: float) -> float | None:
    return None if first is None else first + second


def _left_out(manifest: Mapping[str, Any]) -> list[str]:
    return [f"seconds leave out: {title}, made once and shared" for key, title in SHARED.items() if manifest.get(key)]


def _pretrained(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Names of the networks that came trained."""
    trained = bool(manifest.get("scoring")) and "recovery" in manifest
    if "teacher" in manifest:
        yield f"teacher {manifest['teacher']}"
    elif manifest.get("teachers") and not trained:
        yield from (f"teacher {teacher['name']}" for teacher in manifest["teachers"])
    else:
        yield from (f"{found['class']} {str(found['weights'])[:12]}" for found in _weights(manifest["args"]))
        if "concepts" in manifest and not any(_weights(manifest["args"])):
            yield "CLIP"


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

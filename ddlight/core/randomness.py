"""Every draw that ddlight makes: a generator for (seed, purpose, pass or unit), the same on any machine and rank."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import numpy as np

_SHARED = RLock()
"""Held while torch's own generator is seeded."""


def generator(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """Return the generator of one purpose.

    Draw everything that an epoch or a unit needs at once and index it by sample or step: resume is then exact
    and drawing does not depend on the number of ranks.

    Args:
        seed: the run's or the set's seed, >= 0.
        purpose: a fixed word such as "order" or "crop"; different words give independent streams.
        *index: pass, unit or step numbers, >= 0.

    >>> generator(0, "order", 3).permutation(5).tolist()
    [1, 0, 3, 4, 2]
    """
    word = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4], "little")
    return np.random.default_rng([seed, word, *index])


@contextmanager
def torch_seeded(seed: int) -> Iterator[None]:
    """Seed torch's generator of the CPU, from which layers draw their weights, and leave it as it was.

    It is one for all threads of a process: two that build networks wait for each other.
    """
    import torch

    with _SHARED, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield

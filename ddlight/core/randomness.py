"""Every draw that ddlight makes: a generator for (seed, purpose, pass or unit), the same on any machine and rank."""

import hashlib

import numpy as np


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

"""Label pruning: what is kept, how much of it, and that the draw is seeded."""

import numpy as np
import pytest

from ddlight.core.errors import UsageError
from ddlight.sets.labels import kept


def pairs(array):
    return [tuple(row) for row in array.tolist()]


def test_everything_is_kept_in_order():
    assert pairs(kept(3, 4, 1.0, 0)) == [(epoch, batch) for epoch in range(3) for batch in range(4)]


def test_single_batches_are_kept_over_all_passes():
    chosen = pairs(kept(300, 49, 1 / 40, 1))
    assert len(chosen) == len(set(chosen)) == round(300 * 49 / 40)
    assert chosen == sorted(chosen)
    assert all(0 <= epoch < 300 and 0 <= batch < 49 for epoch, batch in chosen)
    assert len({epoch for epoch, _ in chosen}) > 150  # 7.5 whole passes could only show 8
    assert len({batch for _, batch in chosen}) == 49


def test_every_batch_is_kept_equally_often():
    count = np.zeros((4, 3))
    for seed in range(600):
        epochs, batches = kept(4, 3, 0.25, seed).T
        count[epochs, batches] += 1
    assert count.sum() == 600 * 3
    assert ((count - 150) ** 2 / 150).sum() < 31  # chi-squared with 11 degrees of freedom: p = 0.001


def test_at_least_one_batch_is_kept():
    assert len(kept(5, 4, 1e-6, 0)) == 1


def test_the_draw_depends_on_the_seed_alone():
    assert pairs(kept(20, 5, 0.3, 4)) == pairs(kept(20, 5, 0.3, 4))
    assert pairs(kept(20, 5, 0.3, 4)) != pairs(kept(20, 5, 0.3, 5))


def test_less_is_part_of_more():
    assert set(pairs(kept(20, 5, 0.1, 4))) < set(pairs(kept(20, 5, 0.5, 4)))


@pytest.mark.parametrize("keep", [0.0, -0.5, 1.01, float("nan")])
def test_impossible_shares_are_refused(keep):
    with pytest.raises(UsageError, match="above 0 and not above 1"):
        kept(5, 4, keep, 0)

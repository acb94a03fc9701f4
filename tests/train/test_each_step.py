"""Moments of a run: how many there are, how even they lie, and that the last ends the run."""

import pytest

from ddlight.train.callbacks.each_step import is_due


@pytest.mark.parametrize(("total", "times"), [(100, 7), (12, 4), (301, 20), (5, 5), (9, 1)])
def test_moments_are_even_and_the_last_ends_the_run(total, times):
    moments = [step for step in range(1, total + 1) if is_due(step, total, times)]
    assert len(moments) == times and moments[-1] == total
    assert all(abs(moment - total * k / times) < 1 for k, moment in enumerate(moments, 1))


def test_no_step_is_due_of_no_moments_and_every_step_of_too_many():
    assert not any(is_due(step, 10, 0) for step in range(1, 11))
    assert all(is_due(step, 10, 25) for step in range(1, 11))

"""CDA's curriculum of crops."""

import numpy as np
import pytest

from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.methods.recovery.cda import CDA, smallest_crop
from ddlight.methods.recovery.engine.views import Views
from ddlight.methods.recovery.sre2l import SRe2L


def test_the_smallest_crop_is_whole_at_first_and_published_at_the_end():
    x = np.array([0.0, 0.5, 1.0])
    assert smallest_crop(x, "cosine", 0.08).tolist() == pytest.approx([1.0, 0.54, 0.08])
    assert smallest_crop(x, "linear", 0.08).tolist() == pytest.approx([1.0, 0.54, 0.08])
    assert smallest_crop(x, "step", 0.08).tolist() == [1.0, 1.0, 0.08]


def test_it_falls_along_a_cosine_over_the_whole_run(make):
    floors = make(CDA, iterations=4000).crop_floors()
    t = np.arange(4000)
    np.testing.assert_allclose(floors, 0.08 + 0.92 * 0.5 * (1 + np.cos(np.pi * t / 4000)), rtol=0, atol=1e-12)
    assert floors[0] == 1.0 and floors[2000] == pytest.approx(0.54)
    assert (np.diff(floors) < 0).all() and floors[-1] == pytest.approx(0.08, abs=1e-6)


@pytest.mark.parametrize("mode", ["cosine", "linear", "step"])
def test_a_milestone_ends_it_early(make, mode):
    floors = make(CDA, iterations=100, milestone=0.5, mode=mode).crop_floors()
    assert (floors[50:] == 0.08).all()
    assert (floors[:50] > 0.08).all() and floors[0] == 1.0


def test_the_first_view_is_the_whole_image_and_later_ones_are_parts(make):
    data = make(CDA, iterations=400)
    views = Views(generator(0, "views"), data.crop_floors(), 400, (0, 0), False)
    areas = [views.box(t, 64)[2:].prod() / 64**2 for t in range(400)]
    assert areas[0] == 1
    assert np.mean(areas[:50]) > 0.95 > 0.7 > np.mean(areas[350:])


def test_the_curriculum_makes_another_set_than_sre2l(make):
    own, numbers = make(CDA, ipc=1), {"lr": 0.4, "stat_weight": 0.05, "symmetric_roll": False}
    plain = make(SRe2L, ipc=1, numbers=numbers)
    assert own.numbers == plain.numbers
    assert (own.make(own.units()[0]).images != plain.make(plain.units()[0]).images).any()


def test_a_milestone_of_nothing_is_refused(make):
    for milestone in (0.0, 1.5):
        with pytest.raises(UsageError, match="milestone is"):
            make(CDA, milestone=milestone)

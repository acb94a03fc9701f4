"""Test images in a set are found, exact ones by their pixels and near ones by their features."""

import torch

from ddlight.analyze.coverage import nearest
from ddlight.analyze.duplicates import Pair, digests, exact_pairs, merge, near_pairs, places


def pictures(*values):
    return torch.tensor(values, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4)


def test_equal_pixels_are_found_every_time_they_occur():
    real = places(digests(pictures(1, 2, 3, 2)))
    own = digests(pictures(9, 2, 1))
    assert exact_pairs(own, real) == [(1, 1), (1, 3), (2, 0)]


def test_floats_are_compared_at_the_levels_of_pictures():
    images = pictures(0, 7, 255)
    for shift in (1e-4, -1e-4):
        assert digests(images.float() / 255 + shift) == digests(images)
    assert digests(torch.full((1, 3, 4, 4), 1.5)) == digests(pictures(255))
    assert digests(images.float() / 255 + 1 / 255) != digests(images)


def test_one_pixel_makes_another_image():
    changed = pictures(5).clone()
    changed[0, 2, 3, 3] += 1
    assert exact_pairs(digests(changed), places(digests(pictures(5)))) == []


def test_near_ones_reach_the_threshold():
    images = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]])
    real = torch.tensor([[0.8, 0.6], [1.0, 0.0]])
    near = near_pairs(nearest(images, real), 0.96)
    assert list(near) == [(0, 1), (1, 0)]
    assert near_pairs(nearest(images, real), 0.97).keys() == {(0, 1)}
    pairs = merge([(0, 1), (2, 0)], near)
    assert [(p.image, p.real, p.exact) for p in pairs] == [(0, 1, True), (1, 0, False), (2, 0, True)]
    assert pairs[0].cosine == 1.0 and pairs[2] == Pair(2, 0, None, True)

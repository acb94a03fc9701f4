"""Views: one crop, flip and roll for the whole batch, as torchvision's functions make it, gradients included."""

import numpy as np
import pytest
import torch
from torchvision.transforms import functional

from ddlight.core.randomness import generator
from ddlight.methods.recovery.engine.views import Views, view_matrices

CPU = torch.device("cpu")


def reference(images, box, flipped, shift, size):
    """Torchvision's functions on the 4-D batch, as the published codes call them."""
    view = functional.resized_crop(images, *box.tolist(), [size, size], antialias=False)
    view = functional.hflip(view) if flipped else view
    return torch.roll(view, shift, (2, 3))


@pytest.mark.parametrize("box", [(0, 0, 20, 20), (3, 5, 7, 11), (19, 0, 1, 20), (8, 8, 12, 12)], ids=str)
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("shift", [(0, 0), (3, 7), (-4, 2)], ids=str)
def test_two_matrices_are_crop_resize_flip_and_roll(box, flipped, shift):
    torch.manual_seed(0)
    images = torch.randn(3, 2, 20, 20, dtype=torch.float64, requires_grad=True)
    box = np.array(box)
    rows, columns = (m.double() for m in view_matrices(box, flipped, shift, 20, 20, CPU))  # float32 before
    ours, theirs = rows @ images @ columns.T, reference(images, box, flipped, shift, 20)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    weight = torch.randn_like(ours)
    ours, theirs = (torch.autograd.grad((view * weight).sum(), images)[0] for view in (ours, theirs))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


def test_a_view_is_the_same_for_every_image_of_the_batch_and_another_at_every_iteration():
    views = Views(generator(0, "views"), np.full(30, 0.08), 30, (0, 5), True)
    one = torch.rand(1, 3, 16, 16)
    batch = views(one.repeat(4, 1, 1, 1), 3)
    assert all(torch.equal(batch[0], image) for image in batch)
    assert len({views(one, t).numpy().tobytes() for t in range(30)}) == 30
    again = Views(generator(0, "views"), np.full(30, 0.08), 30, (0, 5), True)
    assert torch.equal(views(one, 7), again(one, 7))


@pytest.mark.parametrize("t", range(8))
def test_a_drawn_view_is_its_box_coin_and_shift(t):
    views = Views(generator(1, "views"), np.full(8, 0.2), 8, (-4, 4), True)
    images = torch.rand(2, 1, 12, 12)
    expected = reference(images, views.box(t, 12), views.flipped[t], tuple(views.shifts[t].tolist()), 12)
    torch.testing.assert_close(views(images, t), expected, rtol=0, atol=1e-5)


def test_rolls_take_every_value_of_their_range_and_no_other():
    for roll, expected in (((0, 4), range(5)), ((-4, 4), range(-4, 5)), ((0, 0), [0])):
        shifts = Views(generator(0, "views"), None, 2000, roll, False).shifts
        assert sorted(set(shifts.ravel().tolist())) == list(expected)
    counts = np.bincount(Views(generator(0, "views"), None, 9000, (0, 8), False).shifts[:, 0])
    assert counts.min() > 850  # uniform: 1000 each, five deviations


def test_flips_are_fair_and_can_be_off():
    views = Views(generator(0, "views"), None, 10_000, (0, 0), True)
    assert abs(views.flipped.mean() - 0.5) < 0.02
    assert not Views(generator(0, "views"), None, 100, (0, 0), False).flipped.any()


def test_without_crops_the_view_is_the_whole_image():
    views = Views(generator(0, "views"), None, 5, (0, 0), False)
    images = torch.rand(2, 3, 9, 9)
    torch.testing.assert_close(views(images, 2), images)


def test_crops_keep_to_their_floor():
    floors = np.array([1.0, 0.9, 0.5, 0.08] * 200)
    views = Views(generator(0, "views"), floors, 800, (0, 0), False)
    areas = np.array([views.box(t, 100)[2:].prod() / 1e4 for t in range(800)]).reshape(-1, 4)
    assert (areas[:, 0] == 1).all()
    assert (areas.min(0) > np.array([0.99, 0.74, 0.48, 0.07])).all()  # a central crop stands for one that does not fit
    assert areas[:, 3].min() < 0.12


def test_a_view_of_another_size_is_one_resize():
    views = Views(generator(0, "views"), None, 1, (0, 0), False)
    images = torch.rand(2, 3, 10, 10)
    for size, antialias in ((20, False), (5, True)):
        expected = functional.resize(images, [size, size], antialias=antialias)
        torch.testing.assert_close(views(images, 0, size), expected, rtol=0, atol=1e-5)

"""Differentiable Siamese augmentation against loops, scipy and the table of its repository."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.views.dsa import DSA_UNIFORMS, Strategy, apply, draw, parameters

ALL = Strategy().ops
COUNT = 9


def images(channels=3, size=16, count=COUNT, dtype=torch.float64):
    return torch.from_numpy(
        generator(0, "dsa", channels, size, count).standard_normal((count, channels, size, size))
    ).to(dtype)


def uniforms(count=COUNT):
    return generator(0, "uniforms", count).random((count, DSA_UNIFORMS))


def drawn(op, size=16, count=COUNT):
    return op, parameters(op, uniforms(count), size)


def test_color_follows_the_table():
    batch, u = images(), uniforms()
    result = apply(batch, "color", parameters("color", u, 16)).numpy()
    for x, y, (u1, u2, u3) in zip(batch.numpy(), result, u, strict=True):
        x = x + (u1 - 0.5) * 1.0
        x = (x - x.mean(0)) * (2 * u2) + x.mean(0)
        x = (x - x.mean()) * (u3 + 0.5) + x.mean()
        np.testing.assert_allclose(y, x, atol=1e-12)


def test_saturation_is_the_identity_on_one_channel():
    batch = images(1, dtype=torch.float32)
    params = np.stack([np.zeros(COUNT), 2 * uniforms()[:, 1], np.ones(COUNT)], 1)
    torch.testing.assert_close(apply(batch, "color", params), batch, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("size", "most"), [(28, 4), (32, 4), (64, 8)])
def test_crop_shifts_by_whole_pixels_and_fills_with_zero(size, most):
    u = generator(0, "shifts").random((3000, DSA_UNIFORMS))
    shifts = parameters("crop", u, size)
    for axis in range(2):
        numbers, counts = np.unique(shifts[:, axis], return_counts=True)
        np.testing.assert_array_equal(numbers, np.arange(-most, most + 1))
        assert counts.min() > 0.6 * 3000 / len(numbers)
    batch = images(2, size)
    result = apply(batch, "crop", shifts[:COUNT]).numpy()
    for x, y, (dy, dx) in zip(batch.numpy(), result, shifts.astype(int), strict=False):
        for i in range(size):
            for j in range(size):
                inside = 0 <= i + dy < size and 0 <= j + dx < size
                np.testing.assert_array_equal(y[:, i, j], x[:, i + dy, j + dx] if inside else 0)


@pytest.mark.parametrize(("size", "side", "centres"), [(28, 14, 29), (32, 16, 33), (10, 5, 10), (64, 32, 65)])
def test_cutout_clips_its_box_at_the_border(size, side, centres):
    u = np.zeros((centres, DSA_UNIFORMS))
    u[:, 0] = (np.arange(centres) + 0.5) / centres
    u[:, 1] = 1 - 1e-9
    boxes = parameters("cutout", u, size)
    ones = torch.ones(centres, 1, size, size)
    result = apply(ones, "cutout", boxes).numpy()[:, 0]
    for centre in range(centres):
        expected = np.ones((size, size))
        rows = np.clip(np.arange(side) + centre - side // 2, 0, size - 1)
        columns = np.clip(np.arange(side) + centres - 1 - side // 2, 0, size - 1)
        expected[np.ix_(rows, columns)] = 0
        np.testing.assert_array_equal(result[centre], expected)


def test_flip_below_one_half():
    batch, u = images(), uniforms()
    result = apply(batch, "flip", parameters("flip", u, 16))
    for i in range(COUNT):
        assert torch.equal(result[i], batch[i].flip(-1) if u[i, 0] < 0.5 else batch[i])
    assert 0 < (u[:, 0] < 0.5).sum() < COUNT


def sampled(image, matrix):
    """Sample at matrix (x, y), coordinates of pixel centres in [-1, 1], zero outside, with scipy."""
    size = image.shape[-1]
    y, x = np.mgrid[:size, :size] * 2 / size + 1 / size - 1
    places = np.einsum("ij,jhw->ihw", matrix, np.stack([x, y]))
    column, row = ((places + 1) * size - 1) / 2
    return np.stack([ndimage.map_coordinates(layer, [row, column], order=1, mode="grid-constant") for layer in image])


def matrices(op, params):
    if op == "scale":
        return [np.diag(row) for row in params]
    return [np.array([[np.cos(a), np.sin(-a)], [np.sin(a), np.cos(a)]]) for a in params[:, 0]]


@pytest.mark.parametrize("op", ["scale", "rotate"])
@pytest.mark.parametrize("size", [15, 16])
def test_scale_and_rotate_equal_scipy_and_the_affine_grid(op, size):
    """To 1e-9 of scipy in float64, to 1e-5 of the repository's affine grid in float32."""
    batch, (_, params) = images(size=size), drawn(op, size)
    result = apply(batch, op, params)
    theta = matrices(op, params)
    expected = np.stack([sampled(image, matrix) for image, matrix in zip(batch.numpy(), theta, strict=True)])
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-9)
    wide = torch.tensor(np.concatenate([theta, np.zeros((COUNT, 2, 1))], 2), dtype=torch.float32)
    grid = functional.affine_grid(wide, list(batch.shape), align_corners=False)
    theirs = functional.grid_sample(batch.float(), grid, align_corners=False)
    torch.testing.assert_close(apply(batch.float(), op, params), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [28, 32, 64])
def test_scale_one_and_rotate_zero_are_the_identity(size):
    batch = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    for op, params in (("scale", np.ones((2, 2))), ("rotate", np.zeros((2, 1)))):
        torch.testing.assert_close(apply(batch, op, params), batch, atol=1e-6, rtol=0)


def test_positive_angles_turn_anticlockwise():
    batch = images(size=8)
    turned = apply(batch, "rotate", np.full((1, 1), np.pi / 2))
    torch.testing.assert_close(turned, batch.rot90(1, (2, 3)), atol=1e-9, rtol=0)


def test_ranges_of_scale_and_rotate():
    u = generator(0, "ranges").random((5000, DSA_UNIFORMS))
    scale, angle = parameters("scale", u, 32), np.rad2deg(parameters("rotate", u, 32))
    assert scale.min() >= 1 / 1.2 and scale.max() < 1.2
    assert angle.min() >= -15 and angle.max() < 15
    np.testing.assert_allclose(scale.mean(0), (1.2 + 1 / 1.2) / 2, atol=0.01)
    assert abs(np.corrcoef(scale.T)[0, 1]) < 0.05
    assert abs(angle.mean()) < 0.5 and angle.std() > 8


@pytest.mark.parametrize("op", [*ALL, "none"])
def test_one_operation_on_two_batches_is_that_on_both_together(op):
    real, synthetic = images(count=7), images(count=3)
    strategy = Strategy(op)
    name, each = draw(strategy, 0.0, uniforms(10), 16)
    shared = each[:1]
    assert name == op and len(each) == 10
    together = apply(torch.cat([real, synthetic]), op, shared)
    assert torch.equal(together, torch.cat([apply(real, op, shared), apply(synthetic, op, shared)]))
    both = apply(torch.cat([real, synthetic]), op, each)
    assert torch.equal(both, torch.cat([apply(real, op, each[:7]), apply(synthetic, op, each[7:])]))


@pytest.mark.parametrize("op", ALL)
def test_gradients_are_exact(op):
    batch = images(2, 6, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: apply(x, *drawn(op, 6, 3)), (batch,))


@pytest.mark.parametrize("op", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_is_kept(op, dtype):
    assert apply(images(dtype=dtype), *drawn(op)).dtype == dtype


def test_each_operation_is_equally_likely():
    strategy = Strategy("color_crop_cutout_scale_rotate")
    assert strategy.ops == ("color", "crop", "cutout", "scale", "rotate")
    ops = [draw(strategy, u, uniforms(), 16)[0] for u in (np.arange(500) + 0.5) / 500]
    assert [ops.count(op) for op in strategy.ops] == [100] * 5


def test_no_augmentation():
    batch = images()
    assert torch.equal(apply(batch, *draw(Strategy("None"), 0.3, uniforms(), 16)), batch)


def test_unknown_operations_are_refused_with_the_nearest():
    with pytest.raises(UsageError, match="Did you mean cutout"):
        Strategy("color_cutut_flip")
    with pytest.raises(UsageError, match="Unknown operation ''"):
        Strategy("")
    with pytest.raises(TypeError, match="uint8"):
        apply(images().byte(), *drawn("flip"))

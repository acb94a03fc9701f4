"""Colour jitter and lighting against step-by-step loops."""

from itertools import permutations

import numpy as np
import pytest
import torch

from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.views.colour import JITTER_UNIFORMS, jitter, jitter_weights, lighting


def images(channels: int, count: int = 24) -> torch.Tensor:
    return torch.from_numpy(generator(0, "images", channels).random((count, channels, 9, 7)))


def grey_of(image):
    return 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2] if len(image) == 3 else image[0]


def jittered(image, u, strength):
    """One image, one step after another."""
    shares = {name: (2 * number - 1) * strength for name, number in zip("bcs", u, strict=False)}
    for name in list(permutations("bcs"))[int(6 * u[3])]:
        if name == "b":
            target = np.zeros_like(image)
        elif name == "c":
            target = np.full_like(image, grey_of(image).mean())
        else:
            target = np.broadcast_to(grey_of(image), image.shape)
        image = image + shares[name] * (target - image)
    return image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_jitter_equals_its_steps(channels, dtype, tolerance):
    batch, u = images(channels), generator(0, "jitter").random((24, JITTER_UNIFORMS))
    assert len({int(6 * row[3]) for row in u}) == 6  # every order occurs
    expected = np.stack([jittered(image, row, 0.4) for image, row in zip(batch.numpy(), u, strict=True)])
    result = jitter(batch.to(dtype), u, 0.4)
    assert result.dtype == dtype
    np.testing.assert_allclose(result.numpy(), expected, atol=tolerance)
    assert expected.min() < 0 or expected.max() > 1  # nothing is clamped


def test_jitter_without_strength_or_at_the_middle_changes_nothing():
    batch, u = images(3), generator(0, "jitter").random((24, JITTER_UNIFORMS))
    np.testing.assert_allclose(jitter(batch, u, 0.0).numpy(), batch.numpy(), atol=1e-15)
    u[:, :3] = 0.5
    np.testing.assert_allclose(jitter(batch, u, 0.4).numpy(), batch.numpy(), atol=1e-15)


def test_saturation_leaves_one_channel_alone():
    batch, u = images(1), np.full((24, JITTER_UNIFORMS), 0.5)
    u[:, 2] = generator(0, "saturation").random(24)
    np.testing.assert_allclose(jitter(batch, u, 0.4).numpy(), batch.numpy(), atol=1e-15)


def test_weights_can_be_drawn_for_an_epoch():
    u = generator(0, "epoch").random((5, 8, JITTER_UNIFORMS))
    weights = jitter_weights(u, 0.3)
    assert weights.shape == (5, 8, 3)
    np.testing.assert_array_equal(weights[2], jitter_weights(u[2], 0.3))


def test_lighting_adds_the_principal_components():
    batch, normals = images(3), generator(0, "lighting").standard_normal((24, 3))
    values = [0.2175, 0.0188, 0.0045]
    vectors = [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    result = lighting(batch, normals, std=0.1).numpy()
    for i in range(24):
        for channel in range(3):
            shift = sum(vectors[channel][k] * values[k] * 0.1 * normals[i, k] for k in range(3))
            np.testing.assert_allclose(result[i, channel], batch[i, channel].numpy() + shift, atol=1e-12)


def test_wrong_images_are_refused():
    u, normals = np.full((24, JITTER_UNIFORMS), 0.1), np.zeros((24, 3))
    with pytest.raises(UsageError, match="3 channels, and these have 1"):
        lighting(images(1), normals)
    with pytest.raises(UsageError, match="1 or 3 channels"):
        jitter(images(2), u)
    with pytest.raises(UsageError, match="strength"):
        jitter(images(3), u, 1.5)
    with pytest.raises(TypeError, match="uint8"):
        jitter((images(3) * 255).byte(), u)
    with pytest.raises(TypeError, match="uint8"):
        lighting((images(3) * 255).byte(), normals)

"""Normalisation against torchvision's transforms."""

import numpy as np
import pytest
import torch
from torchvision.transforms import Compose, Normalize, ToTensor

from ddlight.core.randomness import generator
from ddlight.views.normalise import denormalise, normalise

STATISTICS = {1: ((0.2861,), (0.3530,)), 3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}


def pixels(channels):
    return torch.from_numpy(generator(0, "pixels", channels).integers(0, 256, (5, channels, 12, 10), dtype=np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("given", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("as_float", [False, True])
def test_equals_torchvision(channels, given, as_float):
    """To 2e-6 in float32, from either memory format."""
    images, (mean, std) = pixels(channels), STATISTICS[channels]
    theirs = Compose([ToTensor(), Normalize(mean, std)])
    expected = torch.stack([theirs(image.permute(1, 2, 0).numpy()) for image in images])
    source = images.float() / 255 if as_float else images
    source = source.contiguous(memory_format=given)
    before = source.clone()
    result = normalise(source, mean, std)
    assert result.dtype == torch.float32
    assert result.is_contiguous()
    torch.testing.assert_close(result, expected, atol=2e-6, rtol=0)
    assert torch.equal(source, before)
    assert result.data_ptr() != source.data_ptr()


@pytest.mark.parametrize("cached", [1, 800, 10**9])
def test_one_thread_works_in_parts_and_gives_the_bits_of_several(monkeypatch, cached):
    monkeypatch.setitem(normalise.__globals__, "CACHED", cached)
    images, found, threads = pixels(3), [], torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(normalise(images, *STATISTICS[3]))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)
    assert normalise(images[:0], *STATISTICS[3]).shape == (0, 3, 12, 10)


def test_slices_of_a_store_and_other_dtypes():
    images, (mean, std) = pixels(3), STATISTICS[3]
    expected = normalise(images, mean, std)
    torch.testing.assert_close(normalise(images[1::2, :, 2:9, 3:], mean, std), expected[1::2, :, 2:9, 3:])
    assert normalise((images.double() / 255), mean, std).dtype == torch.float64
    assert normalise((images / 255).bfloat16(), mean, std).dtype == torch.bfloat16


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_denormalise_is_the_inverse(memory_format):
    images, (mean, std) = pixels(3), STATISTICS[3]
    there = normalise(images, mean, std).contiguous(memory_format=memory_format)
    back = denormalise(there, mean, std)
    assert back.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(back, images / 255, atol=1e-6, rtol=0)


def test_gradients_are_one_over_std():
    images = (pixels(3).float() / 255).requires_grad_()
    normalise(images, *STATISTICS[3]).sum().backward()
    expected = 1 / torch.tensor(STATISTICS[3][1]).view(3, 1, 1).expand_as(images)
    torch.testing.assert_close(images.grad, expected)


def test_statistics_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="zip"):
        normalise(pixels(3), (0.5, 0.5, 0.5), (0.5,))

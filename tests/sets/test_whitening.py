"""A dataset's whitening on disk: fitted once, to all training images, checked when it is read."""

import numpy as np
import pytest
import torch

from ddlight.core.errors import DataError, UsageError
from ddlight.data import Digits
from ddlight.sets import whitening as module
from ddlight.sets.whitening import dataset_whitening


def test_it_is_fitted_to_the_training_images_once(tmp_path, monkeypatch):
    digits = Digits(size=8)
    first = dataset_whitening(digits, "zca", tmp_path)
    rows = digits.split("train").images.reshape(-1, 64) / 255
    values, vectors = np.linalg.eigh(np.cov(rows, rowvar=False))
    np.testing.assert_allclose(first.mean, rows.mean(0), atol=1e-6)
    np.testing.assert_allclose(first.forward, vectors / np.sqrt(values + 0.1) @ vectors.T, atol=1e-5)
    monkeypatch.setattr(module, "fit_whitening", None)
    again = dataset_whitening(Digits(size=8), "zca", tmp_path)
    assert torch.equal(first.forward, again.forward) and torch.equal(first.back, again.back)
    for other in ((digits, "zca_kip"), (Digits(size=16), "zca")):
        with pytest.raises(TypeError):  # another recipe or size is another whitening
            dataset_whitening(*other, tmp_path)


def test_images_that_are_held_out_of_training_count(tmp_path):
    """The makers of a set saw them, so the whitening must not depend on what this run holds out."""
    whole, part = (dataset_whitening(Digits(size=8, held_out=n), "zca", tmp_path) for n in (0, 30))
    torch.testing.assert_close(whole.forward, part.forward, rtol=0, atol=2e-5)
    torch.testing.assert_close(whole.mean, part.mean, rtol=0, atol=1e-6)


def test_a_damaged_file_is_refused(tmp_path):
    dataset_whitening(Digits(size=8), "zca_kip", tmp_path)
    file = next(tmp_path.rglob("whitening.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"whitening .* is not what was sealed"):
        dataset_whitening(Digits(size=8), "zca_kip", tmp_path)


def test_large_images_are_refused(tmp_path):
    with pytest.raises(UsageError, match="Digits at 128 pixels needs a covariance of 16,384 x 16,384"):
        dataset_whitening(Digits(size=128), "zca", tmp_path)


@pytest.mark.fashion
def test_held_out_images_from_elsewhere_do_not_count(tmp_path):
    """FashionMNIST5k holds out images that its training split never had."""
    from ddlight.data import FashionMNIST5k

    assert sum(map(len, module._batches(FashionMNIST5k(held_out=100)))) == 5000

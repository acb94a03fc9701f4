"""What all generative methods share: noise by name, batches that are kept, latents of the full data."""

import numpy as np
import pytest
import torch
from PIL import Image

from ddlight.core.errors import DataError, UsageError
from ddlight.data import Digits
from ddlight.methods.generative.dit import DiT
from ddlight.methods.generative.engine.latents import Latents, fitted, squared


class Reversed(Digits):
    """The digits, their classes in another order."""

    def _read(self, name):
        splits = super()._read(name)
        return {key: type(s)(s.images, 9 - s.labels, s.ids) for key, s in splits.items()}

    @property
    def info(self):
        from dataclasses import replace

        return replace(super().info, classes=super().info.classes[::-1])


def test_noise_belongs_to_the_class_and_the_image_whatever_else_is_drawn(build):
    one, other = build(DiT, ipc=5), build(DiT, ipc=2, dataset=Reversed(size=8), prepare=False)
    other.model = one.model
    torch.testing.assert_close(one.noise(3, [1, 4])(2)[0], other.noise(6, [1])(2)[0], rtol=0, atol=0)
    assert not torch.equal(one.noise(3, [1])(2), one.noise(4, [1])(2))
    assert not torch.equal(one.noise(3, [1])(2), one.noise(3, [1])(3))


def test_a_smaller_set_is_a_prefix_of_a_larger_one(build):
    small, large = build(DiT, ipc=2), build(DiT, ipc=4)
    np.testing.assert_array_equal(small.make(small.units()[1]).images, large.make(large.units()[1]).images[:2])


def test_a_kill_loses_one_batch(build, monkeypatch):
    data, unit = build(DiT, ipc=6), build(DiT, ipc=6).units()[2]
    whole = data.make(unit)
    drawn, draw = [], DiT.draw

    def stopping(self, label, images):
        if drawn == [[0, 1], [2, 3]]:
            drawn.append("stop")
            raise KeyboardInterrupt
        drawn.append(list(images))
        return draw(self, label, images)

    monkeypatch.setattr(DiT, "draw", stopping)
    data._progress_file(unit).unlink()
    with pytest.raises(KeyboardInterrupt):
        data.make(unit)
    np.testing.assert_array_equal(build(DiT, ipc=6).make(unit).images, whole.images)
    assert drawn[3:] == [[4, 5]]


def test_images_of_one_colour_are_refused(build):
    data = build(DiT)
    data.draw = lambda label, images: torch.full((len(images), 1, 8, 8), -5.0)
    with pytest.raises(DataError, match="image 0 has one colour"):
        data.make(data.units()[0])


def test_steps_and_batch_are_at_least_one():
    with pytest.raises(UsageError, match="steps=0"):
        DiT(Digits(size=8), steps=0)


def test_latents_are_those_of_the_classes_images_made_once(build):
    data = build(DiT)
    kept = Latents(data.described, data.dataset, data.place)
    kept.ensure()
    split = data.dataset.split("train")
    own = split.images[split.labels == 7].reshape(-1, 64) / 127.5 - 1
    np.testing.assert_allclose(kept.points(7), own, atol=1e-3)
    other = Latents(data.described, data.dataset, data.place, flip=True)
    assert other.folder != kept.folder
    other.ensure()
    mirrored = own.reshape(-1, 8, 8)[..., ::-1].reshape(-1, 64)
    is_mirrored = np.isclose(other.points(7), mirrored, atol=1e-3).all(1)
    assert (is_mirrored | np.isclose(other.points(7), own, atol=1e-3).all(1)).all()
    assert 0.3 < is_mirrored.mean() < 0.7


def test_a_draw_of_the_posterior_has_its_mean_and_deviation(build):
    data = build(DiT)
    model = data.model
    model.encode = lambda images: (torch.zeros_like(images), torch.full_like(images, 2.0))
    kept = Latents(data.described, data.dataset, data.place, sampled=True)
    kept._model = model
    kept.ensure()
    assert kept.points(0).std() == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize(("crop", "left", "middle"), [("adm", 120, 120), ("centre", 120, 120), ("squash", 0, 120)])
def test_pictures_become_square(crop, left, middle):
    columns = np.repeat(np.r_[np.zeros(60), np.full(80, 120), np.full(60, 240)][None], 80, 0).astype(np.uint8)
    picture = Image.fromarray(np.repeat(columns[..., None], 3, 2))  # 200 wide, 80 high: its middle is grey
    square = squared(picture, 20, crop)
    assert square.shape == (3, 20, 20)
    assert square[:, :, 2].max() == pytest.approx(left, abs=2)
    assert square[:, :, 10].max() == pytest.approx(middle, abs=2)


def test_images_are_fitted_to_size_and_colour():
    grey = torch.rand(2, 1, 8, 8)
    assert torch.equal(fitted(grey, 8, 3), grey.repeat(1, 3, 1, 1))
    torch.testing.assert_close(fitted(grey.repeat(1, 3, 1, 1), 8, 1), grey)
    assert fitted(grey, 4, 1).shape == (2, 1, 4, 4)

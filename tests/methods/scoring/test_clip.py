"""CLIP: open_clip's own view of images and texts, weights that are named, and what a user is told."""

import re
import sys

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from ddlight.core.errors import DataError, UsageError
from ddlight.methods.scoring import clip as module
from ddlight.methods.scoring.clip import Clip

TINY = Clip("tiny", "random")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def pictures(count, channels, size, seed=0):
    """Smooth pictures, uint8 (count, channels, size, size)."""
    coarse = np.random.default_rng(seed).random((count, channels, 4, 4), dtype=np.float32)
    fine = torch.nn.functional.interpolate(torch.from_numpy(coarse), (size, size), mode="bilinear")
    return (fine * 255).round().byte().numpy()


def by_open_clip(loaded, images):
    """Embeddings by open_clip's own transform of PIL images."""
    taken = loaded.taken
    view = open_clip.image_transform(taken.size, False, taken.mean, taken.std, interpolation="bicubic")
    pil = [Image.fromarray(i.transpose(1, 2, 0).squeeze()) for i in images]
    found = loaded.network.encode_image(torch.stack([view(i) for i in pil])).detach().numpy()
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_images_of_the_networks_size_are_seen_as_by_open_clip():
    loaded, images = TINY.load(), pictures(5, 3, 32)
    np.testing.assert_allclose(loaded.images(images), by_open_clip(loaded, images), atol=2e-6)


@pytest.mark.parametrize(("channels", "size"), [(1, 32), (1, 8), (3, 20), (3, 80)])
def test_grey_images_and_other_sizes_are_seen_as_by_open_clip(channels, size):
    loaded, images = TINY.load(), pictures(5, channels, size)
    found, wanted = loaded.images(images), by_open_clip(loaded, images)
    assert found.dtype == np.float32
    spread = np.abs(wanted - wanted.mean(0)).max()
    assert np.abs(found - wanted).max() < 0.06 * spread  # PIL rounds to whole grey levels


def test_texts_keep_their_order_beyond_one_batch(monkeypatch):
    loaded, texts = TINY.load(), ["a cat", "a dog", "a red ball", "stripes", "a cat"]
    found = loaded.network.encode_text(open_clip.SimpleTokenizer()(texts)).detach().numpy()
    wanted = found / np.linalg.norm(found, axis=1, keepdims=True)
    monkeypatch.setattr(module, "TEXTS_AT_ONCE", 2)
    np.testing.assert_allclose(loaded.texts(texts), wanted, atol=1e-6)
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-3


def test_random_weights_follow_the_seed_and_leave_torchs_generator_alone():
    images, state = pictures(3, 3, 32), torch.random.get_rng_state()
    first, again, other = (Clip("tiny", "random", seed).load().images(images) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    assert torch.equal(state, torch.random.get_rng_state())
    assert Clip("tiny", "random", 0).fingerprint() != Clip("tiny", "random", 1).fingerprint()


def test_weights_from_a_file_are_named_by_content(tmp_path):
    small, images = Clip("ViT-S-32-alt", "random", seed=3), pictures(2, 3, 16)
    loaded = small.load()
    torch.save(loaded.network.state_dict(), tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes((tmp_path / "a.pt").read_bytes())
    files = [Clip("ViT-S-32-alt", str(tmp_path / name)) for name in ("a.pt", "b.pt")]
    np.testing.assert_array_equal(files[0].load().images(images), loaded.images(images))
    assert files[0].fingerprint() == files[1].fingerprint()
    state = loaded.network.state_dict()
    torch.save({k: v + 1 if k == "logit_scale" else v for k, v in state.items()}, tmp_path / "b.pt")
    assert files[0].fingerprint() != files[1].fingerprint()
    torch.save({"nothing": torch.zeros(1)}, tmp_path / "b.pt")
    with pytest.raises(DataError, match=r"b\.pt does not fit open_clip's ViT-S-32-alt"):
        files[1].load()


@pytest.mark.parametrize(("tag", "quick"), [("openai", True), ("laion2b_s34b_b79k", False)])
def test_weights_that_cannot_be_had_say_from_where_and_keep_their_activation(monkeypatch, tag, quick):
    asked = {}

    def offline(name, **options):
        asked.update(options)
        raise RuntimeError("no route to host")

    monkeypatch.setattr(open_clip, "create_model", offline)
    with pytest.raises(DataError, match="could not be had: no route to host") as error:
        Clip("ViT-B-32", tag).load()
    assert asked["force_quick_gelu"] is quick
    assert ("--data.clip.model=ViT-B-32-quickgelu" in str(error.value)) is quick
    assert re.search(
        r"hf download (timm|laion)/\S+\nand copy .*or name a file: .* --data.clip.pretrained=FILE", str(error.value)
    )


@pytest.mark.parametrize(
    ("clip", "said"),
    [
        (Clip("ViT-B-33"), "no model 'ViT-B-33'. Did you mean ViT-B-32"),
        (Clip("ViT-B-32", "opnai"), "no weights 'opnai', and there is no such file. Did you mean openai"),
        (Clip("tiny"), "--data.clip.pretrained=random"),
    ],
)
def test_names_that_do_not_exist_get_the_nearest(clip, said):
    with pytest.raises(UsageError) as error:
        clip.load()
    assert said in str(error.value)


def test_null_is_no_name_of_weights():
    with pytest.raises(UsageError, match=r"clip\.pretrained is null.*pretrained: random is no weights"):
        Clip(pretrained=None)


def test_without_open_clip_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(UsageError, match=r"pip install 'ddlight\[clip\]'"):
        TINY.load()


def test_operations_of_an_image_are_those_of_the_image_tower():
    tokens, width, patch = 17, 32, 8
    block = 2 * tokens * (4 * width**2 + 2 * 4 * width**2) + 2 * 2 * tokens**2 * width
    embed = 2 * 16 * width * 3 * patch**2 + 2 * width * 32
    assert TINY.load().flops == pytest.approx(block + embed, rel=0.1)

"""PCA: the easiest images of each class, whole, in mosaics."""

import numpy as np
import pytest
from PIL import Image

from ddlight.core import artefact
from ddlight.core.artefact import Unit
from ddlight.core.errors import UsageError
from ddlight.data import Digits
from ddlight.data.folder import ImageFolder
from ddlight.methods.patches.pca import PCA
from ddlight.methods.scores.el2n import EL2N
from ddlight.methods.scoring.run import Scoring
from ddlight.networks.students import ConvNet
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.sets import store

SCORING = Scoring(
    ConvNet(2, 4), recipe=Override(batch=64, dsa="", crop_scale=(1, 1)), budget=Budget(steps=20), ring=2, clean=3
)


@pytest.fixture
def build(home):
    def make(dataset=None, **options):
        return PCA(
            dataset or Digits(size=16), cache=str(home / "cache"), **{"ipc": 3, "factor": 2, **options}, scoring=SCORING
        )

    return make


def pil(image, side):
    """PIL's antialiased bilinear resize of a grey image (1, h, w)."""
    return np.asarray(Image.fromarray(image[0]).resize((side, side), Image.Resampling.BILINEAR)).astype(int)


@pytest.mark.parametrize("keep", ["easy", "hard"])
def test_mosaics_hold_the_images_of_lowest_el2n_whole(build, home, keep):
    data = build(keep=keep)
    data.condense()
    split = data.dataset.split("train")
    el2n = data.pruner.run.table()["clean.el2n"]
    reading = data.pruner.difficulty(data.pruner.table)
    assert any(np.array_equal(reading, row) for row in el2n)  # one of the clean passes
    made = store.load(data.folder)
    for label in (0, 7):
        rows = np.flatnonzero(split.labels == label)
        ranked = rows[np.argsort(reading[rows] if keep == "easy" else -reading[rows])][:12]
        for rank, row in enumerate(ranked.tolist()):
            mosaic, place = made.images[3 * label + rank % 3, 0], rank // 3
            tile = mosaic[8 * (place // 2) :, 8 * (place % 2) :][:8, :8].astype(int)
            assert np.abs(tile - pil(split.images[row], 8)).max() <= 1
    assert (made.labels == np.repeat(np.arange(10), 3)).all()


def test_images_and_order_come_from_the_seeds_draw_where_shuffled(build):
    plain, shuffled = build(), build(stitch_order="shuffled")
    plain.prepare()

    def tiles(data):
        return [
            m[0, y : y + 8, x : x + 8].tobytes()
            for m in data.make(Unit(3, (3,))).images
            for y in (0, 8)
            for x in (0, 8)
        ]

    assert sorted(tiles(plain)) == sorted(tiles(shuffled))
    assert tiles(plain) != tiles(shuffled) and tiles(shuffled) == tiles(build(stitch_order="shuffled"))


@pytest.mark.parametrize("square", ["squash", "crop"])
def test_pictures_are_squashed_or_cut_square(build, pictures, square):
    dataset = ImageFolder(str(pictures), size=16)
    data = build(dataset, square=square)
    rows = np.array([3, 20, 11])
    tiles = data.tiles(rows).numpy().astype(int)
    for tile, row in zip(tiles, rows.tolist(), strict=True):
        with Image.open(dataset.encoded("train")[row]) as image:
            if square == "squash":
                expected = image.resize((8, 8), Image.Resampling.BILINEAR)
            else:
                whole = Image.fromarray(dataset.split("train").images[row].transpose(1, 2, 0))
                expected = whole.resize((8, 8), Image.Resampling.BILINEAR)
        assert np.abs(tile - np.asarray(expected).transpose(2, 0, 1)).max() <= 1


def test_it_shares_the_scoring_run_of_el2n_and_counts_four_sources_an_image(build, home):
    data = build()
    manifest = artefact.verify(data.condense())
    other = EL2N(Digits(size=16), 3, cache=str(home / "cache"), scoring=SCORING)
    assert manifest["scoring"] == [other.run.fingerprint]
    assert (manifest["source_images"], manifest["images"], manifest["tile_factor"]) == (120, 30, 2)
    assert manifest["flops_scoring"] > 0 and "flops_synthesis" not in manifest
    assert data.estimate_seconds() == 0
    assert PCA(Digits(size=224)).tile_factor == 2 and PCA(Digits(size=32)).tile_factor == 1


def test_mosaics_that_cannot_be_filled_are_refused_before_anything_is_trained(build, home):
    with pytest.raises(UsageError, match=r"takes 200 different images of each class.*--data\.ipc=\d+ or less"):
        build(ipc=50).condense()
    assert not list((home / "cache").rglob("scoring"))

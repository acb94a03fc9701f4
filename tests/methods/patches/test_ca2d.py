"""CA2D: RDED over CAD-Prune's pool, and what its options change."""

from itertools import chain, permutations

import numpy as np
import pytest

from ddlight.core import artefact
from ddlight.core.artefact import Unit
from ddlight.core.errors import UsageError
from ddlight.data import Digits
from ddlight.methods.patches.ca2d import CA2D, diverse
from ddlight.methods.patches.rded import RDED
from ddlight.methods.scores.cad_prune import CADPrune
from ddlight.methods.scoring.run import Scoring
from ddlight.networks.students import ConvNet
from ddlight.recipes.budget import Budget
from ddlight.sets import store

UNIT = Unit(3, (3,))
SCORING = {"scoring": Scoring(ConvNet(2, 4), protocol="ht_small_hard", ring=2), "budget": Budget(full_epochs=2)}


@pytest.fixture
def build(home, patch_teacher):
    """A method on 16-pixel digits: build(CA2D, ...)."""

    def make(kind=CA2D, **options):
        own = {} if kind is RDED else {**SCORING, "j": 2, "w": 2}
        judge = {} if kind is CADPrune else {"teacher": patch_teacher()[0], "factor": options.pop("factor", 2)}
        return kind(Digits(size=16), cache=str(home / "cache"), **{"ipc": 3, **own, **judge, **options})

    return make


def class_rows(data, label=3):
    return np.flatnonzero(data.dataset.split("train").labels == label)


def images_of(data):
    data.condense()
    return store.load(data.folder).images


def test_the_pool_is_what_cad_prune_selects(build):
    data, coreset = build(pool_size=30, seed=4), build(CADPrune, ipc=30, seed=4)
    coreset.prepare()
    data.prepare()
    pool = data.pool(UNIT, class_rows(data))
    assert pool.tolist() == data.pruner.sample(class_rows(data), 30, np.random.default_rng(0)).tolist()
    cad = data.pruner.scores[class_rows(data)]
    assert sorted(pool) == sorted(class_rows(data)[np.argsort(-cad)[:30]])
    assert (np.diff(data.pruner.scores[pool]) <= 0).all()
    assert data.pruner.student_images == pytest.approx(2 * 1438, rel=0.1)


def test_with_the_whole_class_for_a_pool_it_is_rded(build):
    """What CAD-Prune says does not matter then: the same patches, the same mosaics."""
    assert np.array_equal(images_of(build(pool_size=10_000)), images_of(build(RDED, pool_size=10_000)))
    assert not np.array_equal(images_of(build(pool_size=30)), images_of(build(RDED, pool_size=30)))


def test_a_small_pool_is_the_best_patch_of_every_image(build):
    """With as many images as patches, only the order differs between the two scores."""
    sets = [build(pool_size="exact", patch_score=score) for score in ("ce_true", "cad_rank")]
    for data in sets:
        data.prepare()
    by_loss, by_cad = (data.make(UNIT).images for data in sets)
    tiles = [{t.tobytes() for m in made for t in four(m[0])} for made in (by_loss, by_cad)]
    assert tiles[0] == tiles[1] and len(tiles[0]) == 12
    assert not np.array_equal(by_loss, by_cad)
    assert sorted(sets[0].pool(UNIT, class_rows(sets[0]))) == sorted(sets[1].pool(UNIT, class_rows(sets[1])))


def four(image):
    """Tiles of a mosaic of 16 pixels, row by row."""
    return [image[y : y + 8, x : x + 8] for y in (0, 8) for x in (0, 8)]


def test_cad_rank_puts_the_patches_in_the_order_of_the_pool(build):
    data = build(pool_size=25, patch_score="cad_rank")
    data.prepare()
    rows = class_rows(data)
    pool = data.pool(UNIT, rows)
    best = data.best_crops(UNIT, rows, np.sort(pool))
    assert pool.tolist() != sorted(pool)
    place = {row: k for k, row in enumerate(best.rows.tolist())}
    made = data.make(UNIT).images
    for rank, row in enumerate(pool[:12].tolist()):
        np.testing.assert_array_equal(four(made[rank % 3, 0])[rank // 3], best.images[place[row], 0])


def test_shuffled_and_diverse_keep_the_patches_and_move_them(build):
    def tiles(order, seed=0):
        data = build(pool_size=30, stitch_order=order, seed=seed)
        data.prepare()
        return [[t.tobytes() for t in four(m[0])] for m in data.make(UNIT).images]

    ranked, shuffled, spread = tiles("rded"), tiles("shuffled"), tiles("diverse")
    for moved in (shuffled, spread):
        assert sorted(chain(*moved)) == sorted(chain(*ranked))
        assert moved != ranked
    assert tiles("shuffled") == shuffled
    for place in range(4):  # of each rank one patch in each mosaic, and the first ones where they were
        assert {m[place] for m in spread} == {m[place] for m in ranked}
    assert [m[0] for m in spread] == [m[0] for m in ranked]


def test_diverse_gives_every_mosaic_the_patch_it_resembles_least():
    rng = np.random.default_rng(2)
    features = rng.standard_normal((12, 5))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    held = [[k] for k in range(4)]
    for block in (range(4, 8), range(8, 12)):
        best = min(permutations(block), key=lambda p: sum(unit[i] @ unit[held[m]].sum(0) for m, i in enumerate(p)))
        for mosaic, patch in zip(held, best, strict=True):
            mosaic.append(patch)
    expected = [mosaic[k] for k in range(3) for mosaic in held]
    assert diverse(features, 4).tolist() == expected


def test_it_counts_the_scoring_run_and_the_teacher(build):
    data = build(pool_size=30)
    manifest = artefact.verify(data.condense())
    assert manifest["scoring"] == [data.pruner.run.fingerprint]
    assert manifest["cad"]["J"] == 2 and manifest["cad"]["student_images"] == data.pruner.student_images
    assert manifest["flops_scoring"] > 0
    assert manifest["flops_synthesis"] == pytest.approx(10 * 30 * 5 * data.teacher.flops)
    assert (manifest["source_images"], manifest["tile_factor"]) == (120, 2)
    assert data.scoring_runs == [data.pruner.run]


def test_what_cad_prune_takes_is_passed_on_and_shapes_the_set(build):
    given = {"score": "prob_true", "k_mode": "exact", "j_mode": "span", "exclude_top": 0.1, "include_last_epoch": True}
    data = build(**given, k=7)
    assert {name: getattr(data.pruner, name) for name in given} == given
    assert (data.pruner.k, data.pruner.j, data.pruner.w, data.pruner.ipc) == (7, 2, 2, 3)
    names = {build(**{name: value}).fingerprint for name, value in given.items()}
    assert len(names) == 5 and build().fingerprint not in names


def test_it_needs_a_teacher_before_anything_is_trained(home, build):
    data = build()
    data.teacher = None
    with pytest.raises(UsageError, match="CA2D needs a teacher"):
        data.condense()
    with pytest.raises(UsageError, match="k_mode: fixed needs k"):
        build(k_mode="fixed").prepare()
    with pytest.raises(UsageError, match="pool_size 11 takes 11"):
        build(pool_size=11).condense()
    assert not list((home / "cache").rglob("scoring"))

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.data import Digits
from ddlight.data.base import draw_held_out, draw_per_class
from ddlight.data.table import TABLE


def test_pixels_labels_and_ids_are_those_of_scikit_learn():
    data, original = Digits(), load_digits()
    for part in ("train", "test"):
        split = data.split(part)
        rows = [int(i.split("/")[1]) for i in split.ids]
        assert all(i.startswith(f"{part}/") and len(i) == len(part) + 6 for i in split.ids)
        np.testing.assert_array_equal(split.labels, original.target[rows])
        shrunk = split.images.reshape(len(split), 8, 4, 8, 4)
        assert (shrunk == shrunk[:, :, :1, :, :1]).all()  # every pixel became a square
        np.testing.assert_allclose(shrunk[:, :, 0, :, 0], original.images[rows] * 255 / 16, atol=0.5)


def test_splits_are_typed_stratified_disjoint_and_complete():
    data = Digits(held_out=20)
    train, held, test = (data.split(name) for name in ("train", "held_out", "test"))
    for split in (train, held, test):
        assert split.images.dtype == np.uint8 and split.images.shape[1:] == (1, 32, 32)
        assert split.images.flags.c_contiguous and split.labels.dtype == np.int64 and split.ids.dtype.kind == "U"
    rows = [int(i.split("/")[1]) for split in (train, held, test) for i in split.ids]
    assert sorted(rows) == list(range(1797))
    assert np.bincount(held.labels).tolist() == [20] * 10
    whole = np.bincount(load_digits().target)
    np.testing.assert_allclose(np.bincount(test.labels), whole * 0.2, atol=0.5)
    assert (len(train), len(held), len(test)) == (data.info.train, data.info.held_out, data.info.test)


def test_table_row_is_measured():
    train = Digits().split("train").images / 255
    assert train.mean() == pytest.approx(TABLE["Digits"].mean[0], abs=5e-4)
    assert train.std() == pytest.approx(TABLE["Digits"].std[0], abs=5e-4)
    assert Digits(size=16).split("train").images.std() / 255 == pytest.approx(train.std())


def test_size_is_a_multiple_of_eight():
    data = Digits(size=8)
    assert data.split("test").images.shape == (359, 1, 8, 8) and data.info.size == 8 and data.num_classes == 10
    for size in (28, 0, -8):
        with pytest.raises(UsageError, match=f"{size} was given"):
            Digits(size=size)


def test_same_draw_every_time_and_a_smaller_one_inside_a_larger_one():
    few, many = Digits(held_out=5).split("held_out"), Digits(held_out=50).split("held_out")
    assert set(few.ids) < set(many.ids)
    np.testing.assert_array_equal(few.ids, Digits(held_out=5).split("held_out").ids)


def test_the_draws_are_those_documented():
    target = load_digits().target
    test_rng, held_rng = generator(0, "test"), generator(0, "held_out")
    test: set[int] = set()
    held: set[int] = set()
    for digit in range(10):
        order = test_rng.permutation([i for i in range(1797) if target[i] == digit])
        test |= set(order[: round(len(order) / 5)].tolist())
    train = sorted(set(range(1797)) - test)
    for digit in range(10):
        held |= {train[i] for i in held_rng.permutation([j for j, i in enumerate(train) if target[i] == digit])[:7]}
    data = Digits(held_out=7)
    assert data.split("test").ids.tolist() == [f"test/{i:05d}" for i in sorted(test)]
    assert data.split("held_out").ids.tolist() == [f"train/{i:05d}" for i in sorted(held)]


def test_splits_are_cached_and_read_only():
    split = Digits().split("train")
    data = Digits()
    assert data.split("train") is data.split("train") and data.split("train") is not split
    for array in (split.images, split.labels, split.ids):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]


def test_nothing_held_out_is_an_empty_split():
    held = Digits().split("held_out")
    assert len(held) == 0 and held.images.shape == (0, 1, 32, 32) and held.ids.shape == (0,)


def test_holding_out_too_much_names_the_class_and_the_limit():
    with pytest.raises(UsageError, match=r"held_out: 200 .*class '8' has 139.*0 to 138"):
        Digits(held_out=200).split("train")
    assert len(Digits(held_out=138).split("train")) == 1438 - 1380
    with pytest.raises(UsageError, match="139"):
        Digits(held_out=139).split("held_out")
    with pytest.raises(UsageError, match="-1 was given"):
        Digits(held_out=-1)


def test_unknown_split_suggests_one():
    with pytest.raises(UsageError, match=r"train, held_out, test.*Did you mean train"):
        Digits().split("trian")


def test_identity_is_json_and_follows_the_options():
    ids = [json.dumps(d.identity()) for d in (Digits(), Digits(), Digits(size=8), Digits(held_out=1))]
    assert ids[0] == ids[1] and len(set(ids)) == 3


def test_take_copies_rows_in_order():
    test = Digits().split("test")
    some = test.take(np.array([5, 2]))
    assert some.ids.tolist() == [test.ids[5], test.ids[2]] and len(some) == 2
    np.testing.assert_array_equal(some.images[1], test.images[2])
    assert some.images.flags.writeable


def test_draws_count_each_class():
    labels = np.array([0, 1, 0, 1, 1, 2, 0])
    mask = draw_per_class(labels, [2, 0, 1], np.random.default_rng(0))
    assert np.bincount(labels[mask], minlength=3).tolist() == [2, 0, 1]
    assert draw_held_out(labels, 1, "abc", leave=0).sum() == 3
    with pytest.raises(UsageError, match="class 'c' has 1"):
        draw_held_out(labels, 1, "abc")

"""Flax checkpoints: read as flax writes them, and refused where they lie about themselves."""

import sys

import numpy as np
import pytest

from ddlight.core.errors import DataError, UsageError
from ddlight.sets.readers.kip_and_frepo import is_flax, read_flax

msgpack = pytest.importorskip("msgpack")
X = np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3)
Y = np.eye(2, dtype=np.float64) - 0.5


def array(values, shape=None, dtype=None, content=None, code=1):
    """An array as flax.serialization packs it."""
    packed = (shape or values.shape, dtype or values.dtype.name, values.tobytes() if content is None else content)
    return msgpack.ExtType(code, msgpack.packb(packed, use_bin_type=True))


def checkpoint(path, x, y, **more):
    """A TrainState as flax.training.checkpoints.save_checkpoint writes it."""
    moments = {"count": array(np.zeros((), np.int32)), "mu": {"x_proto": x, "y_proto": y}}
    state = {"step": 9, "params": {"x_proto": x, "y_proto": y}, "opt_state": {"0": moments, "1": {}}, "epoch": 1}
    path.write_bytes(msgpack.packb({**state, "best_val_acc": 0.5, "ema_hidden": None, **more}, use_bin_type=True))
    return path


NAMES = ("x_proto", "y_proto")


def test_parameters_come_back(tmp_path):
    path = checkpoint(tmp_path / "checkpoint_9", array(X), array(Y))
    assert is_flax(path)
    x, y = read_flax(path, NAMES)
    assert (x.dtype, y.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


LIES = {
    "larger": array(X, shape=(2**20, 2**20, 3, 3)),
    "smaller": array(X, shape=(2, 2, 2, 2)),
    "negative": array(X, shape=(-2, -2, 2, 3)),
    "empty": array(X, shape=(0, 2, 2, 3), content=b""),
    "objects": array(X, dtype="O"),
    "pickled": array(X, dtype="object"),
    "no dtype": array(X, dtype="float31"),
    "integers": array(X.astype(np.int64)),
    "other type": array(X, code=3),
    "a number": 3.0,
    "a map": {"__msgpack_chunked_array__": True},
    "no tuple": msgpack.ExtType(1, msgpack.packb(3)),
    "cut": msgpack.ExtType(1, array(X).data[:20]),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_array_that_is_not_what_it_says_is_refused(tmp_path, lie):
    path = checkpoint(tmp_path / "checkpoint_9", LIES[lie], array(Y))
    with pytest.raises(DataError, match="checkpoint_9: x_proto"):
        read_flax(path, NAMES)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    path = checkpoint(tmp_path / "checkpoint_9", array(X), array(Y))
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:100], whole + b"\x00", b"\x81\xa1a" + b"\x91" * 5000):
        path.write_bytes(content)
        with pytest.raises(DataError, match="is damaged or no flax checkpoint"):
            read_flax(path, NAMES)
    checkpoint(path, array(X), array(Y), params={"kernel": array(X)})
    with pytest.raises(DataError, match=r"parameters kernel; x_proto and y_proto are needed"):
        read_flax(path, NAMES)
    checkpoint(path, array(X), array(Y), params=[])
    with pytest.raises(DataError, match="parameters none"):
        read_flax(path, NAMES)


def test_other_files_are_told_apart(tmp_path):
    begins = {"png": b"\x89PNG", "pickle": b"\x80\x04\x95", "zip": b"PK\x03\x04", "text": b"# a", "one byte": b"\x81"}
    for name, content in {**begins, "empty": b""}.items():
        (tmp_path / name).write_bytes(content)
        assert not is_flax(tmp_path / name), name


def test_without_msgpack_the_extra_is_named(tmp_path, monkeypatch):
    path = checkpoint(tmp_path / "checkpoint_9", array(X), array(Y))
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(UsageError, match=r"ddlight\[flax\]"):
        read_flax(path, NAMES)

"""Files of torch.save: numbers of any kind are read, damage is found, and nothing runs."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from ddlight.core.errors import DataError
from ddlight.networks.torch_file import read_torch_file

KINDS = ("float64", "float32", "float16", "int64", "int32", "uint8", "bool")


@pytest.mark.parametrize("kind", KINDS)
def test_accuracies_that_are_numpy_scalars_are_read(tmp_path, kind):
    """As the DatasetCondensation code ends its files: lists of np.float64 below the names of networks."""
    number = np.dtype(kind).type(1)
    torch.save({"data": [torch.ones(2)], "accs_all_exps": {"ConvNet": [number]}}, tmp_path / "res.pt")
    found = read_torch_file(tmp_path / "res.pt")
    assert found["accs_all_exps"]["ConvNet"] == [1] and found["data"][0].tolist() == [1, 1]


class Touch:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_is_refused_in_one_plain_line_that_names_what_it_holds(tmp_path):
    torch.save([Touch(tmp_path / "ran")], tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    torch.save({"args": Path("x")}, tmp_path / "c.pt")
    for name, named in (("a", "getattr"), ("b", ""), ("c", "pathlib")):
        with pytest.raises(DataError, match=rf"{name}.pt holds more than tensors and numbers.*{named}") as caught:
            read_torch_file(tmp_path / f"{name}.pt")
        assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_every_flipped_bit_of_the_numbers_is_found(tmp_path):
    path, values = tmp_path / "images.pt", torch.arange(300, dtype=torch.float32)
    torch.save(values, path)
    whole = path.read_bytes()
    start = whole.index(values.numpy().tobytes())
    for place in range(start, start + 1200, 40):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(DataError, match=r"images.pt is damaged: the checksum of its part"):
            read_torch_file(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"just words", pickle.dumps({"a": 1})[:-1]])
def test_what_torch_did_not_write_is_said_to_be_so(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"x.pt (is damaged|holds more)") as caught:
        read_torch_file(tmp_path / "x.pt")
    assert "\n" not in str(caught.value)

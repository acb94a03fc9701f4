"""State dicts: file formats, wrappers and prefixes, complaints, fingerprints."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ddlight.core.errors import DataError
from ddlight.networks.students import ConvNet
from ddlight.networks.torchvision_zoo import released
from ddlight.networks.weights import digest, load_into, network_from, read_state_dict


@pytest.fixture
def state():
    return {k: torch.randn_like(v) for k, v in ConvNet(depth=1, width=2).build(3, 1, 4).state_dict().items()}


def same(a, b):
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("key", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "student.", "student._orig_mod.", "module.student.", "_orig_mod."])
def test_wrappers_and_prefixes_are_removed(tmp_path, state, key, prefix):
    saved = {prefix + k: v for k, v in state.items()}
    torch.save(saved if key is None else {key: saved, "epoch": 3}, tmp_path / "w.pth")
    assert same(read_state_dict(tmp_path / "w.pth"), state)


def test_only_the_student_of_a_checkpoint_is_kept(tmp_path, state):
    saved = {f"student.{k}": v for k, v in state.items()} | {"metric.total": torch.zeros(1)}
    torch.save({"state_dict": saved, "epoch": 3}, tmp_path / "last.ckpt")
    assert same(read_state_dict(tmp_path / "last.ckpt"), state)


def test_a_prefix_that_only_some_names_have_belongs_to_the_network(tmp_path):
    state = {"module.weight": torch.zeros(2), "fc.weight": torch.ones(1)}
    torch.save(state, tmp_path / "w.pt")
    assert same(read_state_dict(tmp_path / "w.pt"), state)


def test_safetensors_are_read(tmp_path, state):
    save_file(state, tmp_path / "w.safetensors")
    read = read_state_dict(tmp_path / "w.safetensors")
    assert all(torch.equal(read[k], state[k]) for k in state)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_unreadable_files_are_named(tmp_path, capsys):
    with pytest.raises(DataError, match=r"none.pth: the file does not exist"):
        read_state_dict(tmp_path / "none.pth")
    for name in ("bad.pth", "bad.safetensors"):
        (tmp_path / name).write_bytes(b"nothing of use")
        with pytest.raises(DataError, match=name):
            read_state_dict(tmp_path / name)
    (tmp_path / "empty.pth").touch()
    with pytest.raises(DataError, match=r"empty\.pth"):
        read_state_dict(tmp_path / "empty.pth")
    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(DataError, match=r"Only tensors are read"):
        read_state_dict(tmp_path / "evil.pth")
    assert "executed" not in capsys.readouterr().out
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    with pytest.raises(DataError, match="holds no state dict"):
        read_state_dict(tmp_path / "epoch.pth")


def test_a_misfit_lists_the_first_names_and_changes_nothing():
    network = ConvNet(depth=2, width=2).build(3, 1, 8)
    state = {k: torch.zeros_like(v) for k, v in network.state_dict().items()}
    before = network.features[0].weight.clone()
    state["classifier.weight"] = torch.zeros(9, 8)
    state["extra.weight"] = torch.zeros(1)
    del state["features.0.bias"], state["features.4.bias"]
    with pytest.raises(DataError) as caught:
        load_into(network, state, "some.pth")
    text = str(caught.value)
    assert text.startswith("some.pth does not fit ConvNetwork: 2 missing (features.0.bias, features.4.bias); ")
    assert "1 unexpected (extra.weight)" in text and "classifier.weight (9, 8) for (3, 8)" in text
    assert torch.equal(network.features[0].weight, before)


def test_counters_of_batch_norm_may_be_missing():
    network = ConvNet(depth=1, width=2, norm="batch").build(3, 1, 4)
    state = {k: torch.ones_like(v) for k, v in network.state_dict().items() if "num_batches" not in k}
    load_into(network, state, "old.pth")
    assert (network.features[1].running_mean == 1).all()


def test_the_network_gets_as_many_classes_as_the_file(state):
    built = []

    def build(classes):
        built.append(classes)
        return ConvNet(depth=1, width=2).build(classes, 1, 4)

    network = network_from(state, build, 1000, "w")
    assert built == [1000, 3] and same(network.state_dict(), state)


def test_digest_is_of_names_types_shapes_and_values():
    state = {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor(3)}
    sha = hashlib.sha256(b"a torch.int64 ()\n" + (3).to_bytes(8, "little"))
    sha.update(b"b torch.float32 (2,)\n" + bytes.fromhex("0000803f00000040"))
    assert digest(state) == sha.hexdigest()
    assert digest(dict(reversed(state.items()))) == digest(state)
    others = [
        {**state, "b": torch.tensor([1.0, 2.5])},
        {**state, "b": torch.tensor([[1.0, 2.0]])},
        {**state, "b": torch.tensor([1.0, 2.0]).view(torch.int32)},
        {"c": state["b"], "a": state["a"]},
        {**state, "b": torch.tensor([1.0, 2.0], dtype=torch.bfloat16)},
    ]
    assert len({digest(s) for s in [state, *others]}) == 6
    strided = torch.arange(4.0).reshape(2, 2).T
    assert digest({"x": strided}) == digest({"x": strided.contiguous()})
    assert digest(nn.Linear(2, 2).bfloat16().state_dict())


def test_names_of_released_torchvision_files():
    old = {"features.denseblock1.denselayer12.norm.1.weight": 1, "features.norm0.weight": 2, "classifier.bias": 3}
    new = {"features.denseblock1.denselayer12.norm1.weight": 1, "features.norm0.weight": 2, "classifier.bias": 3}
    assert released("densenet121", old) == new
    assert released("resnet18", {"layer1.0.conv1.weight": 1}) == {"layer1.0.conv1.weight": 1}
    assert released("googlenet", {"aux1.fc2.bias": 1, "fc.bias": 2}) == {"fc.bias": 2}

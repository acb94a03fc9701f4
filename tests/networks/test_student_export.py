"""The exported student: round trip, plain timm, epochs, and complaints with the line to type."""

import hashlib
import json
from dataclasses import dataclass

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from ddlight.core import files
from ddlight.core.errors import DataError
from ddlight.networks.export import StudentCard, load_student, save_student, weights_file
from ddlight.networks.students import ConvNet, Student, Timm

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


@dataclass(frozen=True)
class Own(Student):
    scale: float = 1.0

    def build(self, num_classes, channels, size):
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, num_classes))


def test_round_trip(tmp_path):
    spec = ConvNet(depth=2, width=4, norm="batch")
    network = spec.build(3, 3, 8)
    network(torch.randn(4, 3, 8, 8))
    path = save_student(tmp_path / "run", network, StudentCard(spec, 3, 3, 8, MEAN, STD, ("a", "b", "c")))
    assert path == tmp_path / "run" / "student.safetensors"
    told = json.loads((tmp_path / "run" / "student.json").read_text())
    assert told.pop("sha256") == hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    assert told == {
        "class": "ConvNet",
        "args": {"depth": 2, "width": 4, "norm": "batch"},
        "num_classes": 3,
        "channels": 3,
        "size": 8,
        "mean": list(MEAN),
        "std": list(STD),
        "classes": ["a", "b", "c"],
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest()},
        "whitening": None,
    }
    loaded, card = load_student(tmp_path / "run")
    assert (card.spec, card.num_classes, card.channels, card.size) == (spec, 3, 3, 8)
    assert (card.mean, card.std, card.classes) == (MEAN, STD, ("a", "b", "c"))
    for a, b in zip(network.state_dict().values(), loaded.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["student.json", "student.safetensors"]


def test_an_exported_timm_student_loads_in_plain_timm_and_rebuilds_without_a_download(tmp_path):
    spec = Timm("resnet10t", pretrained=True)
    network = spec.untrained().build(5, 3, 32)
    path = save_student(tmp_path, network, StudentCard(spec, 5, 3, 32, MEAN, STD))
    plain = timm.create_model("resnet10t", num_classes=5)
    timm.models.load_checkpoint(plain, str(path))
    assert torch.equal(plain.fc.weight, network.fc.weight)
    loaded, card = load_student(tmp_path)
    assert card.spec == spec and torch.equal(loaded.fc.weight, network.fc.weight)


def test_epochs_lie_beside_the_final_weights(tmp_path):
    spec = ConvNet(depth=1, width=2)
    networks = {epoch: spec.build(3, 1, 4) for epoch in (2, 10, None)}
    for epoch, network in networks.items():
        save_student(tmp_path, network, StudentCard(spec, 3, 1, 4, (0.5,), (0.5,)), epoch=epoch)
    for epoch, network in networks.items():
        loaded, _ = load_student(tmp_path, epoch)
        assert torch.equal(loaded.classifier.weight, network.classifier.weight)
    with pytest.raises(DataError, match=r"no student_epoch7.safetensors. Epochs kept there: 2, 10;(.|\n)*ddlight fit"):
        load_student(tmp_path, 7)


def test_tied_weights_are_written(tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4))
    network[2].weight = network[1].weight
    path = save_student(tmp_path, network, StudentCard(Own(), 4, 1, 2, (0.5,), (0.5,)))
    assert torch.equal(load_file(path)["2.weight"], network[1].weight)


def test_a_student_of_ones_own_is_found_by_its_module(tmp_path):
    spec = Own(scale=2.0)
    network = spec.build(3, 1, 4)
    save_student(tmp_path, network, StudentCard(spec, 3, 1, 4, (0.5,), (0.5,)))
    loaded, card = load_student(tmp_path)
    assert type(card.spec).__name__ == "Own" and card.spec.scale == 2.0
    assert torch.equal(loaded[1].weight, network[1].weight)


def test_missing_runs_say_what_to_type(tmp_path):
    with pytest.raises(DataError, match=r"There is no run at(.|\n)*ddlight fit --config "):
        load_student(tmp_path / "nowhere")
    (tmp_path / "config.yaml").touch()
    with pytest.raises(DataError, match=r"did not finish(.|\n)*ddlight fit --config .*config.yaml"):
        load_student(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"class": "ConvNot"}, {"class": "pathlib.Path"}, {"args": {"breadth": 3}}, {"mean": None}, None],
)
def test_damaged_cards_are_named(tmp_path, change):
    save_student(tmp_path, ConvNet(1, 2).build(3, 1, 4), StudentCard(ConvNet(1, 2), 3, 1, 4, (0.5,), (0.5,)))
    path = tmp_path / "student.json"
    card = files.unsigned(json.loads(path.read_text()))
    path.write_text("{" if change is None else json.dumps({**card, **change}))
    with pytest.raises(DataError, match=r"student.json is damaged"):
        load_student(tmp_path)


def test_a_card_of_which_one_number_changed_is_damaged(tmp_path):
    save_student(tmp_path, ConvNet(1, 2).build(3, 1, 4), StudentCard(ConvNet(1, 2), 3, 1, 4, (0.5,), (0.5,)))
    path = tmp_path / "student.json"
    path.write_text(path.read_text().replace("0.5", "0.7"))
    with pytest.raises(DataError, match=r"student.json is damaged"):
        load_student(tmp_path)


@pytest.mark.parametrize("epoch", [None, 2])
def test_weights_that_changed_or_are_anothers_are_refused(tmp_path, epoch):
    spec = ConvNet(1, 2)
    for name in ("run", "other"):
        for k in (2, None):
            save_student(tmp_path / name, spec.build(3, 1, 4), StudentCard(spec, 3, 1, 4, (0.5,), (0.5,)), epoch=k)
    path, other = weights_file(tmp_path / "run", epoch), weights_file(tmp_path / "other", epoch)
    whole = path.read_bytes()
    for content in (whole[:-1] + bytes([whole[-1] ^ 1]), other.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"{path.name} is not what student.json(.|\n)*ddlight fit --config"):
            load_student(tmp_path / "run", epoch)
    path.write_bytes(whole)
    load_student(tmp_path / "run", epoch)


def test_a_card_of_an_earlier_version_knows_no_checksums(tmp_path):
    save_student(tmp_path, ConvNet(1, 2).build(3, 1, 4), StudentCard(ConvNet(1, 2), 3, 1, 4, (0.5,), (0.5,)))
    path = tmp_path / "student.json"
    card = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("sha256", "files")}
    path.write_text(json.dumps(card))
    assert load_student(tmp_path)[1].files == {}

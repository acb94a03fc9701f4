import subprocess
import sys
from dataclasses import replace

import pytest

import ddlight.data
from ddlight.core import discover
from ddlight.data.base import RealDataset
from ddlight.data.table import TABLE, DatasetInfo, data_root, describe


def test_table_imports_neither_numpy_nor_torch():
    code = (
        "import sys, ddlight.data.table as t; t.describe(t.TABLE['MNIST']); "
        "sys.exit(bool({'numpy', 'torch', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("info", TABLE.values(), ids=TABLE.keys())
def test_row_is_consistent(info: DatasetInfo):
    assert TABLE[info.name] is info
    assert len(info.mean) == len(info.std) == info.channels
    assert all(0 < m < 1 for m in info.mean) and all(0 < s < 0.5 for s in info.std)
    assert len(set(info.classes)) == len(info.classes)
    assert info.num_classes == len(info.classes) or not info.classes
    assert not any({"/", "\\", "\n"} & set(name) or name != name.strip() for name in info.classes)
    assert info.get and info.licence


@pytest.mark.parametrize("name", TABLE)
def test_every_row_has_a_class_of_its_name(name: str):
    cls = getattr(ddlight.data, name)
    assert issubclass(cls, RealDataset) and cls.name == cls.__name__ == name


def test_known_facts():
    assert [n for n, i in TABLE.items() if not i.flip] == ["Digits", "MNIST", "SVHN"]
    counts = {n: (i.num_classes, i.train, i.test) for n, i in TABLE.items()}
    assert counts["CIFAR100"] == (100, 50_000, 10_000)
    assert counts["SVHN"] == (10, 73_257, 26_032)
    assert counts["ImageNet1K"] == (1000, 1_281_167, 50_000)
    assert counts["ImageNette"] == (10, 9_469, 3_925)
    assert counts["FashionMNIST5k"] == (10, 5_000, 10_000)


def test_alphabetical_class_orders():
    for name in ("CIFAR10", "CIFAR100", "ImageNette"):
        assert list(TABLE[name].classes) == sorted(TABLE[name].classes)
    cifar100 = TABLE["CIFAR100"].classes  # spot checks against the published numbering
    assert [cifar100.index(n) for n in ("apple", "keyboard", "maple_tree", "plate", "train", "worm")] == [
        0, 39, 47, 61, 90, 99,
    ]  # fmt: skip


def test_describe_names_everything_and_fills_in_the_root(monkeypatch):
    monkeypatch.setenv("DDLIGHT_DATA", "/some/where")
    text = "\n".join(describe(TABLE["FashionMNIST"]))
    for word in ("Trouser", "60,000", "1x28x28", "0.2861", "/some/where/FashionMNIST/raw", "apt install", "MIT"):
        assert word in text
    assert "ROOT" not in text
    assert "held out 5,000" in "\n".join(describe(TABLE["FashionMNIST5k"]))
    assert "..." in describe(TABLE["CIFAR100"])[0] and "worm" not in describe(TABLE["CIFAR100"])[0]
    assert describe(TABLE["ImageFolder"])[:2] == ["classes   as found", "images    train as found, test as found"]
    assert describe(TABLE["ImageNet1K"])[0] == "classes   1000"


def test_data_root_is_the_variable_or_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DDLIGHT_DATA", "~/x")
    assert data_root() == tmp_path / "x"
    monkeypatch.delenv("DDLIGHT_DATA")
    assert data_root() == tmp_path / ".cache" / "ddlight" / "data"


def test_num_classes_follows_classes():
    assert replace(TABLE["ImageNet1K"], classes=("a", "b")).num_classes == 2


def test_the_package_offers_its_names_lazily():
    assert set(dir(ddlight.data)) == set(discover.datasets()) == {*TABLE, "NoisyLabels"}
    for name in dir(ddlight.data):
        assert getattr(ddlight.data, name) is not None
    with pytest.raises(AttributeError, match="NoSuch"):
        _ = ddlight.data.NoSuch

import csv
from pathlib import Path

import pytest

import ddlight.report.papers
from ddlight.data.table import TABLE
from ddlight.networks.students import ConvNet, ResNet, ResNetAP, Timm, Torchvision
from ddlight.recipes.table import PROTOCOLS as KNOWN_PROTOCOLS
from ddlight.report import Column, TableCell, collect, compare, markdown
from ddlight.report.cells import student_label
from ddlight.report.papers.published import DATASETS, METHODS, PROTOCOLS, STUDENTS, beside, published

FILE = Path(ddlight.report.papers.__file__).with_name("published.csv")
NORMED = {"norm": "instance"}


def label(student):
    """As a result says it and the report shows it."""
    return student_label(type(student).__name__, vars(student))


def cell(dataset, student, regime, protocol, ipc, method):
    return TableCell(dataset, label(student), Column(regime, protocol, ipc=ipc), method, mean=50.0, n_sets=1)


def test_the_file_is_sound():
    rows = list(csv.DictReader(FILE.open()))
    assert len(rows) == len(published()) == 672
    assert len({tuple(row.values())[:7] for row in rows}) == 672
    assert all(0 < float(row["mean"]) < 100 and int(row["ipc"]) in (1, 10, 50, 100) for row in rows)
    assert sum(bool(row["doubt"]) for row in rows) == 73
    assert {row["student"] for row in rows if row["table"] == "Table6" and "beta" in row["protocol"]} == {
        "ResNet-18(assumed)"
    }


def test_every_name_leads_to_something_that_exists():
    from ddlight.core import discover

    methods = discover.methods()
    assert set(METHODS.values()) <= {method.name for method in methods}
    assert set(DATASETS.values()) <= set(TABLE)
    for (paper, protocol, _), (regime, name) in PROTOCOLS.items():
        own = KNOWN_PROTOCOLS[name].regime
        assert regime == own or (name, protocol) == ("ht_small_soft", "KD+SL"), paper


def test_every_name_is_one_of_the_file():
    rows = published()
    assert {row.dataset for row in rows} >= set(DATASETS)
    assert {row.student for row in rows} >= set(STUDENTS)
    assert {row.method for row in rows} >= set(METHODS)
    for paper, protocol, what in PROTOCOLS:
        assert any((r.paper, r.protocol) == (paper, protocol) and what in ("", r.dataset, r.method) for r in rows)


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        (("CIFAR100", ConvNet(3), "HardLabel", "ht_small_hard", 10, "Random"), [18.64, 16.44]),
        (("CIFAR100", ConvNet(3), "HardLabel", "ht_small_hard", 50, "CADPrune"), [37.87, 37.14]),
        (("CIFAR100", ConvNet(3), "TeacherLabel", "ht_small_soft", 10, "Random"), [50.23]),
        (("CIFAR100", ConvNet(3, width=32), "HardLabel", "ht_small_hard", 10, "Random"), []),
        (("CIFAR100", ConvNet(3), "HardLabel", "dcbench", 10, "Random"), []),
        (("CIFAR100", ConvNet(3), "HardLabel", "ht_small_hard", None, "FullData"), []),
        (("CIFAR10", ConvNet(3), "HardLabel", "dcbench", 50, "Random"), [43.4]),
        (("CIFAR10-jpeg", ConvNet(3), "HardLabel", "dcbench", 10, "KCenter"), [14.7]),
        (("CIFAR10", ConvNet(3), "HardLabel", "dcbench_dsa", 1, "Random"), [15.4]),
        (("CIFAR10", ConvNet(3, norm="batch"), "TeacherLabel", "rded", 10, "RDED"), [50.2]),
        (("CIFAR10", ConvNet(3), "TeacherLabel", "rded", 10, "RDED"), []),
        (("CIFAR10_5k", ConvNet(3), "HardLabel", "dcbench", 10, "Random"), []),
        (("ImageNet1K", ResNet(18), "HardLabel", "ht_large_hard", 10, "CA2D"), [15.25]),
        (("ImageNet1K", Torchvision("resnet18"), "TeacherLabel", "ht_large_kd", 50, "Random"), [58.1]),
        (("ImageNet1K", Timm("resnet18d"), "TeacherLabel", "ht_large_kd", 50, "Random"), []),
        (("ImageNet1K", ResNet(18), "HardLabel", "rethinkdc_hard", 10, "PCA"), []),
        (("ImageNet1K", ResNet(18), "HardLabel", "pca", 10, "PCA"), [22.8]),
        (("ImageNet1K", ResNet(18), "HardLabel", "pca", 10, "Random"), []),
        (("ImageNet1K", ResNet(18), "MultiTeacherLabel", "edc", 10, "EDC"), [48.6]),
        (("ImageNet1K", ResNet(18), "TeacherLabel", "sre2l", 10, "CDA"), []),
        (("ImageNet100", ResNet(18, **NORMED), "HardLabel", "dvc_hard", 50, "Concepts"), [47.2]),
        (("ImageNette", ResNetAP(10), "HardLabel", "dvc_hard", 50, "AUM"), []),
    ],
)
def test_what_stands_beside_a_cell(where, numbers):
    assert [row.mean for row in beside(cell(*where))] == numbers


def test_jpeg_copies_stand_beside_what_was_published_on_the_originals():
    where = (ConvNet(norm="instance"), "HardLabel", "ht_small_hard", 10, "Random")
    assert beside(cell("CIFAR100-jpeg", *where)) == beside(cell("CIFAR100", *where)) != []


def test_the_aum_of_dvc_is_ccs():
    rows = [row for row in csv.DictReader(FILE.open()) if row["protocol"] == "hard-label" and row["method"] == "AUM"]
    (wanted,) = (r for r in rows if (r["dataset"], r["student"], r["ipc"]) == ("ImageNette", "ResNetAP-10", "50"))
    (found,) = beside(cell("ImageNette", ResNetAP(10), "HardLabel", "dvc_hard", 50, "CCS"))
    assert (found.mean, found.std) == (float(wanted["mean"]), float(wanted["std"]))


def test_the_table_says_ours_theirs_and_doubts(study):
    network = {"student__class_": "ResNet", "student__args": {"depth": 18, "norm": "instance", "stem": "auto"}}
    place = {"set__dataset": "ImageNet100", "protocol": "dvc_hard"}
    study.sets("Random", [40.0, 41.0, 42.0], 50, **network, **place)
    study.sets("Concepts", [46.0, 47.0, 45.0], 50, acc__best_on_test=48.0, **network, **place)
    text = markdown(compare(collect([study.root]))).split("### Published numbers beside ours")[1]
    assert (
        "| Concepts | HardLabel ipc 50 | 46.0 ± 1.0 (3) | 48.0 | 47.2 ± 0.8 ¶ | −1.2 | arXiv 2606.18209, Table3 |"
        in text
    )
    assert "¶ doubtful. arXiv 2606.18209, Table3, Concepts at ipc 50: the same mean and deviation are printed" in text
    study.sets("Random", [40.0], 50)
    assert markdown(compare(collect([study.root]))).count("Published numbers") == 1

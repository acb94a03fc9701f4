import itertools

import pytest

from ddlight.report import collect, compare, markdown
from ddlight.report.papers.dd_ranking import ars, hlr, ior, lrs, measures


def found(study, method, regime="HardLabel", augmented=False):
    cells = compare(collect([study.root]))
    (cell,) = (c for c in cells if (c.method, c.column.regime, c.augmented) == (method, regime, augmented))
    return measures(cell, cells)


def test_by_hand():
    assert hlr(0.9, 0.6) == pytest.approx(0.3)
    assert ior(0.66, 0.61) == pytest.approx(0.05)
    assert lrs(0.3, 0.05) == pytest.approx(0.218949, abs=1e-6)  # alpha = 0.025 - 0.15; (0.882497 - 0.367879) / 2.350402
    assert ars(0.1, 0.02) == pytest.approx(0.295250, abs=1e-6)  # beta = 0.06; (1.061837 - 0.367879) / 2.350402
    assert lrs(0.3, 0.05, weight=1.0) == pytest.approx(0.290755, abs=1e-6)  # alpha = 0.05
    assert ars(0.1, 0.02, weight=0.25) == pytest.approx(0.286305, abs=1e-6)  # beta = 0.04


def test_scores_of_fractions_lie_between_zero_and_one():
    assert (lrs(1, -1), lrs(-1, 1)) == (pytest.approx(0), pytest.approx(1))
    assert (ars(-1, -1), ars(1, 1)) == (pytest.approx(0), pytest.approx(1))
    steps = [-1, -0.5, 0, 0.5, 1]
    assert all(-1e-12 <= score(a, b) <= 1 + 1e-12 for score in (lrs, ars) for a, b in itertools.product(steps, steps))
    assert lrs(0.2, 0.1) > lrs(0.3, 0.1) and lrs(0.2, 0.1) < lrs(0.2, 0.2)


def fill(study):
    study.add("FullData", 85.0, 10, protocol="dcbench")
    study.add("FullData", 90.0, 10)
    study.add("FullData", 95.0, 10, regime="SoftLabel")
    study.sets("Random", [60.0, 60.0])
    study.sets("A", [62.0, 64.0])
    study.sets("Random", [64.0, 64.0], regime="SoftLabel")
    study.sets("A", [66.0, 66.0], regime="SoftLabel")


def test_label_robust_score_of_results(study):
    fill(study)
    hard, soft = found(study, "A"), found(study, "A", "SoftLabel")
    assert (hard["HLR"], hard["IOR"]) == (pytest.approx(0.27), pytest.approx(0.03))
    assert (soft["HLR"], soft["IOR"]) == (pytest.approx(0.27), pytest.approx(0.02))
    assert soft["LRS"] == pytest.approx(0.218949, abs=1e-6)  # alpha = 0.01 - 0.135 = -0.125 again
    assert soft["ARS"] is None
    text = markdown(compare(collect([study.root])))
    assert "| A | SoftLabel ipc 10 | +0.270 | +0.020 | 0.219 | – |" in text


def test_hard_labels_of_the_same_sets_stand_for_a_soft_cell(study):
    """Those of another argument do not; another learning rate does, and the best counts."""
    fill(study)
    study.sets("B", [70.0, 70.0], regime="SoftLabel", set__args={"k": 1})
    study.sets("B", [71.0, 71.0], set__args={"k": 2})
    assert found(study, "B", "SoftLabel")["HLR"] is None
    study.sets("B", [50.0, 50.0], set__args={"k": 1}, recipe={"lr": 0.1, "batch": 64})
    study.sets("B", [55.0, 55.0], set__args={"k": 1})
    assert found(study, "B", "SoftLabel")["HLR"] == pytest.approx(0.35)


def test_augmentation_robust_score_of_results(study):
    on = {"augment": {"flip": True}}
    study.sets("Random", [60.0, 60.0])
    study.sets("A", [62.0, 62.0])
    study.sets("Random", [61.0, 61.0], **on)
    assert found(study, "A")["ARS"] is None
    study.sets("A", [71.0, 71.0], **on)
    for augmented in (False, True):
        assert found(study, "A", augmented=augmented)["ARS"] == pytest.approx(0.295250, abs=1e-6)
    assert found(study, "A")["LRS"] is None


def test_augmentation_robust_score_is_of_sets_made_alike(study):
    on = {"augment": {"flip": True}}
    study.sets("Random", [60.0, 60.0])
    study.sets("Random", [61.0, 61.0], **on)
    study.sets("A", [62.0, 62.0], set__args={"k": 1})
    study.sets("A", [71.0, 71.0], set__args={"k": 2}, **on)
    assert found(study, "A")["ARS"] is None


def test_arguments_of_each_set_do_not_part_what_was_made_alike(study):
    """The file of a scoring run, say, is another one for every set."""
    fill(study)
    for regime, acc in (("HardLabel", 63.0), ("SoftLabel", 66.0)):
        for seed in range(2):
            study.add("B", acc, set_seed=seed, regime=regime, set__args={"file": f"{regime} {seed}"})
    assert found(study, "B", "SoftLabel")["HLR"] == pytest.approx(0.27)


def test_augmentation_of_another_column_does_not_count(study):
    study.sets("Random", [60.0, 60.0])
    study.sets("A", [62.0, 62.0])
    for method, acc in (("Random", 61.0), ("A", 71.0)):
        study.sets(method, [acc, acc], protocol="dcbench_dsa", augment={"flip": True})
    assert found(study, "A")["ARS"] is None


def test_other_compute_is_not_compared(study):
    fill(study)
    study.sets("Longer", [80.0, 80.0], budget__images_seen=9000)
    assert found(study, "Longer")["IOR"] is None


def test_no_table_without_what_it_needs(study):
    study.sets("Random", [60.0, 60.0])
    study.sets("A", [62.0, 64.0])
    assert "DD-Ranking" not in markdown(compare(collect([study.root])))


@pytest.mark.parametrize(
    ("augment", "augmented"),
    [
        ({}, False),
        ({"flip": False, "jitter": 0.0, "dsa": "", "mix": "none", "mix_alpha": 1.0, "patches": 1}, False),
        ({"crop_scale": None, "crop_ratio": [0.75, 1.3]}, False),
        ({"crop_scale": [1.0, 1.0], "crop_ratio": [1.0, 1.0]}, False),
        ({"crop_scale": [1.0, 1.0], "crop_ratio": [0.75, 1.3]}, True),
        ({"crop_scale": [0.5, 1.0], "crop_ratio": [1.0, 1.0]}, True),
        ({"mix": "cutmix"}, True),
        ({"dsa": "color_crop"}, True),
    ],
)
def test_what_counts_as_augmentation(study, augment, augmented):
    study.add("A", 60.0, augment=augment)
    (cell,) = compare(collect([study.root]))
    assert cell.augmented is augmented

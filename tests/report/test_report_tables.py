import csv as csv_module
import io
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ddlight.report import collect, compare, csv, markdown

GOLDEN = Path(__file__).with_name("golden.md")
RANDOM = {10: [60.0, 61.0, 60.5, 60.2, 60.8], 50: [75.0, 75.6, 75.3], "soft": [64.0, 64.5, 64.2]}
BETTER = {10: [66.0, 66.4, 66.1, 66.3, 66.2], 50: [79.0, 79.2, 79.1], "soft": [64.1, 64.6, 64.0]}
TIED = [66.1, 66.0, 66.5]
EQUAL = [60.1, 60.9, 60.5]


def fill(study):
    """Every kind of cell: two trainings a set, marks, ties, few sets, missing, failed, selected on test, damaged."""
    for seed in range(2):
        study.add("FullData", 90.0 + seed, 10, seed=seed)
        for index, acc in enumerate(RANDOM[10]):
            study.add("Random", acc + (0.5 if seed else -0.5), set_seed=index, seed=seed)
    study.sets("Better", BETTER[10], set__source_images=400)
    study.sets("Tied", TIED)
    study.sets("Equal", EQUAL)
    study.sets("Two", [64.0, 64.2])
    study.sets("One", [70.0])
    study.sets("Longer", [80.0, 80.1, 80.2], budget__images_seen=9000)
    study.sets("Random", RANDOM[50], 50)
    study.sets("Better", BETTER[50], 50)
    study.sets("Chosen", [75.1, 75.2, 75.3], 50, set__selected_on="test", acc__test_reads=30)
    study.sets("Random", RANDOM["soft"], regime="SoftLabel")
    study.sets("Better", BETTER["soft"], regime="SoftLabel")
    study.sets("Tied", [64.2, 64.0], regime="SoftLabel")
    study.sets("Random", [40.0, 40.2, 40.1], student__class_="MLP", student__args={})
    study.fail({"dataset": "Digits", "method": "Tied", "ipc": 50, "regime": "HardLabel", "student": "ConvNet"})
    study.fail({"dataset": "Digits", "method": "Lost", "ipc": 10, "regime": "HardLabel", "student": "ConvNet"}, "x\ny")
    study.fail({"dataset": "Digits", "method": "Two", "ipc": 10, "regime": "HardLabel", "student": "ConvNet"})
    (study.folder() / "result.json").write_text("{")
    return compare(collect([study.root]))


def grid(text):
    """First table of a Markdown text: {(row, column): cell}."""
    first = text.split("\n## ")[0].split("\n### ")[0]
    lines = [line.strip("| ").split(" | ") for line in first.splitlines() if line.startswith("|")]
    return {(line[0], head): cell for line in lines[2:] for head, cell in zip(lines[0][1:], line[1:], strict=True)}


def test_golden_table(study):
    assert markdown(fill(study)) == GOLDEN.read_text()


def test_cells_are_what_was_computed_elsewhere(study):
    found = grid(markdown(fill(study)))
    mean, std = np.mean(BETTER[10]), np.std(BETTER[10], ddof=1)
    p = stats.ttest_ind(BETTER[10], RANDOM[10], equal_var=False).pvalue
    assert p * 10 < 0.05
    assert found["Better", "HardLabel ipc 10"] == f"**{mean:.1f} ± {std:.1f} (5)** †"
    assert found["Random", "HardLabel ipc 10"] == f"{np.mean(RANDOM[10]):.1f} ± {np.std(RANDOM[10], ddof=1):.1f} (5)"
    assert stats.ttest_ind(TIED, BETTER[10], equal_var=False).pvalue > 0.5
    assert found["Tied", "HardLabel ipc 10"].startswith("**66.2")
    assert found["Equal", "HardLabel ipc 10"] == "60.5 ± 0.4 (3)"
    assert found["Better", "SoftLabel ipc 10"].startswith("**64.2")
    assert "†" not in found["Better", "SoftLabel ipc 10"]
    assert found["Two", "HardLabel ipc 10"].startswith("64.1 ± — (2)")
    assert found["One", "HardLabel ipc 10"] == "70.0 ± — (1)"
    assert found["Longer", "HardLabel ipc 10"] == "80.1 ± 0.1 (3) ‡"
    assert found["Tied", "HardLabel ipc 50"] == "failed"
    assert found["Lost", "HardLabel ipc 10"] == "failed"
    assert found["Lost", "SoftLabel ipc 10"] == "–"
    assert found["FullData", "HardLabel ipc 10"] == found["FullData", "HardLabel ipc 50"] == "90.5 ± — (1)"
    assert found["Chosen §", "HardLabel ipc 50"] == "75.2 ± 0.1 (3)"


def test_csv_is_long_form(study):
    rows = list(csv_module.DictReader(io.StringIO(csv(fill(study)))))
    better = next(r for r in rows if (r["method"], r["regime"], r["ipc"]) == ("Better", "HardLabel", "10"))
    test = stats.ttest_ind(BETTER[10], RANDOM[10], equal_var=False)
    assert float(better["p"]) == pytest.approx(test.pvalue)
    assert float(better["effect"]) == pytest.approx(np.mean(BETTER[10]) - np.mean(RANDOM[10]))
    low, high = stats.t.interval(0.95, 4, np.mean(BETTER[10]), stats.sem(BETTER[10]))
    assert (float(better["ci_low"]), float(better["ci_high"])) == pytest.approx((low, high))
    assert (better["n_sets"], better["source_images"], better["above_random"]) == ("5", "400.0", "True")
    random = next(r for r in rows if r["method"] == "Random")
    assert (random["n_sets"], random["n_trainings"], random["p"]) == ("5", "10", "")
    assert [r["status"] for r in rows if r["status"] != "done"].count("failed") == 3


def test_several_datasets_and_students_are_several_tables(study):
    study.add("Random", 60.0)
    study.add("Random", 61.0, student__class_="MLP")
    study.add("Random", 62.0, set__dataset="MNIST")
    headings = [line for line in markdown(compare(collect([study.root]))).splitlines() if line.startswith("## ")]
    assert headings == [
        "## Digits, ConvNet(depth=3, width=8)",
        "## Digits, MLP(depth=3, width=8)",
        "## MNIST, ConvNet(depth=3, width=8)",
    ]


def test_protocols_teachers_and_budgets_are_columns_where_they_differ(study):
    teacher = {"name": "resnet18", "fingerprint": "abcdef0123", "parameters": 1, "acc": None}
    study.sets("Random", [60.0, 61.0])
    study.sets("Random", [62.0, 63.0], protocol="dvc_hard")
    study.sets("Random", [64.0, 65.0], protocol="dvc_hard", budget__asked=1000.5, budget__unit="epochs")
    study.sets("Random", [66.0, 67.0], regime="TeacherLabel", teachers=[teacher])
    study.sets("Random", [68.0, 69.0], regime="TeacherLabel", teachers=[{**teacher, "name": "vit"}])
    found = grid(markdown(compare(collect([study.root]))))
    assert {head: cell.split(" ")[0].strip("*") for (_, head), cell in found.items()} == {
        "HardLabel ht_small_hard ipc 10": "60.5",
        "HardLabel dvc_hard ipc 10 6 full epochs": "62.5",
        "HardLabel dvc_hard ipc 10 1,000.5 epochs": "64.5",
        "TeacherLabel resnet18:abcdef ipc 10": "66.5",
        "TeacherLabel vit:abcdef ipc 10": "68.5",
    }


def test_full_data_trained_otherwise_has_its_own_column(study):
    study.sets("Random", [60.0, 61.0])
    study.add("FullData", 90.0, 10, budget__asked=60, budget__images_seen=300_000)
    found = grid(markdown(compare(collect([study.root]))))
    assert found["FullData", "HardLabel ipc 10"] == "–"
    assert found["FullData", "HardLabel full"] == "90.0 ± — (1)"


def test_full_data_that_saw_as_many_images_stands_in_the_column(study):
    study.sets("Random", [60.0, 61.0, 62.0])
    study.add("FullData", 90.0, 10, budget__asked=6, budget__unit="full_epochs")
    found = grid(markdown(compare(collect([study.root]))))
    assert found["FullData", "HardLabel ipc 10"] == "90.0 ± — (1)"
    assert not any(column == "HardLabel full" for _, column in found)


def test_full_data_at_other_compute_says_so(study):
    study.sets("Random", [60.0, 61.0])
    study.add("FullData", 90.0, 10, budget__images_seen=300_000)
    assert grid(markdown(compare(collect([study.root]))))["FullData", "HardLabel ipc 10"] == "90.0 ± — (1) ‡"


def test_a_column_without_random_is_named(study):
    study.sets("A", [60.0, 61.0], 50)
    study.sets("Random", [60.0, 61.0], 10)
    text = markdown(compare(collect([study.root])))
    assert "No Random to compare with in: HardLabel ipc 50." in text


def test_number_formats_other_than_fp32_are_named(study):
    study.sets("Random", [60.0, 61.0])
    study.sets("A", [60.0, 61.0])
    assert "number formats" not in markdown(compare(collect([study.root])))
    machine = {"device": "cpu", "ranks": 1, "nodes": 1, "precision": "bf16-mixed"}
    study.add("A", 62.0, set_seed=7, machine=machine)
    text = markdown(compare(collect([study.root])))
    assert "Trained in other number formats than 32-true: A (32-true, bf16-mixed)." in text


def test_a_column_of_failures_only_is_shown(study):
    study.sets("Random", [60.0, 61.0])
    for method in ("Random", "A"):
        study.fail({"dataset": "Digits", "method": method, "ipc": 50, "regime": "HardLabel", "student": "ConvNet"})
    found = grid(markdown(compare(collect([study.root]))))
    assert found["Random", "HardLabel ipc 50"] == found["A", "HardLabel ipc 50"] == "failed"
    assert found["A", "HardLabel ipc 10"] == "–"


def test_a_failure_stands_in_the_table_of_the_data_that_its_dataset_reads(study):
    study.sets("Random", [60.0, 61.0], set__dataset="ImageNette-5k-64")
    study.fail({"dataset": "ImageNette", "method": "A", "ipc": 10, "regime": "HardLabel", "student": "ConvNet"})
    text = markdown(compare(collect([study.root])))
    assert "## ImageNette," not in text and grid(text)["A", "HardLabel ipc 10"] == "failed"


def test_a_study_that_failed_altogether_is_shown(study):
    study.fail({"dataset": "Digits", "method": "A", "ipc": 10, "regime": "HardLabel", "student": "ConvNet"})
    text = markdown(compare(collect([study.root])))
    assert grid(text)["A", "HardLabel ipc 10"] == "failed"
    assert "## Failed runs: 1" in text


def test_text_of_a_setting_cannot_break_the_table(study):
    for index, name in enumerate(("a|b", "c\nd")):
        study.add("A", 60.0 + index, set__args={"name": name})
    lines = [line for line in markdown(compare(collect([study.root]))).splitlines() if line.startswith("|")]
    assert lines[2].startswith("| A (name=a\\|b) |")
    assert lines[3].startswith("| A (name=c d) |")


def test_what_failed_says_which_cell_it_was(study):
    study.fail("cell 7 of small.yaml", "KeyError: x\nTraceback")
    study.fail({"dataset": "Digits", "method": "A", "ipc": 10}, "")
    lines = [
        line.split("failed.json: ")[1]
        for line in markdown(compare(collect([study.root]))).splitlines()
        if "run0" in line
    ]
    assert sorted(lines) == ["A, Digits, ipc 10: ", "cell 7 of small.yaml: KeyError: x"]


def test_settings_averaged_over_are_named(study):
    for seed in range(3):
        study.add("MTT", 60.0 + seed, set_seed=seed, recipe={"lr": 0.01 + seed / 1000})
    assert "averaged over: MTT (recipe.lr)." in markdown(compare(collect([study.root])))


@pytest.mark.parametrize("sizes", [8, 9])
def test_few_methods_in_many_settings_have_a_row_a_setting(study, sizes):
    for ipc in range(1, sizes + 1):
        study.sets("Random", [50.0 + ipc, 50.4 + ipc, 50.2 + ipc], ipc)
        study.sets("Better", [60.0 + ipc, 60.4 + ipc, 60.2 + ipc], ipc, set__selected_on="test")
    text = markdown(compare(collect([study.root])))
    found, settings = grid(text), [f"HardLabel ipc {ipc}" for ipc in range(1, sizes + 1)]
    assert set(found) == {
        place if sizes > 8 else place[::-1]
        for setting in settings
        for place in [(setting, "Random"), (setting, "Better §")]
    }
    last = (settings[-1], "Better §") if sizes > 8 else ("Better §", settings[-1])
    assert found[last] == f"**{60.2 + sizes:.1f} ± 0.2 (3)** †"
    line = "row" if sizes > 8 else "column"
    assert f"above Random of the same {line}:" in text and f"highest mean of its {line}," in text


def test_a_note_says_what_methods_were_given(study):
    for name in ("EL2N", "AUM"):
        study.sets(name, [60.0, 61.0, 62.0], set__args={"keep": "easy"})
    study.sets("Random", [60.0, 61.0, 62.0])
    assert "- Arguments given to the methods: AUM, EL2N: keep=easy.\n" in markdown(compare(collect([study.root])))

import itertools

import numpy as np
import pytest
from scipy import stats

from ddlight.report import collect, compare, long_form


def cells_of(study):
    return {(c.row, c.column.ipc): c for c in compare(collect([study.root]))}


def test_trainings_of_a_set_are_averaged_before_sets(study):
    accs = {0: [60.0, 62.0, 64.0], 1: [70.0, 70.0], 2: [50.0]}
    for set_seed, trainings in accs.items():
        for seed, acc in enumerate(trainings):
            study.add("Random", acc, set_seed=set_seed, seed=seed, nll=acc / 10)
    cell = cells_of(study)["Random", 10]
    assert (cell.n_sets, cell.n_trainings) == (3, 6)
    assert cell.mean == pytest.approx(np.mean([62, 70, 50]))
    assert cell.std == pytest.approx(np.std([62, 70, 50], ddof=1))
    assert (cell.ci_low, cell.ci_high) == pytest.approx(stats.t.interval(0.95, 2, cell.mean, cell.std / np.sqrt(3)))
    assert cell.nll == pytest.approx(np.mean([6.2, 7.0, 5.0]))


def test_many_trainings_of_one_set_are_no_replication(study):
    study.sets("Random", [60.0, 60.4, 60.2])
    for seed in range(10):
        study.add("A", 70.0 + seed / 10, seed=seed)
    cell = cells_of(study)["A", 10]
    assert (cell.n_sets, cell.n_trainings, cell.std, cell.p) == (1, 10, None, None)
    assert not cell.above_random


def test_one_content_is_one_set_whatever_the_seed(study):
    for set_seed in range(3):
        study.add("Herding", 60.0 + set_seed, set_seed=set_seed, set__content_sha256="same")
    assert cells_of(study)["Herding", 10].n_sets == 1


def test_one_recipe_on_other_hardware_is_one_set(study):
    study.add("DM", 60.0, set__content_sha256="a")
    study.add("DM", 61.0, set__content_sha256="b")
    study.add("DM", 64.0, set_seed=1)
    assert cells_of(study)["DM", 10].n_sets == 2


def test_sets_are_linked_in_any_order(study):
    links = [("f1", "c1"), ("f2", "c2"), ("f1", "c2")]
    for seed, (fingerprint, content) in enumerate(links):
        study.add("DM", 60.0, seed=seed, set__fingerprint=fingerprint, set__content_sha256=content)
    assert cells_of(study)["DM", 10].n_sets == 1


@pytest.mark.parametrize(
    "other",
    [
        {"regime": "SoftLabel"},
        {"protocol": "dvc_hard"},
        {"budget__asked": 60},
        {"budget__unit": "epochs"},
        {"student__args": {"width": 16}},
        {"student__class_": "MLP"},
        {"set__dataset": "MNIST"},
        {"set__args": {"beta": 0.3}},
        {"recipe": {"lr": 1.0}},
        {"augment": {"flip": True}},
        {"teachers": [{"name": "resnet18", "fingerprint": "abcdef", "parameters": 1, "acc": None}]},
        {"ipc": 50},
        {"ipc": None, "set__images": 500},
    ],
    ids=str,
)
def test_what_differs_is_never_averaged(study, other):
    for set_seed in range(2):
        study.add("A", 60.0, set_seed=set_seed)
        study.add("A", 70.0, set_seed=set_seed, **{"ipc": 10, **other})
    cells = compare(collect([study.root]))
    assert sorted(cell.mean for cell in cells) == [60.0, 70.0]
    labels = {(c.table, c.column, c.row) for c in cells}
    assert len(labels) == 2


def test_sets_without_ipc_are_told_apart_by_size(study):
    for images, acc in ((100, 50.0), (500, 60.0)):
        study.sets("Random", [acc, acc + 1], None, set__images=images)
    assert [c.column.size for c in compare(collect([study.root]))] == [100, 500]


def test_rows_are_named_by_what_differs(study):
    for beta, lr in itertools.product((0.1, 0.3), (0.01, 0.1)):
        study.sets("CCS", [60.0, 61.0], set__args={"beta": beta, "bins": 50}, recipe={"lr": lr, "batch": 64})
    assert set(cells_of(study)) == {(f"CCS (beta={b}, lr={lr})", 10) for b in (0.1, 0.3) for lr in (0.01, 0.1)}


def test_parts_of_an_argument_name_a_row_only_where_nothing_else_tells_it(study):
    search = {"class": "Search", "trials": 1, "student": {"class": "ConvNet", "width": 32}}
    study.sets("CCS", [60.0, 61.0], set__args={})
    study.sets("CCS", [62.0, 63.0], set__args={"cutoffs": [0.1, 0.2], "search": search})
    assert set(cells_of(study)) == {("CCS", 10), ("CCS (cutoffs=[0.1, 0.2])", 10)}
    study.sets("CCS", [62.0, 63.0], set__args={"cutoffs": [0.1, 0.2], "search": {**search, "trials": 2}})
    found = set(cells_of(study))
    assert found == {("CCS", 10), *((f"CCS (cutoffs=[0.1, 0.2], trials={n})", 10) for n in (1, 2))}


def test_settings_that_go_with_the_size_make_no_rows(study):
    for ipc, beta in ((10, 0.3), (50, 0.1)):
        study.sets("CCS", [60.0, 61.0], ipc, set__args={"beta": beta, "seed": ipc})
    assert set(cells_of(study)) == {("CCS", 10), ("CCS", 50)}


def test_settings_of_each_set_are_averaged_over_and_named(study):
    for seed in range(3):
        study.add("AUM", 60.0 + seed, set_seed=seed, set__args={"scores": f"runs/score{seed}", "keep": {"seed": seed}})
    cell = cells_of(study)["AUM", 10]
    assert (cell.n_sets, cell.varies) == (3, "args.scores")


def test_what_a_method_was_given_is_said(study):
    scoring = {"class": "Scoring", "budget": {"class": "Budget", "epochs": 60.0, "steps": None}}
    given = {"keep": "easy", "scoring": scoring, "teacher": {"class": "RunTeacher", "weights": "ab12"}}
    study.sets("EL2N", [60.0, 61.0], set__args=given)
    study.sets("AUM", [60.0, 61.0], set__args={"keep": "easy"})
    study.sets("AUM", [60.0, 61.0])
    cells = cells_of(study)
    assert cells["EL2N", 10].asked == "keep=easy, scoring.budget.epochs=60.0"
    assert [cells[name, 10].asked for name in ("AUM", "AUM (keep=easy)")] == ["", ""], "the row says it"


def test_each_learning_rate_has_its_own_random(study):
    for lr, low in ((0.01, 50.0), (0.1, 60.0)):
        study.sets("Random", [low, low + 0.2, low + 0.1], recipe={"lr": lr})
        study.sets("A", [low + 3, low + 3.2, low + 3.1], recipe={"lr": lr})
    cells = cells_of(study)
    assert cells["A (lr=0.01)", 10].effect == pytest.approx(3)
    assert cells["A (lr=0.1)", 10].effect == pytest.approx(3)


def test_comparisons_stay_within_their_column(study):
    study.sets("Random", [60.0, 60.2, 60.1])
    study.sets("Random", [80.0, 80.2, 80.1], 50)
    study.sets("A", [50.0, 50.2, 50.1])
    study.sets("A", [70.0, 70.2, 70.1], 50)
    cells = cells_of(study)
    assert cells["A", 50].effect == pytest.approx(-10)
    assert not cells["A", 50].above_random
    assert cells["Random", 10].best


def test_holm_is_by_table(study):
    noise = [60.0, 61.0, 60.3]
    for width in (8, 16):
        student = {"student__args": {"width": width}}
        study.sets("Random", noise, **student)
        study.sets("A", [62.0, 63.1, 62.4], **student)
        if width == 16:
            study.sets("B", noise, **student)
    found = {(c.student, c.row): c for c in compare(collect([study.root]))}
    assert found["ConvNet(width=8)", "A"].p_holm == pytest.approx(found["ConvNet(width=8)", "A"].p)
    assert found["ConvNet(width=16)", "A"].p_holm == pytest.approx(2 * found["ConvNet(width=8)", "A"].p)


def test_the_worst_of_selection_and_reads_is_kept(study):
    study.add("A", 60.0)
    study.add("A", 61.0, set_seed=1, set__selected_on="test", acc__test_reads=30, acc__best_on_test=65.0)
    cell = cells_of(study)["A", 10]
    assert (cell.selected_on, cell.test_reads, cell.best_on_test) == ("test", 30, 65.0)


def test_long_form_has_every_number(study):
    study.sets("Random", [60.0, 60.2, 60.1])
    study.sets("A", [63.0, 63.4, 63.3], set__source_images=400)
    study.fail({"dataset": "Digits", "method": "B", "ipc": 10})
    frame = long_form(compare(collect([study.root])))
    needed = """dataset student regime protocol teachers budget_unit budget_asked ipc method row status mean std
        ci_low ci_high n_sets n_trainings effect hedges_g p p_holm images_seen source_images test_reads selected_on
        error path"""
    assert set(needed.split()) <= set(frame.columns)
    a = frame.set_index("method").loc["A"]
    assert a["p"] == pytest.approx(stats.ttest_ind([63.0, 63.4, 63.3], [60.0, 60.2, 60.1], equal_var=False).pvalue)
    assert (a["source_images"], a["images_seen"], a["test_reads"]) == (400, 6000, 1)
    assert list(frame["status"]) == ["done", "done", "failed"]


def test_a_method_equal_to_random_is_not_marked(study):
    rng = np.random.default_rng(7)
    for ipc in (10, 50):
        for method in ("Random", "A", "B", "C"):
            study.sets(method, rng.normal(60, 1, 5).round(2).tolist(), ipc)
        study.sets("Copy", [60.0, 60.0, 60.0], ipc)
    assert not any(cell.above_random for cell in compare(collect([study.root])))

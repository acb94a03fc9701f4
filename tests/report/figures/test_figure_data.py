"""What figures plot, against numbers computed by hand."""

import logging

import numpy as np
import pandas as pd
import pytest
from made_up import STRONG, WEAK, difficulty, length, teacher
from scipy import stats

from ddlight.core.errors import DataError
from ddlight.report.figures import budget, convergence, cost, cross_architecture, regimes, spread, teachers
from ddlight.report.figures.trainings import finished, settings, short, summarise
from ddlight.report.papers import difficulty as difficulties
from ddlight.report.papers import misratio, rep_div, windows


def interval(values):
    """Student's 95 % interval, from the table's formula."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return np.mean(values) - half, np.mean(values) + half


def one(data, **wanted):
    """The only row with these values."""
    for name, value in wanted.items():
        data = data[data[name].isna() if value is None else data[name] == value]
    assert len(data) == 1
    return data.iloc[0]


def test_means_are_over_sets_and_trainings_of_one_set_are_averaged_first(study, results):
    study.add("Random", 10.0, set_seed=0, seed=0)
    study.add("Random", 30.0, set_seed=0, seed=1)
    study.add("Random", 50.0, set_seed=1)
    found = summarise(finished(results()), ["row"])
    row = one(found, row="Random")
    assert (row["mean"], row["n"]) == (35.0, 2)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(interval([20.0, 50.0]))


def test_one_set_has_no_interval(study, results):
    study.add("Random", 10.0)
    assert np.isnan(one(summarise(finished(results()), ["row"]), row="Random")["ci_low"])


def test_settings_say_no_more_than_needed(study, results):
    study.add("Random", 10.0)
    study.add("Random", 10.0, regime="SoftLabel", teachers=[STRONG])
    study.add("Random", 10.0, regime="SoftLabel", teachers=[WEAK])
    study.add("Random", 10.0, regime="TeacherLabel", teachers=[STRONG])
    study.add("Random", 10.0, regime="TeacherLabel", teachers=[STRONG], protocol="other")
    t = finished(results())
    assert set(settings(t)) == {"HL", "SL, strong", "SL, weak", "SL+KD, other", "SL+KD, rded"}


def test_names_that_fit():
    long = [f"Method (option=first, another_option=second, a_third_option={k})" for k in "ab"]
    found = short(["CCS (cutoffs=[0.0, 0.1, 0.2])", "CCS (cutoffs=[0.3])", *long])
    assert list(found.values())[:2] == ["CCS (cutoffs=0.0 to 0.2)", "CCS (cutoffs=0.3)"]
    assert [found[name][-4:] for name in long] == ["… #1", "… #2"]


def test_regimes_ranks_methods_that_all_regimes_have(study, results):
    for regime, accs in (("HardLabel", (50, 60, 40)), ("SoftLabel", (70, 65, 60)), ("TeacherLabel", (80, 81, None))):
        for method, acc in zip(("Random", "AUM", "CCS"), accs, strict=True):
            if acc is not None:
                study.sets(method, [acc, acc + 1.0], regime=regime, **teacher(regime))
    study.sets("Herding", [99.0])  # one regime alone: cannot be compared
    study.add("FullData", 90.0, None, regime="SoftLabel", **teacher("SoftLabel"))
    study.add("FullData", 95.0, None, regime="SoftLabel", **teacher("SoftLabel"), **length(50, 1000))
    data = regimes.data(results())
    ranks = data.pivot(index="row", columns="regime", values="rank")
    assert list(dict.fromkeys(data["regime"])) == ["HL", "SL", "SL+KD"]
    assert ranks.loc["Random"].tolist() == [2, 1, 2]
    assert ranks.loc["AUM"].tolist() == [1, 2, 1]
    assert ranks.loc["CCS"].isna().all() and "Herding" not in ranks.index
    full = one(data, row="FullData")  # where it saw as many images, and nowhere else
    assert (full["settings"], full["ipc"], full["mean"]) == ("SL", 10, 90.0)


def test_regimes_compares_equal_lengths(study, results):
    for regime, lengths in (("HardLabel", (2, 10)), ("SoftLabel", (2, 10)), ("TeacherLabel", (2,))):
        for epochs in lengths:
            for method in ("Random", "AUM"):
                study.add(method, 50.0 + epochs, regime=regime, **teacher(regime), **length(epochs, 100))
    data = regimes.data(results())
    found = data[data["row"] == "AUM"].groupby("length")["settings"].apply(list).to_dict()
    assert found == {2: ["HL", "SL", "SL+KD"], 10: ["HL", "SL"]}


def test_spread_is_the_range_within_a_set_number(study, results):
    accs = {"HardLabel": {"Random": (50, 50), "AUM": (20, 30), "CCS": (40, 60)}, "SoftLabel": {}}
    accs["SoftLabel"] = {"Random": (70, 71), "AUM": (65, 70), "CCS": (69, 72)}
    for regime, methods in accs.items():
        for method, values in methods.items():
            study.sets(method, [float(v) for v in values], regime=regime, **teacher(regime))
    study.add("AUM", 1.0, set_seed=2)  # a set number that the others lack
    data = spread.data(results())
    assert list(data.columns)[:9] == [
        *("regime", "ipc", "scale", "measure", "mean", "ci_low", "ci_high", "n", "n_methods")
    ]
    hard = one(data, regime="HL", scale="points", measure="range")
    assert (hard["mean"], hard["n"], hard["n_methods"]) == (30.0, 2, 3)  # 50 - 20 and 60 - 30
    assert one(data, regime="SL", scale="points", measure="range")["mean"] == 3.5  # 5 and 2
    odds = np.log([0.5 / 0.5 / (0.2 / 0.8), 0.6 / 0.4 / (0.3 / 0.7)])
    row = one(data, regime="HL", scale="log-odds", measure="range")
    assert row["mean"] == pytest.approx(odds.mean())
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(interval(odds))
    assert one(data, regime="HL", scale="points", measure="std")["mean"] == pytest.approx(
        np.mean([np.std([50, 20, 40], ddof=1), np.std([50, 30, 60], ddof=1)])
    )


def test_spread_of_an_accuracy_of_zero_is_finite():
    lines = spread.spreads(np.array([[0.0, 50.0]]), step=1.0)
    assert lines[2][:3] == ("log-odds", "range", pytest.approx(np.log(99.5 / 0.5)))


def test_budget_joins_lengths_of_one_size_and_keeps_the_full_data(study, results):
    for epochs, acc in ((2, 40.0), (10, 60.0)):
        study.sets("Random", [acc, acc + 2], 10, **length(epochs, 100))
    study.add("Random", 70.0, 50, **length(10, 500))  # one length: no line
    study.add("FullData", 90.0, None, **length(10, 1000))
    study.add("FullData", 91.0, None, regime="SoftLabel", teachers=[STRONG], **length(10, 1000))
    data = budget.data(results())
    assert data[["row", "full_epochs", "mean", "n"]].to_numpy().tolist() == [
        ["Random", 2.0, 41.0, 2],
        ["Random", 10.0, 61.0, 2],
        ["FullData", 10.0, 90.0, 1],
    ]


def test_convergence_has_errors_by_passes_and_curves(study, results):
    for epochs, acc in ((2, 40.0), (10, 60.0)):
        study.add("RDED", acc, 10, **length(epochs, 100))
    path = study.add("Random", 62.0, 10, **length(10, 100))
    path.with_name("test_curve.csv").write_text("step,images,acc\n3,2500,30.5\n")
    data = convergence.data(results())
    runs = data[data["what"] == "run"]
    assert runs[["row", "kind", "passes", "mean"]].to_numpy().tolist() == [
        ["RDED", "distilled", 20.0, 60.0],
        ["RDED", "distilled", 100.0, 40.0],
    ]
    curve = data[data["what"] == "curve"]
    assert curve[["row", "kind", "passes", "mean"]].to_numpy().tolist() == [
        ["Random", "random", 25.0, 69.5],
        ["Random", "random", 100.0, 38.0],
    ]


def test_difficulty_averages_runs_of_one_method(study, results):
    for seed, level in ((0, 0.8), (1, 0.4)):
        path = study.add("Random", 60.0, set_seed=seed)
        difficulty("el2n", level, 0.2).to_csv(path.with_name("difficulty.csv"), index=False)
    study.add("Random", 60.0, set_seed=2)
    data = difficulties.data(results())
    last = one(data, progress=1.0)
    mean = 0.6 * (1 - 5 / 8)
    assert last["n"] == 2 and last["score"] == "el2n"
    assert last["mean"] == pytest.approx(mean) and last["q90"] == pytest.approx(mean + 0.08)
    assert data["progress"].tolist() == [0.2, 0.4, 0.6, 0.8, 1.0]


@pytest.mark.parametrize(
    ("method", "args", "wanted"),
    [
        ("EL2N", {}, 0.0),
        ("EL2N", {"keep": "easy"}, 1.0),
        ("EL2N", {"signal": "train"}, None),
        ("EL2NBest", {"offsets": [0.25]}, 0.25),
        ("EL2NBest", {"offsets": [0.25], "unit": "class"}, 0.25 * 100 / 90),
        ("EL2NBest", {"offsets": [0.9], "unit": "ipc"}, 0.1),
        ("EL2NBest", {"offsets": [0.0, 0.5]}, None),
        ("EL2NBest", {}, None),
        ("Random", {}, None),
    ],
)
def test_window_of_a_set(method, args, wanted):
    """Ten of a hundred images of each class: 90 places beside the first."""
    assert windows.window(method, args, 10, 90) == (None if wanted is None else pytest.approx(wanted))


def test_windows_and_their_range(study, results):
    """1,000 images a full epoch, two classes: 500 images a class."""
    accs = {"HardLabel": {0.0: (20, 24), 0.5: (60, 64)}, "SoftLabel": {0.0: (60, 60), 0.5: (66, 68)}}
    for regime, by_offset in accs.items():
        for offset, values in by_offset.items():
            args = {"offsets": [offset]}
            study.sets("EL2NBest", [float(v) for v in values], regime=regime, set__args=args, **teacher(regime))
    data = windows.data(results())
    assert one(data, what="acc", settings="HL", window=0.5)["mean"] == 62.0
    assert one(data, what="range", settings="HL")["mean"] == 40.0
    low = one(data, what="range", settings="SL")
    assert (low["mean"], low["ci_low"], low["ci_high"]) == pytest.approx((7.0, *interval([6.0, 8.0])))


def test_teachers_against_budget(study, results):
    for who, ceiling in ((STRONG, 60.0), (WEAK, 50.0)):
        for epochs in (2, 10):
            study.add("Random", ceiling - 20 / epochs, regime="TeacherLabel", teachers=[who], **length(epochs, 100))
    for epochs in (2, 10):  # one teacher alone
        study.add("AUM", 70.0, regime="TeacherLabel", teachers=[STRONG], **length(epochs, 100))
    data = teachers.data(results())
    assert data[["teacher", "teacher_acc", "full_epochs", "mean"]].to_numpy().tolist() == [
        ["strong", 90.0, 2.0, 50.0],
        ["strong", 90.0, 10.0, 58.0],
        ["weak", 70.0, 2.0, 40.0],
        ["weak", 70.0, 10.0, 48.0],
    ]


def test_cost_adds_all_parts_and_marks_the_front(study, results):
    for method, acc, parts in (
        ("Random", 50.0, (1e9, 0, 0, 0)),
        ("AUM", 55.0, (1e9, 0, 4e9, 0)),
        ("CCS", 54.0, (1e9, 0, 9e9, 0)),
        ("RDED", 60.0, (1e9, 2e9, 0, 3e10)),
        ("EDC", 60.0, (1e9, 2e9, 0, 4e10)),
    ):
        names = ("student", "teachers", "scoring", "synthesis")
        study.add(method, acc, **{f"flops__{name}": float(x) for name, x in zip(names, parts, strict=True)})
    data = cost.data(results()).set_index("row")
    assert data["flops"].to_dict() == {"Random": 1e9, "AUM": 5e9, "CCS": 1e10, "RDED": 3.3e10, "EDC": 4.3e10}
    assert data.index[data["front"]].tolist() == ["AUM", "RDED", "Random"]


def test_cost_leaves_out_what_nobody_recorded_and_says_so(study, results, caplog):
    study.add("Random", 50.0, flops__student=2e9)
    study.add("AUM", 55.0, flops__student=2e9, flops__scoring=4e9)
    with caplog.at_level(logging.WARNING, "ddlight"):
        known = cost.data(results())
    assert not caplog.records
    for seed, part in enumerate(("scoring", "synthesis")):
        study.add("Released", 99.0, set_seed=seed, flops__student=1e9, **{f"flops__{part}": None})
    with caplog.at_level(logging.WARNING, "ddlight"):
        pd.testing.assert_frame_equal(cost.data(results()), known)
    assert known[["row", "flops", "front"]].to_numpy().tolist() == [["AUM", 6e9, True], ["Random", 2e9, True]]
    assert "cost: left out: Released: nobody recorded what the sets cost" in caplog.text


def test_a_cost_that_is_not_known_of_one_set_is_not_known_of_its_mean(study, results):
    """An older result of the same set says 0 where this one says that it does not know."""
    study.add("Random", 50.0, flops__student=2e9)
    study.add("AUM", 55.0, flops__student=2e9, flops__scoring=4e9)
    study.add("Released", 99.0, seed=0, flops__student=1e9)
    study.add("Released", 99.0, seed=1, flops__student=1e9, flops__scoring=None, flops__synthesis=None)
    assert set(cost.data(results())["row"]) == {"Random", "AUM"}


def test_misratio_takes_single_cutoffs(study, results):
    for beta, acc in ((0.0, 50.0), (0.3, 60.0), (0.5, 55.0)):
        args = {} if beta == 0.3 else {"cutoffs": [beta]}
        study.add("CCS", acc, set__args=args, set__fingerprint=f"f{beta}", set__content_sha256=f"c{beta}")
    study.add("CCS", 99.0, set__args={"cutoffs": [0.0, 0.3]}, set__fingerprint="s", set__content_sha256="s")
    study.add("Random", 52.0)
    data = misratio.data(results())
    assert data[data["row"] == "CCS"][["cutoff", "mean"]].to_numpy().tolist() == [[0.0, 50.0], [0.3, 60.0], [0.5, 55.0]]
    assert one(data, row="Random")["mean"] == 52.0


def test_cross_architecture_has_methods_of_two_students(study, results):
    for name, acc in (("ConvNet", 50.0), ("MLP", 40.0)):
        study.sets("Random", [acc, acc + 2], student__class_=name, student__args={})
    study.add("AUM", 90.0, student__class_="MLP", student__args={})
    data = cross_architecture.data(results())
    found = dict(zip(data["student"], data["mean"], strict=True))
    assert found == {"ConvNet": 51.0, "MLP": 41.0} and set(data["row"]) == {"Random"}


def test_rep_div_averages_seeds(analysis):
    data = rep_div.data(analysis)
    row = one(data, ipc=10, form="minimax", row="Random")
    assert (row["rep"], row["div"], row["n"]) == (pytest.approx(0.505), pytest.approx(0.2), 2)
    assert (row["rep_ci_low"], row["rep_ci_high"]) == pytest.approx(interval([0.5, 0.51]))
    assert one(data, ipc=50, form="coverage", row="FADRM")["rep"] == pytest.approx(0.9)
    assert one(data, ipc=10, form="minimax", row="AUM (keep=easy)")["rep"] == pytest.approx(0.605)
    assert one(data, ipc=10, form="minimax", row="AUM (keep=hard)")["rep"] == pytest.approx(0.655)
    with pytest.raises(DataError, match="no column rep_cov"):
        rep_div.data(analysis.drop(columns="rep_cov"))


def test_rep_div_says_when_it_cannot_tell_sets_apart(analysis, caplog):
    rep_div.data(pd.concat([analysis, analysis]))  # one set that two runs name
    assert not caplog.records
    twice = pd.concat([analysis, analysis[:1].assign(rep_cov=0.1)])
    assert one(rep_div.data(twice), ipc=10, form="coverage", row="Random")["n"] == 2
    assert "1 sets share all but their numbers" in caplog.text


def test_nothing_to_plot_is_an_empty_table(study, results):
    study.add("Random", 50.0)
    frame = results()
    for figure in (regimes, spread, budget, convergence, difficulties, windows, teachers, misratio, cross_architecture):
        assert figure.data(frame).empty, figure.__name__

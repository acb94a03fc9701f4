import pytest

from ddlight.report import collect, compare, csv, markdown
from ddlight.report.costs import duration, si


def rows(study, title):
    """Rows of the Markdown table below `### title`: lists of texts."""
    part = markdown(compare(collect([study.root]))).split(f"### {title}\n")[1].split("\n#")[0]
    lines = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0.00 s"), (0.123, "0.12 s"), (33.7, "33.7 s"), (119, "119 s"), (150, "2.50 min"), (7199, "120 min")),
        *((7200, "2.00 h"), (46080, "12.8 h"), (172800, "2.00 d")),
    ],
)
def test_times(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0, "0 B"), (512, "512 B"), (999.4, "999 B"), (999.6, "1.00 kB"), (2096, "2.10 kB"), (20_960, "21.0 kB")),
        *((9_999, "10.0 kB"), (99_960, "100 kB"), (999_600, "1.00 MB"), (28.3e9, "28.3 GB")),
    ],
)
def test_sizes(value, text):
    assert si(value, "B") == text
    assert si(value) == text.removesuffix("B").strip()


def test_what_a_cell_cost(study):
    parts = {"student": 5.87e11, "teachers": 2e9, "scoring": 6.17e12, "synthesis": 0.0}
    for seed, seconds in enumerate((30.0, 40.0)):
        study.add("A", 60.0, set_seed=seed, seconds__condense=seconds, flops=parts, set__bytes_labels=4000)
    unknown = {"seconds__condense": None, "flops__scoring": None, "flops__synthesis": None}
    study.add("Released", 60.0, **unknown)
    a, released = rows(study, "Cost")
    assert list(a.values())[2:] == ["35.0 s", "6.40 kB", "4.00 kB", "587 G", "2.00 G", "6.17 T", "0"]
    assert list(released.values())[2:] == ["—", "6.40 kB", "800 B", "1.00 T", "0", "—", "—"]


def test_full_data_is_charged_once(study):
    study.add("FullData", 90.0, 10)
    for ipc in (10, 50):
        study.add("Random", 60.0, ipc)
    assert [row["column"] for row in rows(study, "Cost") if row["method"] == "FullData"] == ["HardLabel full"]


def test_full_data_of_two_lengths_is_told_apart(study):
    for asked in (6, 60):
        study.add("FullData", 90.0, 10, budget__asked=asked)
        study.add("Random", 60.0, 10, budget__asked=asked)
    columns = [row["column"] for row in rows(study, "Cost") if row["method"] == "FullData"]
    assert columns == ["HardLabel full 6 full epochs", "HardLabel full 60 full epochs"]


def test_last_against_best_is_of_the_same_trainings(study):
    """A training that read the test split once is in the accuracy, but not in what choosing on test gains."""
    study.add("A", 60.0, set_seed=0, seed=0, acc__best_on_test=64.0, acc__test_reads=30)
    study.add("A", 50.0, set_seed=0, seed=1)
    study.add("A", 70.0, set_seed=1, acc__best_on_test=71.0, acc__test_reads=30)
    study.add("B", 80.0)
    (row,) = rows(study, "Last step against best on test")
    assert list(row.values()) == ["A", "HardLabel ipc 10", "30", "65.0", "67.5", "+2.5"]
    text = csv(compare(collect([study.root])))
    header, first = (line.split(",") for line in text.replace('"ConvNet(depth=3, width=8)"', "x").splitlines()[:2])
    found = dict(zip(header, first, strict=True))
    assert (float(found["mean"]), float(found["inflation"])) == (62.5, 2.5)


def test_no_table_where_the_test_split_was_read_once(study):
    study.add("A", 60.0)
    assert "best on test" not in markdown(compare(collect([study.root])))

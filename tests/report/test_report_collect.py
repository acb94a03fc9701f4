import json
import time

import pytest

from ddlight.core.errors import DataError
from ddlight.report import collect


def test_one_row_a_file(study):
    for seed in range(3):
        study.add("Random", 60.0 + seed, 10, set_seed=seed, set__args={"b": 1, "a": [2]})
    study.add("FullData", 90.0, None)
    frame = collect([study.root])
    assert len(frame) == 4
    assert list(frame["path"]) == sorted(str(p.resolve()) for p in study.root.rglob("result.json"))
    random = frame[frame["set.method"] == "Random"]
    assert sorted(random["acc.test"]) == [60.0, 61.0, 62.0]
    assert set(random["set.args"]) == {'{"a": [2], "b": 1}'}
    assert set(frame["student.class"]) == {"ConvNet"}
    assert frame["set.ipc"].isna().sum() == 1
    assert frame["status"].eq("done").all()


def test_a_file_counts_once_however_often_it_is_named(study):
    path = study.add("Random", 60.0)
    assert len(collect([study.root, path, path.parent, f"{study.root}/."])) == 1


def test_failed_runs_are_rows(study):
    study.add("Random", 60.0)
    study.fail(
        {"dataset": "Digits", "method": "RDED", "ipc": 10, "student": {"class": "MLP", "args": {"b": 2, "a": 1}}}
    )
    study.fail("cell 7 of small.yaml", "killed")
    failed = collect([study.root]).query("status == 'failed'").sort_values("error")
    assert list(failed["error"]) == ["RuntimeError: out of memory", "killed"]
    assert failed.iloc[0][["set.dataset", "set.method", "set.ipc", "student.class", "student.args"]].tolist() == [
        *("Digits", "RDED", 10, "MLP", '{"a": 1, "b": 2}')
    ]
    assert failed.iloc[1]["cell"] == "cell 7 of small.yaml"


def test_a_run_that_succeeded_in_the_end_is_done(study):
    path = study.add("Random", 60.0)
    (path.parent / "failed.json").write_text('{"cell": "x", "error": "first try"}')
    assert list(collect([study.root])["status"]) == ["done"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("result.json", '{"schema": 1, "run": "half'),
        ("result.json", '{"accuracy": 0.93}'),
        ("result.json", ""),
        ("failed.json", '{"cell": "x"}'),
        ("failed.json", "[1]"),
        ("failed.json", '{"cell": {"ipc": "many"}, "error": "x"}'),
    ],
)
def test_a_damaged_file_is_named_and_kept(study, name, text):
    study.add("Random", 60.0)
    bad = study.folder() / name
    bad.write_text(text)
    frame = collect([study.root])
    damaged = frame[frame["status"] == "damaged"]
    assert list(damaged["path"]) == [str(bad.resolve())]
    assert str(bad.resolve()) in damaged["error"].iloc[0]
    assert frame["status"].eq("done").sum() == 1


def test_a_wrong_field_is_named(study):
    path = study.add("Random", 60.0)
    content = json.loads(path.read_text())
    del content["sha256"]
    content["acc"]["test"] = 6000
    path.write_text(json.dumps(content))
    assert "'acc.test' is 6000" in collect([study.root])["error"].iloc[0]


def test_nothing_to_read_is_an_error(tmp_path, study):
    (tmp_path / "empty").mkdir()
    study.add("Random", 60.0)
    with pytest.raises(DataError, match=r"no result\.json under .*empty"):
        collect([study.root, tmp_path / "empty"])
    with pytest.raises(DataError, match=r"no folder or file .*nowhere"):
        collect([tmp_path / "nowhere"])


def test_a_thousand_results_in_seconds(study):
    text = study.add("Random", 60.0).read_text()
    for _ in range(1000):
        (study.folder() / "result.json").write_text(text)
    start = time.process_time()
    assert len(collect([study.root])) == 1001
    assert time.process_time() - start < 5


def test_files_are_named_from_the_folder_given(study, tmp_path):
    a, b = study.add("Random", 60.0), study.add("Random", 61.0)
    assert [a.parent.parent.name, b.parent.parent.name] == ["part1", "part2"]
    assert list(collect([study.root])["file"]) == ["part1/run0001/result.json", "part2/run0002/result.json"]
    assert collect([tmp_path])["file"].iloc[0] == "runs/part1/run0001/result.json"
    parts = collect([study.root / "part1", study.root / "part2"])
    assert list(parts["file"]) == ["part1/run0001/result.json", "part2/run0002/result.json"]
    assert list(collect([a])["file"]) == ["result.json"]
    assert list(collect([a, b])["path"]) == [str(a.resolve()), str(b.resolve())]

import copy
import hashlib
import json
import math
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from made_result import EXAMPLE

from ddlight.core.errors import DataError
from ddlight.core.result import Result, peak_host_memory, utc_now, validate, versions

FREE = {"set.args", "recipe", "augment", "student.args"}


def leaves(content, prefix=""):
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name not in FREE:
            yield from leaves(value, f"{name}.")
        else:
            yield name, value


LEAVES = dict(leaves(EXAMPLE))


def changed(name, value):
    content = copy.deepcopy(EXAMPLE)
    *parents, last = name.split(".")
    part = content
    for parent in parents:
        part = part[parent]
    part[last] = value
    return content


def without(name):
    content = copy.deepcopy(EXAMPLE)
    *parents, last = name.split(".")
    part = content
    for parent in parents:
        part = part[parent]
    del part[last]
    return content


def test_round_trip(tmp_path):
    result = Result.from_json(EXAMPLE)
    assert result.to_json() == EXAMPLE
    assert next(iter(result.to_json())) == "schema"
    assert result.student.class_name == "ConvNet"
    assert result.acc.per_class == (60.0, 61.0, 62.75)
    written = result.write(tmp_path)
    assert written == tmp_path / "result.json"
    content = json.loads(written.read_text())
    checksum = content.pop("sha256")
    assert checksum == hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    assert content == EXAMPLE
    assert Result.read(tmp_path) == Result.read(written) == result
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("change", [lambda c: c["acc"].update(test=61.26), lambda c: c.update(sha256="0")])
def test_a_changed_file_is_refused(tmp_path, change):
    path = Result.from_json(EXAMPLE).write(tmp_path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"result\.json.*'sha256'"):
        Result.read(tmp_path)


def test_tuples_are_written_as_lists():
    result = Result.from_json(changed("recipe", {"betas": [0.9, 0.999]}))
    tupled = Result(**{**vars(result), "recipe": {"betas": (0.9, 0.999)}})
    assert tupled.to_json() == result.to_json()


@pytest.mark.parametrize("name", LEAVES)
def test_a_missing_field_is_named(name):
    content = without(name)
    with pytest.raises(DataError, match=f"'{name}'"):
        validate(content)


@pytest.mark.parametrize("name", [name for name, value in LEAVES.items() if isinstance(value, float)])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused(name, number, tmp_path):
    with pytest.raises(DataError, match=f"'{name}' is -?(nan|inf)"):
        validate(changed(name, number))
    path = tmp_path / "result.json"
    path.write_text(json.dumps(changed(name, number)))
    with pytest.raises(DataError, match=f"{path}: '{name}'"):
        Result.read(path)


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("set.ipc", 10.0, "set.ipc"),
        ("set.ipc", 0, "set.ipc"),
        ("set.seed", -1, "set.seed"),
        ("set.seed", True, "set.seed"),
        ("set.fingerprint", "", "set.fingerprint"),
        ("set.content_sha256", None, "set.content_sha256"),
        ("set.selected_on", "train", "set.selected_on"),
        ("set.args", {"beta": math.nan}, "set.args.beta"),
        ("set.args", {"betas": [1, {"x": math.inf}]}, r"set.args.betas\[1\].x"),
        ("set.args", {"path": Path("x")}, "set.args.path"),
        ("set.args", {1: 2}, "set.args"),
        ("set", [], "set"),
        ("regime", "", "regime"),
        ("budget.unit", "hours", "budget.unit"),
        ("acc.test", 100.1, "acc.test"),
        ("acc.test", True, "acc.test"),
        ("acc.test", 10**400, "acc.test"),
        ("acc.test_reads", 0, "acc.test_reads"),
        ("acc.per_class", [1.0, 2.0, -3.0], r"acc.per_class\[2\]"),
        ("acc.per_class", [1.0, 2.0], "acc.per_class"),
        ("acc.per_class", 3.0, "acc.per_class"),
        ("teachers", [{"name": "a"}], r"teachers\[0\].fingerprint"),
        ("nll", "1.0", "nll"),
        ("ece", 1.5, "ece"),
        ("seconds.fit", -0.1, "seconds.fit"),
        ("finished", "2026-01-31T12:00:00", "finished"),
        ("finished", "2026-01-31T12:00:00+02:00", "finished"),
        ("finished", "yesterday", "finished"),
    ],
)
def test_a_wrong_value_is_named(name, value, field):
    with pytest.raises(DataError, match=f"'{field}'"):
        validate(changed(name, value))


@pytest.mark.parametrize(
    "name", ["set.ipc", "acc.test_top5", "acc.held_out", "seconds.condense", "flops.scoring", "flops.synthesis"]
)
def test_what_may_be_unknown(name):
    assert Result.from_json(changed(name, None)).to_json() == changed(name, None)


@pytest.mark.parametrize("name", ["flops.student", "flops.teachers"])
def test_what_a_run_counts_itself_is_known(name):
    with pytest.raises(DataError, match=f"'{name}' is None"):
        validate(changed(name, None))


def test_a_file_of_the_first_schema_is_read_as_it_is(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps(changed("schema", 1)))
    found = Result.read(tmp_path)
    assert (found.flops.scoring, found.flops.synthesis) == (0.0, 0.0)
    assert found.to_json() == changed("schema", 1)


def test_an_unknown_field_is_refused_with_the_nearest():
    content = changed("acc.tset", 1.0)
    with pytest.raises(DataError, match=r"'acc\.tset' is not a field of schema 2\. Did you mean test"):
        validate(content)


@pytest.mark.parametrize(
    ("schema", "words"),
    [(3, "newer ddlight"), (0, "'schema' is 0"), ("1", "'schema' is '1'"), (True, "'schema' is True")],
)
def test_another_schema_is_refused(schema, words):
    with pytest.raises(DataError, match=words):
        validate(changed("schema", schema))


@pytest.mark.parametrize(
    "text", ["", "{", json.dumps(EXAMPLE)[:200], "[]", "3", '{"accuracy": 99}', "\ufffd", "[" * 100_000]
)
def test_a_damaged_or_foreign_file_is_named(text, tmp_path):
    path = tmp_path / "result.json"
    path.write_text(text, encoding="utf-16" if text == "\ufffd" else "utf-8")
    with pytest.raises(DataError, match=str(path)) as error:
        Result.read(path)
    assert error.value.code == 3


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"result\.json: there is no such file"):
        Result.read(tmp_path / "result.json")


def test_a_refused_result_leaves_the_old_file(tmp_path):
    good = Result.from_json(EXAMPLE)
    path = good.write(tmp_path)
    with pytest.raises(DataError, match="'nll'"):
        Result(**{**vars(good), "nll": math.nan}).write(tmp_path)
    assert Result.read(path) == good


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    good = Result.from_json(EXAMPLE)
    path = good.write(tmp_path)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(5, "gone")))
    with pytest.raises(OSError, match="gone"):
        Result(**{**vars(good), "nll": 9.0}).write(tmp_path)
    assert Result.read(path) == good
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_versions_are_those_installed():
    found = versions()
    assert found.torch == metadata.version("torch")
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert not any(value == "unknown" for value in vars(found).values())


def test_utc_now_is_a_valid_time():
    assert Result.from_json(changed("finished", utc_now())).finished.endswith("+00:00")


def test_peak_memory_is_of_this_process_alone():
    line = "from ddlight.core.result import peak_host_memory as p; a = p(); b = bytearray(80 * 2**20); print(a, p())"
    ballast = bytearray(600 * 2**20)
    assert peak_host_memory() > len(ballast)
    out = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True).stdout
    before, after = map(int, out.split())
    assert before < 400 * 2**20
    assert after - before > 70 * 2**20


def test_reading_results_does_not_import_torch():
    line = "import sys, ddlight.core.result, ddlight.report.command; print({'torch', 'lightning'} & {*sys.modules})"
    out = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"

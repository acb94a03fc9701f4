"""`ddlight grid`: the cells of a study, where they stand, and worker processes that run, stop and continue them."""

import copy
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from made_result import EXAMPLE

from ddlight.cli.tiny import make_tiny
from ddlight.core.errors import BusyError, DataError, FinishedError, UsageError
from ddlight.core.result import Result
from ddlight.studies import grid, workers
from ddlight.studies.study import check_unchanged, command_line, read_study, state

STUDY = """
name: demo
common: {data: Random, data.ipc: 5, model.student.width: 8, model.student: ConvNet}
axes:
  regime:
    HL: {model: HardLabel, model.protocol: dcbench}
    SL: {model: SoftLabel}
  ipc: {1: {data.ipc: 1}, 10: {data.ipc: 10}}
  set: [0, 3]
"""


@pytest.fixture
def write(home):
    def write(text, name="demo.yaml", **changes):
        content = yaml.safe_load(text) | changes
        path = home / name
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


@pytest.fixture
def read(write):
    return lambda text=STUDY, **changes: read_study(write(text, **changes), Path("runs"))


def options(arguments):
    return dict(word.removeprefix("--").split("=", 1) for word in arguments if "=" in word)


def stand_in(arguments):
    """What workers call in place of a training: does what the option `act` says, and writes a result."""
    given = options(arguments)
    run = Path(given["trainer.run"])
    with Path("calls.txt").open("a") as calls:
        calls.write(f"{run.name}\n")
    print("said by", run.name)
    act = given.get("act", "")
    if act == "error" and not Path("mended").exists():
        raise ValueError("no such\nluck")
    if act == "usage":
        raise UsageError("a wrong value")
    if act == "busy":
        raise BusyError("another process is writing")
    if act == "exit":
        raise SystemExit(3)
    if act == "nothing":
        return
    if act == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "rude":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if act == "wait":
        time.sleep(60)
    content = copy.deepcopy(EXAMPLE)
    content["run"] = run.name
    content["seconds"] = {"condense": 9.0, "setup": 1.0, "fit": 20.0, "evaluate": 3.0}
    Result.from_json(content).write(run / "result.json")


def calls():
    path = Path("calls.txt")
    found = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def acting(**acts):
    """A study of one axis whose cells do what they are told."""
    return yaml.safe_dump({"name": "demo", "axes": {"cell": {name: {"act": act} for name, act in acts.items()}}})


def go(study, jobs=1):
    cells = [*study.before, *study.cells]
    return grid.run_study(cells, [c for c in cells if state(c).word != "done"], jobs, stand_in)


# --- the cells of a study ---


def test_cells_are_the_product_of_the_axes(read):
    cells = read().cells
    names = [f"{regime}-ipc{ipc}-set{number}" for regime in ("HL", "SL") for ipc in (1, 10) for number in (0, 3)]
    assert [cell.name for cell in cells] == names
    assert [cell.run for cell in cells] == [Path("runs/demo", name) for name in names]
    assert cells[3].words == ["HL", "ipc10", "set3"]
    assert cells[2].kind == cells[3].kind == "HL ipc10"


def test_a_class_stands_before_its_arguments_and_else_the_order_is_the_studys(read):
    assert read().cells[3].arguments == (
        "fit",
        "--data=Random",
        "--data.ipc=10",
        "--model=HardLabel",
        "--model.student=ConvNet",
        "--model.student.width=8",
        "--model.protocol=dcbench",
        "--data.seed=3",
        "--model.seed=3",
        "--trainer.run=runs/demo/HL-ipc10-set3",
    )


def test_values_become_text_that_the_parser_reads_back():
    values = {"a": None, "b": True, "c": 0.05, "d": "x y", "e": [1, "z"], "f": {"class_path": "A", "init_args": {}}}
    words = command_line(values)[1:]
    assert words[3] == "--d=x y"
    assert {w[2]: yaml.safe_load(w[4:]) for w in words} == values


def test_config_files_are_relative_to_the_study_and_add_up(home):
    (home / "deep" / "er").mkdir(parents=True)
    for name in ("base.yaml", "deep/a.yaml", "deep/b.yaml"):
        (home / name).write_text("model: {}")
    text = "{common: {config: ../../base.yaml}, axes: {a: {x: {config: [../a.yaml, ../b.yaml], data.ipc: 2}}}}"
    path = home / "deep" / "er" / "my.yaml"
    path.write_text(text)
    (cell,) = read_study(Path("deep/er/my.yaml"), Path("out")).cells
    files = ["--config", "base.yaml", "--config", "deep/a.yaml", "--config", "deep/b.yaml"]
    assert list(cell.arguments) == ["fit", *files, "--data.ipc=2", "--trainer.run=out/my/x"]


def test_placeholders_name_the_runs_that_are_made_before(read):
    before = {"first": {"data": "FullData"}, "second": {"model.teacher": {"run": "{run:first}"}}}
    axes = {"regime": {"SL": {"model.teachers": [{"run": "{run:second}"}, {"run": "{run:first}/x"}]}, "HL": {}}}
    study = read(before=before, axes=axes)
    first, second = (cell.run for cell in study.before)
    assert (first, second) == (Path("runs/before/first"), Path("runs/before/second"))
    assert study.before[0].arguments == ("fit", "--data=FullData", f"--trainer.run={first}")
    assert options(study.before[1].arguments)["model.teacher"] == '{"run": "runs/before/first"}'
    teachers = json.loads(options(study.cells[0].arguments)["model.teachers"])
    assert teachers == [{"run": str(second)}, {"run": f"{first}/x"}]
    assert set(study.cells[0].needs) == {first, second}
    assert study.cells[1].needs == ()


def test_skip_leaves_out_every_cell_with_all_the_values_named(read):
    names = [cell.name for cell in read(skip=[{"regime": "SL", "ipc": 10}, {"set": [3], "ipc": [1, 10]}]).cells]
    assert names == ["HL-ipc1-set0", "HL-ipc10-set0", "SL-ipc1-set0"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axis": {}}, "has the key 'axis'. Did you mean axes?"),
        ({"skip": [{"regim": "SL"}]}, "the axis 'regim'. Did you mean regime?"),
        ({"skip": [{"regime": "SK"}]}, "the value 'SK'. Did you mean SL?"),
        ({"skip": {"regime": "SL"}}, "'skip' is a list"),
        ({"common": {"x": "{run:techer}"}, "before": {"teacher": {}}}, "Did you mean teacher?"),
        ({"before": {"a": {"x": "{run:b}"}, "b": {}}}, "'{run:b}' names no run of before. Above it: none."),
        ({"axes": {"a": {"x": {"m": 1}}, "b": {"y": {"m": 1}}}}, "Two axes set 'm'"),
        ({"axes": {"a": {"x-y": {}, "x": {}}, "b": {"z": {}, "y-z": {}}}}, "Two cells would have the name 'x-y-z'"),
        ({"axes": {"a": {False: {}}}}, "False cannot be a value of a"),
        ({"axes": {"a": {"../x": {}}}}, "'../x' cannot be a value of a"),
        ({"axes": {"ipc": [1, 10]}}, "axes: ipc holds [1, 10]"),
        ({"axes": {"a": {"x": "HardLabel"}}}, "a: x holds 'HardLabel'"),
        ({"axes": {}}, "A study needs axes"),
    ],
)
def test_mistakes_in_a_study_are_named(read, changes, message):
    with pytest.raises(UsageError) as error:
        read(**changes)
    assert message in str(error.value)


def test_a_study_that_cannot_be_read(home):
    with pytest.raises(DataError, match=r"no file missing\.yaml"):
        read_study(Path("missing.yaml"), Path("runs"))
    Path("bad.yaml").write_text("axes: {a: [")
    with pytest.raises(DataError, match=r"bad\.yaml is not YAML"):
        read_study(Path("bad.yaml"), Path("runs"))
    Path("x.yaml").write_text("{common: {config: away.yaml}, axes: {set: [0]}}")
    with pytest.raises(UsageError, match=r"no config away\.yaml"):
        read_study(Path("x.yaml"), Path("runs"))


def test_the_root_of_the_images_is_told_to_every_run_and_is_no_part_of_what_a_study_asks_for(write, home, monkeypatch):
    noisy = {"class_path": "NoisyLabels", "init_args": {"dataset": "ImageNette", "share": 0.2}}
    axes = {"data": {"clean": {"data.dataset": "ImageNette"}, "noisy": {"data.dataset": noisy}}}
    study = write(STUDY, axes=axes, before={"teacher": {"data.dataset": "ImageNette"}})
    (home / "photos").mkdir()
    seen = []
    monkeypatch.setattr(grid, "run_study", lambda cells, *a: seen.append(cells) or 0)
    for words in ([], ["--root", "photos"]):
        assert grid.main([str(study), "--jobs", "1", *words]) == 0
    without, rooted = seen
    names = ("data.dataset.root", "data.dataset.root", "data.dataset.dataset.root")
    for cell, bare, name in zip(rooted, without, names, strict=True):
        assert cell.arguments == (*bare.arguments, f"--{name}={home / 'photos'}")
        assert cell.digest == bare.digest
    with pytest.raises(UsageError, match="--root: there is no folder none"):
        grid.main([str(study), "--root", "none"])


def test_tiny_runs_have_a_folder_of_their_own(write):
    study = read_study(write(STUDY), Path("runs/tiny"), tiny=True)
    assert study.cells[0].arguments[-2:] == ("--trainer.run=runs/tiny/demo/HL-ipc1-set0", "--tiny")
    config = {"data": {"class_path": "ddlight.methods.baselines.random.Random", "init_args": {}}}
    for run, kept in (("runs/tiny/demo/a", True), ("runs/demo/a", False), (None, False)):
        tiny = make_tiny({**config, "trainer": {"run": run}})
        assert tiny["trainer"]["run"] == (run if kept else None)


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["SL"], ["SL-ipc1-set0", "SL-ipc1-set3", "SL-ipc10-set0", "SL-ipc10-set3"]),
        (["ipc1", "set3"], ["HL-ipc1-set3", "SL-ipc1-set3"]),
        (["HL-*-set0"], ["HL-ipc1-set0", "HL-ipc10-set0"]),
    ],
)
def test_only_chooses_by_name_or_value(read, patterns, names):
    assert [cell.name for cell in grid.select(read(), patterns)] == names


def test_only_brings_what_the_chosen_cells_need(read):
    before = {"a": {}, "b": {"x": "{run:a}"}, "c": {}}
    study = read(before=before, axes={"r": {"SL": {"t": "{run:b}"}, "HL": {}}})
    assert [cell.name for cell in grid.select(study, ["SL"])] == ["a", "b", "SL"]
    assert [cell.name for cell in grid.select(study, ["HL"])] == ["HL"]
    assert [cell.name for cell in grid.select(study, [])] == ["a", "b", "c", "SL", "HL"]
    with pytest.raises(UsageError, match=r"--only sl\. Did you mean SL or HL\?"):
        grid.select(study, ["sl"])


# --- running them ---


def test_cells_run_once_and_those_that_are_missing_run_later(read, capfd):
    study = read()
    assert go(study) == 0
    assert calls() == [cell.name for cell in study.cells]
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "8 runs: 0 done, 8 to go, 1 at a time"
    assert lines[4].startswith("4/8 HL ipc10 set3: acc 61.2 % (")
    assert len(lines) == 9
    (study.cells[2].run / "result.json").unlink()
    assert go(study) == 0
    assert calls() == ["HL-ipc10-set0"]
    assert capfd.readouterr().out.splitlines()[1].startswith("8/8 HL ipc10 set0: acc")
    assert "said by HL-ipc10-set0\nsaid by HL-ipc10-set0" in (study.cells[2].run / "log.txt").read_text()


def test_a_failing_cell_is_written_down_and_the_others_go_on(read, capfd):
    text = acting(a="error", b="usage", c="exit", d="nothing", e="die", f="rude", g="")
    study = read(text, common={"data": "ddlight.x.Random", "data.ipc": 7, "model": {"class_path": "SoftLabel"}})
    assert go(study) == 1
    assert calls() == list("abcdefg")
    out = capfd.readouterr().out.splitlines()
    assert out[1] == "1/7 a: failed: ValueError: no such (log: runs/demo/a/log.txt)"
    assert out[7].startswith("7/7 g: acc")
    assert "ValueError: no such" in Path("runs/demo/a/log.txt").read_text()
    errors = [state(cell).note for cell in study.cells]
    assert errors[1:3] == ["a wrong value", "The run ended with exit code 3."]
    assert "no such file" in errors[3]
    assert errors[4] == "The worker process was killed by signal 9, as where memory runs out."
    assert errors[5:] == ["", ""]
    failed = json.loads(Path("runs/demo/a/failed.json").read_text())
    assert failed["cell"] == {"name": "a", "cell": "a", "method": "Random", "ipc": 7, "regime": "SoftLabel"}
    assert failed["error"] == "ValueError: no such\nluck"
    assert failed["arguments"] == list(study.cells[0].arguments)
    from ddlight.report.collect import collect

    frame = collect(["runs/demo"])
    assert sorted(frame["status"]) == ["done"] * 2 + ["failed"] * 5
    assert set(frame.loc[frame["status"] == "failed", "set.method"]) == {"Random"}


def test_a_cell_whose_regime_follows_from_its_protocol_is_written_down_with_both(read):
    study = read(acting(a="error"), common={"model.protocol": "rded"})
    assert go(study) == 1
    assert "--model.protocol=rded" in study.cells[0].arguments
    failed = json.loads(Path("runs/demo/a/failed.json").read_text())
    assert (failed["cell"]["protocol"], failed["cell"]["regime"]) == ("rded", "TeacherLabel")


def test_a_cell_that_succeeds_later_is_no_failure(read):
    study = read(acting(a="error", b=""))
    assert go(study) == 1
    assert state(study.cells[0]).word == "failed"
    Path("mended").touch()
    assert go(study) == 0
    assert calls() == ["a", "b", "a"]
    assert not Path("runs/demo/a/failed.json").exists()


def test_runs_that_others_need_come_first_even_with_free_workers(read):
    before = {"t": {"act": "rude"}, "u": {"x": "{run:t}"}}
    study = read(acting(a=""), before=before, common={"x": "{run:u}"})
    assert go(study, jobs=3) == 0
    assert calls() == ["t", "u", "a"]


def test_a_cell_that_another_process_finished_is_done(read, capfd):
    study = read(acting(a="", b=""))
    run = made(study.cells[0].run)
    Result.from_json({**EXAMPLE, "run": run.name}).write(run / "result.json")
    assert grid.run_study(study.cells, study.cells, 1, stand_in) == 0  # both were missing when the list was made
    assert calls() == ["b"]
    assert not Path("runs/demo/a/failed.json").exists()


def finished_meanwhile(arguments):
    """What workers call in place of a training that another process finishes first."""
    stand_in(arguments)
    raise FinishedError("The run is finished")


def test_a_cell_that_another_process_finishes_meanwhile_is_done(read):
    study = read(acting(a="", b=""))
    assert grid.run_study(study.cells, study.cells, 1, finished_meanwhile) == 0
    assert not list(Path("runs").rglob("failed.json"))


def test_a_result_of_another_cell_is_none_of_this_one(read):
    study = read(acting(a="", b=""))
    assert go(study) == 0
    one, other = (cell.run / "result.json" for cell in study.cells)
    one.write_bytes(other.read_bytes())
    assert state(study.cells[0]).note == "runs/demo/a/result.json is the result of another run, b. Move it away."
    assert [state(cell).word for cell in study.cells] == ["failed", "done"]


def test_a_cell_that_another_process_is_running_is_left_to_it(read, capfd):
    before = {"t": {"act": "busy"}}
    study = read(
        acting(a="busy", b=""), before=before, axes={"c": {"a": {"x": "{run:t}"}, "b": {"act": "busy"}, "d": {}}}
    )
    assert go(study) == 1
    assert calls() == ["t", "b", "d"]
    assert not list(Path("runs").rglob("failed.json"))
    assert [state(cell).word for cell in study.cells] == ["missing", "missing", "done"]
    assert capfd.readouterr().out.splitlines()[1:4] == [
        "1/4 t: being run by another process",
        "2/4 a: not run, since runs/before/t is being run by another process",
        "3/4 b: being run by another process",
    ]


class Overtaking:
    """Locks as fcntl.flock does, after another process has had the lock and done something first, once."""

    def __init__(self, monkeypatch, folder, act):
        self.file, self.act, self.calls, self.inner = folder / ".lock", act, 0, fcntl.flock
        monkeypatch.setattr(fcntl, "flock", self.flock)

    def flock(self, file, how):
        if how & fcntl.LOCK_EX and self.file.exists() and os.path.samestat(os.fstat(file), self.file.stat()):
            self.calls += 1
            if self.calls == 1:
                self.file.unlink()  # as a run that ends removes it
                self.act(self.inner)
        self.inner(file, how)


def digits(folder):
    words = [f"--{key}={value}" for key, value in yaml.safe_load(DIGITS)["common"].items()]
    return ["fit", *words, "--model=HardLabel", f"--trainer.run={folder}"]


def test_a_set_that_takes_long_is_made_before_the_run(home, monkeypatch):
    import torch

    from ddlight.cli import command_line as training
    from ddlight.core.errors import MissingSetError
    from ddlight.sets import module as base
    from ddlight.studies.workers import train

    torch.set_num_threads(1)
    monkeypatch.setattr(base, "BUILD_SECONDS", -1.0)
    folder = home / "runs" / "a"
    with pytest.raises(MissingSetError, match="'condense' in place of 'fit'"):
        training.run(digits(folder))
    train(digits(folder), threads=1)
    assert (folder / "result.json").exists()


def test_a_lock_that_was_removed_meanwhile_is_no_lock(home, monkeypatch):
    from ddlight.cli import command_line as training

    folder, others = made(home / "runs" / "a"), []

    def act(flock):
        others.append((folder / ".lock").open("w"))
        flock(others[0], fcntl.LOCK_EX)

    Overtaking(monkeypatch, folder, act)
    with pytest.raises(BusyError):
        training.run(digits(folder))
    assert (folder / ".lock").exists()
    others[0].close()


def test_a_run_that_another_process_finished_meanwhile_is_not_run_again(home, monkeypatch):
    from ddlight.cli import command_line as training

    folder = made(home / "runs" / "a")
    lock = Overtaking(monkeypatch, folder, lambda flock: Result.from_json(EXAMPLE).write(folder / "result.json"))
    with pytest.raises(FinishedError, match="is finished"):
        training.run(digits(folder))
    assert lock.calls == 2
    assert sorted(p.name for p in folder.iterdir()) == ["result.json"]


def test_what_a_killed_process_was_writing_is_removed(home):
    from ddlight.cli import command_line as training

    folder = made(home / "runs" / "a")
    for name in ("last.part", ".metrics.csv.1-2.part"):
        (folder / name).write_bytes(b"half")
    training.run(digits(folder))
    assert (folder / "result.json").exists() and not list(folder.glob("*.part"))


def test_a_run_that_is_being_written_is_busy(home):
    from ddlight.cli import command_line as training

    folder = made(home / "runs" / "a")
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="Another process is writing the run"):
            training.run(digits(folder))


def made(folder):
    folder.mkdir(parents=True)
    return folder


def test_nothing_runs_on_a_teacher_that_failed(read, capfd):
    before = {"t": {"act": "usage"}, "u": {"x": "{run:t}"}}
    study = read(acting(a="", b=""), before=before, axes={"c": {"a": {"x": "{run:u}"}, "b": {"x": 1}}})
    assert go(study) == 1
    assert calls() == ["t", "b"]
    assert [state(cell).word for cell in study.cells] == ["missing", "done"]
    lines = capfd.readouterr().out.splitlines()
    assert lines[2:4] == [
        "2/4 u: failed: not run, since runs/before/t failed",
        "3/4 a: failed: not run, since runs/before/u failed",
    ]


def test_several_workers_share_the_cells(read):
    study = read(axes={"set": list(range(6))})
    assert go(study, jobs=3) == 0
    assert sorted(calls()) == [f"set{n}" for n in range(6)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_workers_and_the_command(read, number, capfd):
    study = read(acting(a="wait", b="wait", c=""))
    before = signal.getsignal(number)

    def interrupt():
        while not all((cell.run / "log.txt").exists() and calls_seen() for cell in study.cells[:2]):
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    def calls_seen():
        return Path("calls.txt").exists() and len(Path("calls.txt").read_text().split()) == 2

    thread = threading.Thread(target=interrupt)
    thread.start()
    start = time.monotonic()
    assert go(study, jobs=2) == 143
    thread.join()
    assert time.monotonic() - start < 40
    assert sorted(calls()) == ["a", "b"]
    assert [state(cell).word for cell in study.cells] == ["missing"] * 3
    assert signal.getsignal(number) is before
    assert "stopped" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("number", "job", "requeued"),
    [(signal.SIGUSR1, "7_1", ["7_1"]), (signal.SIGTERM, "7_1", []), (signal.SIGUSR1, None, [])],
)
def test_slurms_warning_puts_the_job_back_into_the_queue(read, monkeypatch, number, job, requeued):
    study, found = read(acting(a="wait")), []
    monkeypatch.setattr(workers, "requeue", found.append)
    monkeypatch.setenv("SLURM_JOB_ID", job) if job else monkeypatch.delenv("SLURM_JOB_ID", raising=False)

    def warn():
        while not Path("calls.txt").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=warn)
    thread.start()
    assert go(study) == 143
    thread.join()
    assert found == requeued


def test_an_old_result_is_never_that_of_a_changed_study(write):
    study = read_study(write(STUDY), Path("runs"))
    assert go(study) == 0
    check_unchanged(study.cells)
    common = {"data": "Random", "model.student": "ConvNet", "trainer.devices": 1, "model.student.width": 8}
    check_unchanged(read_study(write(STUDY, common={**common, "data.ipc": 5}), Path("runs")).cells)
    changed = read_study(write(STUDY, common={**common, "model.student.width": 16}), Path("runs"))
    with pytest.raises(UsageError, match=r"has changed since runs/demo/HL-ipc1-set0 was run \(8 such folders\)"):
        check_unchanged(changed.cells)


def test_a_study_may_be_mended_where_nothing_is_held(write):
    study = read_study(write(acting(a="error")), Path("runs"))
    assert go(study) == 1
    mended = read_study(write(acting(a="")), Path("runs"))
    check_unchanged(mended.cells)
    (mended.cells[0].run / "last.ckpt").touch()
    with pytest.raises(UsageError, match="has changed"):
        check_unchanged(mended.cells)


def test_a_changed_config_file_or_teacher_is_a_changed_study(write, home):
    def digest(lr, teacher):
        (home / "base.yaml").write_text(f"model: {{lr: {lr}}}")
        common = {"config": "base.yaml", "t": "{run:t}"}
        path = write(STUDY, common=common, before={"t": {"width": teacher}})
        return read_study(path, Path("runs")).cells[0].digest

    assert digest(1, 8) == digest(1, 8)
    assert len({digest(1, 8), digest(2, 8), digest(1, 9)}) == 3


def test_a_change_of_what_a_config_builds_on_or_names_is_a_changed_study(write, home):
    (home / "deep").mkdir()
    texts = {
        "top.yaml": "config: deep/middle.yaml\ndata: {init_args: {dataset: deep/set.yaml}}",
        "deep/middle.yaml": "config: root.yaml",
        "deep/root.yaml": "model: {init_args: {students: [student.yaml]}}",
        "deep/student.yaml": "class_path: ConvNet",
        "deep/set.yaml": "class_path: Digits",
        "trainer.yaml": "devices: 1",
        "unrelated.yaml": "a: 1",
    }

    def digest(**changes):
        for name, text in (texts | changes).items():
            (home / name).write_text(text)
        path = write(STUDY, common={"config": "top.yaml", "trainer": "trainer.yaml"})
        return read_study(path, Path("runs")).cells[0].digest

    plain = digest()
    changed = [digest(**{name: f"{texts[name]}\nnew: 1"}) for name in texts if name != "unrelated.yaml"]
    assert len({plain, *changed}) == len(texts)
    assert digest(**{"unrelated.yaml": "b: 2"}) == digest(**{"deep/set.yaml": "# said\nclass_path: Digits"}) == plain
    loop = digest(**{"deep/set.yaml": "a: set.yaml"})
    assert loop == digest(**{"deep/set.yaml": "a: set.yaml"}) != plain


# --- where they stand, and how long they take ---


def test_the_list_shows_where_each_cell_stands(write, capsys):
    path = write(acting(a="", b="error", c="", d=""))
    study = read_study(path, Path("runs"))
    (study.cells[2].run).mkdir(parents=True)
    (study.cells[2].run / "last.ckpt").touch()
    grid.run_study(study.cells[:2], study.cells[:2], 1, stand_in)
    capsys.readouterr()
    assert grid.main([str(path), "--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "done       acc 61.2 %   a",
        "failed                  b: ValueError: no such",
        "unfinished              c",
        "missing                 d",
        "4 runs: 1 done, 1 failed, 1 unfinished, 1 missing",
    ]


@pytest.mark.parametrize("given", [("--jobs", "3"), ("--wandb", "mine")])
def test_the_list_takes_no_option_of_running(write, given):
    with pytest.raises(UsageError, match=f"--list runs nothing and takes no {' '.join(given)}: leave out"):
        grid.main([str(write(STUDY)), "--list", *given])


def test_a_damaged_result_is_not_done(read):
    (cell,) = read(acting(a="")).cells
    cell.run.mkdir(parents=True)
    (cell.run / "result.json").write_text("{")
    assert state(cell).word == "failed"
    assert "half written" in state(cell).note


def test_estimates_count_what_is_left_by_kind(read, monkeypatch):
    study = read()
    grid.run_study(study.cells[:1], study.cells[:1], 1, stand_in)
    monkeypatch.setattr(grid, "measure", lambda cell, threads: (100.0 if "SL" in cell.name else 50.0, 1.0))
    assert grid.estimates(study.cells, jobs=2) == [
        "               left      each  together",
        "HL ipc1      1 of 2   0:00:24   0:00:24  measured in 1",
        "HL ipc10     2 of 2   0:00:50   0:01:40  estimated",
        "SL ipc1      2 of 2   0:01:40   0:03:20  estimated",
        "SL ipc10     2 of 2   0:01:40   0:03:20  estimated",
        "0:08:44 in all, 0:04:22 for each of 2 jobs. "
        "Estimated is training alone, without teachers that are still to be trained.",
    ]


def test_a_time_that_is_not_known_is_not_nought(read, monkeypatch):
    known = (50.0, 1.0)
    monkeypatch.setattr(grid, "measure", lambda cell, threads: known if "HL" in cell.name else None)
    lines = grid.estimates(read().cells, jobs=1)
    assert lines[3] == "SL ipc1      2 of 2         -         -  not known"
    assert lines[-1].startswith("0:03:20 in all, 0:03:20 for each of 1 jobs, without what is not known")


@pytest.mark.parametrize(
    ("cores", "step", "cuda", "jobs"),
    [
        (2, 0.03, False, 2),
        (16, 0.03, False, 4),
        (2, 0.2, False, 1),
        (16, 0.2, False, 4),
        (16, 0.8, False, 1),
        (16, None, False, 1),
        (16, 0.001, True, 1),
    ],
)
def test_how_many_cells_run_at_once(cores, step, cuda, jobs):
    assert grid.default_jobs(cores, step, cuda) == jobs


def test_threads_are_shared_out(monkeypatch):
    monkeypatch.setattr(grid, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [grid.threads_of(jobs) for jobs in (1, 2, 3, 16)] == [8, 4, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert [grid.threads_of(jobs) for jobs in (1, 3, 8)] == [2, 2, 1]


def test_jobs_must_be_positive(write):
    with pytest.raises(UsageError, match="--jobs is 0"):
        grid.main([str(write(STUDY)), "--jobs", "0"])


# --- the real thing ---

DIGITS = """
name: digits
before:
  teacher:
    data: FullData
    data.dataset: Digits
    model: HardLabel
    model.student: ConvNet
    model.student.width: 8
    model.budget.steps: 5
    trainer.accelerator: cpu
common:
  data: Random
  data.dataset: Digits
  data.ipc: 2
  model.student: ConvNet
  model.student.width: 8
  model.budget.steps: 5
  trainer.accelerator: cpu
  trainer.devices: 1
axes:
  regime:
    HL: {model: HardLabel}
    SL: {model: SoftLabel, model.teacher: {class_path: RunTeacher, init_args: {run: "{run:teacher}"}}}
  set: [1]
"""


def test_a_study_on_digits_from_end_to_end(write, capfd):
    path = write(DIGITS)
    assert grid.main([str(path), "--jobs", "1"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["3 runs", "1/3 teacher", "2/3 HL set1", "3/3 SL set1"]
    hard, soft = (Result.read(Path("runs/digits", name)) for name in ("HL-set1", "SL-set1"))
    assert (hard.regime, soft.regime, soft.seed, soft.set.seed) == ("HardLabel", "SoftLabel", 1, 1)
    assert [teacher.name for teacher in soft.teachers] == ["teacher"]
    assert soft.set.content_sha256 == hard.set.content_sha256
    assert grid.main([str(path), "--jobs", "1"]) == 0
    assert capfd.readouterr().out == "3 runs: 3 done, 0 to go, 1 at a time\n"


def test_time_is_estimated_without_running(write, capfd):
    path = write(DIGITS)
    assert grid.main([str(path), "--estimate", "--jobs", "1", "--only", "HL"]) == 0
    out = capfd.readouterr().out
    assert out.splitlines()[1].split()[:4] == ["HL", "1", "of", "1"]
    assert "estimated" in out.splitlines()[1]
    assert not Path("runs").exists()


@pytest.mark.slow
def test_three_cells_in_tiny(write, capfd):
    path = write(DIGITS, axes={**yaml.safe_load(DIGITS)["axes"], "set": [0, 1]}, skip=[{"regime": "SL", "set": 1}])
    assert grid.main([str(path), "--tiny"]) == 0
    found = sorted(Path("runs/tiny/digits").glob("*/result.json"))
    assert [file.parent.name for file in found] == ["HL-set0", "HL-set1", "SL-set0"]
    assert {Result.read(file).budget.steps for file in found} == {20}
    assert {Result.read(file).student.args["norm"] for file in found} == {"batch"}


@pytest.mark.slow
def test_a_real_run_that_is_stopped_continues_from_its_checkpoint(write, home):
    content = yaml.safe_load(DIGITS)
    content["common"] |= {"model.budget.steps": 1500, "data.ipc": 10}
    path = write(DIGITS, common=content["common"], before={}, axes={"regime": {"HL": {"model": "HardLabel"}}})
    command = [sys.executable, "-m", "ddlight", "grid", str(path), "--jobs", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=home)
    log = home / "runs" / "digits" / "HL" / "log.txt"
    while "step " not in (log.read_text() if log.exists() else ""):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert f"The same command continues:\n  ddlight grid {path} --jobs 1\n" in out
    assert (log.parent / "last.ckpt").exists()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=home, check=True)
    assert "1/1 HL: acc" in done.stdout
    assert "continuing from" in log.read_text()

"""`ddlight grid --emit`: what it writes is read back as W&B's agent and SLURM read it, and every cell is in it once."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from test_sweeps import agent_command
from test_sweeps import grid as choices

from ddlight.core.errors import UsageError
from ddlight.core.result import Result
from ddlight.studies import grid

STUDY = """
name: demo
before:
  first: {data: FullData}
  second: {model.teacher: "{run:first}"}
  third: {data: FullData}
common: {data: Random, data.dataset: Digits, trainer.accelerator: cpu}
axes:
  regime:
    HL: {model: HardLabel}
    SL: {model: SoftLabel, model.teacher: "{run:second}"}
  kind:
    x-y: {a: 1}
    x: {a: 2}
  set: [0, 3]
"""
NAMES = [f"{regime}-{kind}-set{number}" for regime in ("HL", "SL") for kind in ("x-y", "x") for number in (0, 3)]
CALL = """#!/bin/bash
n=$(ls | grep -c script)
printf '%s\\n' "$@" > call$n.arguments
cat > call$n.script
echo "41$n;cluster"
"""


@pytest.fixture
def study(home):
    (home / "my study.yaml").write_text(STUDY)
    return "my study.yaml"


def emitted(capsys, *words):
    assert grid.main([str(word) for word in words]) == 0
    return capsys.readouterr().out


def runs_of(words):
    """Names of the runs that a command is about, in order, and those of them that it was asked for."""
    assert words[:2] == ["ddlight", "grid"]
    options = grid._parser().parse_args(words[2:])
    cells = grid._chosen(options)
    return [cell.name for cell in cells], [cell.name for cell in cells if cell.values]


def tool(folder, name, text):
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def submitted(home, text):
    """Run the script with a stand-in for sbatch: the arguments and the text of each job, in order."""
    tool(home, "sbatch", CALL)
    calls = home / "calls"
    calls.mkdir()
    path = {"PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", f"cd {calls} && bash -s"], input=text, text=True, check=True, env=path)
    found = sorted(calls.glob("*.arguments"), key=lambda file: int(file.stem[4:]))
    return [(file.read_text().split(), file.with_suffix(".script").read_text()) for file in found]


def task(home, script, **environment):
    """Run a job's text with a stand-in for srun: the command that it starts."""
    tool(home, "srun", '#!/bin/bash\nprintf "%s\\0" "$@"\n')
    path = {"PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash"], input=script, text=True, check=True, capture_output=True, env={**path, **environment}
    )
    return [word for word in done.stdout.split("\0")[:-1] if not word.startswith(("--kill-on", "--cpus-per"))]


def sbatch_options(script):
    lines = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    return dict(word.partition("=")[::2] for line in lines for word in shlex.split(line))


# --- W&B ---


def test_a_sweep_has_every_cell_once(study, capsys):
    sweep = yaml.safe_load(emitted(capsys, study, "--emit", "wandb"))
    assert (sweep["method"], sweep["program"], sweep["project"], sweep["name"]) == (
        "grid",
        "ddlight",
        "ddlight",
        "demo",
    )
    commands = [agent_command(sweep, chosen) for chosen in choices(sweep)]
    assert {words[0] for words in commands} == {"/usr/bin/env"}
    assert all("--wandb=ddlight" in words for words in commands)
    assert [runs_of(words[1:])[1] for words in commands] == [[name] for name in NAMES]


def test_a_sweep_says_how_what_cells_need_is_made_first(study, capsys):
    text = emitted(capsys, study, "--emit", "wandb", "--only", "SL", "--wandb", "mine")
    sweep = yaml.safe_load(text)
    assert sweep["project"] == "mine" and "--wandb=mine" in sweep["command"]
    first = text.split("Command:")[1].split("   first")[0]
    assert runs_of(shlex.split(first)) == (["first", "second"], [])
    assert "wandb agent ENTITY/mine/SWEEP" in text
    assert "--before" not in emitted(capsys, study, "--emit", "wandb", "--only", "HL")


def comments(text):
    """The words of a file's comments, in one line."""
    return " ".join(" ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#")).split())


def test_a_sweep_says_that_it_hands_out_a_cell_once_and_when_agents_start(study, capsys):
    said = comments(emitted(capsys, study, "--emit", "wandb", "--out", "x.yaml") + Path("x.yaml").read_text())
    assert "hands out each cell once, and none again that failed or was stopped: start a new sweep of this file" in said
    assert "continue" not in said
    agents = "Start agents when the first command has ended: each gives up after 3 failures in its first minute."
    assert agents in said
    assert agents not in comments(emitted(capsys, study, "--emit", "wandb", "--only", "HL"))


# --- SLURM ---


def test_jobs_are_the_tasks_of_an_array_at_once(study, home, capsys):
    (_, first), (_, tasks) = submitted(home, emitted(capsys, study, "--emit", "slurm", "--jobs", "3"))
    assert sbatch_options(tasks)["--array"] == "0-7%3"
    assert "--array" not in sbatch_options(first)
    assert "--jobs=1" in task(home, tasks, SLURM_ARRAY_TASK_ID="7")


def test_an_array_has_every_cell_once_after_what_they_need(study, home, capsys):
    words = [study, "--emit", "slurm", "--cpus", "6", "--time", "1-12", "--partition", "gpu", "--account", "me"]
    (arguments, first), (then, tasks) = submitted(home, emitted(capsys, *words))
    assert arguments == ["--parsable"]
    assert then == ["--dependency=afterok:410", "--kill-on-invalid-dep=yes"]
    assert (home / "calls" / "runs" / "slurm").is_dir()
    assert runs_of(task(home, first)) == (["first", "second", "third"], [])
    options = sbatch_options(tasks)
    assert options["--array"] == "0-7"
    assert "--array" not in sbatch_options(first)
    assert options["--output"] == "runs/slurm/%x-%A_%a.out"
    commands = [task(home, tasks, SLURM_ARRAY_TASK_ID=str(number)) for number in range(8)]
    assert [runs_of(command)[1] for command in commands] == [[name] for name in NAMES]
    for script in (first, tasks):
        given = sbatch_options(script)
        assert given["--gpus-per-node"] == given["--nodes"] == given["--ntasks-per-node"] == "1"
        assert (given["--cpus-per-task"], given["--time"]) == ("6", "1-12")
        assert (given["--partition"], given["--account"], given["--signal"]) == ("gpu", "me", "SIGUSR1@120")
        assert "--requeue" in given


def test_an_array_repeats_what_was_typed(study, home, capsys):
    words = [study, "--emit", "slurm", "--gpus", "0", "--tiny", "--runs", "a b", "--only", "SL", "--only", "x-y"]
    words += ["--root", "."]
    (_, first), (_, tasks) = submitted(home, emitted(capsys, *words, "--wandb", "mine"))
    before, cell = task(home, first), task(home, tasks, SLURM_ARRAY_TASK_ID="1")
    assert before[2:] == [
        study,
        f"--root={home}",
        "--runs=a b",
        "--jobs=1",
        "--tiny",
        "--before",
        "--only=SL",
        "--only=x-y",
    ]
    assert cell[2:] == [
        study,
        f"--root={home}",
        "--runs=a b",
        "--jobs=1",
        "--tiny",
        "--wandb=mine",
        "--only=SL-x-y-set3",
    ]
    assert runs_of(before) == (["first", "second"], [])
    assert sbatch_options(tasks)["--array"] == "0-1"
    assert "--gpus-per-node" not in sbatch_options(tasks)


def test_an_array_of_cells_that_need_nothing_is_one_job(study, home, capsys):
    ((arguments, tasks),) = submitted(home, emitted(capsys, study, "--emit", "slurm", "--only", "HL-x-set0"))
    assert arguments == []
    assert runs_of(task(home, tasks, SLURM_ARRAY_TASK_ID="0")) == (["HL-x-set0"], ["HL-x-set0"])


# --- both ---


def test_it_is_written_to_a_file_that_is_ours(study, home, capsys):
    out = home / "an array.sh"
    for only in ("HL", "SL"):
        assert emitted(capsys, study, "--emit", "slurm", "--only", only, "--out", "an array.sh") == ""
    assert f"bash '{out.name}'" in out.read_text() and "SL-x-set0" in out.read_text()
    out.write_text("mine")
    with pytest.raises(UsageError, match="was not written by `ddlight grid`"):
        grid.main([study, "--emit", "wandb", "--out", "an array.sh"])
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--emit", "slurm", "--gpus", "2"], r"--gpus is 2; a cell of an array trains on one device"),
        (["--emit", "slurm", "--time", "4h"], r"--time is '4h'"),
        (["--emit", "wandb", "--cpus", "2"], r"--cpus is an option of --emit slurm"),
        (["--emit", "wandb", "--jobs", "2"], r"--jobs is 2; .* leave out --jobs, and start as many agents"),
        (["--emit", "slurm", "--jobs", "0"], r"--jobs is 0; it takes 1 or more"),
        (["--list", "--time", "4:00:00"], r"--time is an option of --emit slurm"),
        (["--out", "x.yaml"], r"--out is an option of --emit:"),
        (["--emit", "slurm", "--before"], r"leave out --before"),
        (["--before", "--only", "HL"], r"No cell of demo needs a run before it"),
    ],
)
def test_what_does_not_go_together_is_refused(study, words, message):
    with pytest.raises(UsageError, match=message):
        grid.main([study, *words])


def test_the_whole_name_of_a_cell_is_that_cell_alone(home, study, capsys):
    """Beside it, 'x-y' is a value of `kind`, which other cells have."""
    Path("other.yaml").write_text("{axes: {a: {x: {b: 1}, z: {b: 2}}, kind: {y: {c: 1}, x-y: {c: 2}}}}")
    assert runs_of(["ddlight", "grid", "other.yaml", "--only=x-y"])[1] == ["x-y"]
    assert runs_of(["ddlight", "grid", "other.yaml", "--only=x-?"])[1] == ["x-y", "x-x-y", "z-x-y"]
    assert len(runs_of(["ddlight", "grid", study, "--only=x-y"])[1]) == 4


DIGITS = """
before:
  teacher: &run
    {data: FullData, data.dataset: Digits, data.dataset.size: 8, model: HardLabel, model.student: ConvNet,
     model.student.depth: 1, model.student.width: 4, model.budget.steps: 5, trainer.accelerator: cpu}
common: {<<: *run, data: Random, data.ipc: 2, trainer.devices: 1}
axes:
  regime:
    HL: {}
    SL: {model: SoftLabel, model.teacher: {class_path: RunTeacher, init_args: {run: "{run:teacher}"}}}
"""


def test_tasks_of_an_array_run(home, capsys):
    Path("digits.yaml").write_text(DIGITS)
    (_, first), (_, tasks) = submitted(home, emitted(capsys, "digits.yaml", "--emit", "slurm", "--gpus", "0"))
    assert grid.main(task(home, first)[2:]) == 0
    assert [file.parent.name for file in Path("runs").rglob("result.json")] == ["teacher"]
    assert grid.main(task(home, tasks, SLURM_ARRAY_TASK_ID="1")[2:]) == 0
    assert Result.read(Path("runs/digits/SL")).regime == "SoftLabel"
    assert not Path("runs/digits/HL").exists()
    assert grid.main(["digits.yaml", "--list"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "3 runs: 2 done, 1 missing"


def test_a_run_of_a_sweep_is_the_agents(home, capsys, monkeypatch):
    Path("digits.yaml").write_text(DIGITS)
    sweep = yaml.safe_load(emitted(capsys, "digits.yaml", "--emit", "wandb"))
    words = agent_command(sweep, {"only": "HL"})
    Path("chosen.yaml").write_text("{wandb_version: 1, only: {value: HL}}")
    given = {"MODE": "offline", "SWEEP_ID": "s", "RUN_ID": "agents", "SWEEP_PARAM_PATH": str(home / "chosen.yaml")}
    for name, value in given.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    assert grid.main(words[3:]) == 0
    assert Result.read(Path("runs/digits/HL")).regime == "HardLabel"
    assert len(list(Path("runs/digits/HL/wandb").glob("offline-run-*-agents/*.wandb"))) == 1

"""The sbatch text: valid bash, the right srun arguments, and a submission that asks first."""

import os
import shlex
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ddlight.core.errors import DataError, UsageError
from ddlight.studies.slurm import Job, main, parse, render


def run(text: str, folder: Path, **env: str) -> list[str]:
    """Run the text with a stand-in for srun; return the arguments that it was given."""
    fake = folder / "bin" / "srun"
    fake.parent.mkdir(exist_ok=True)
    fake.write_text('#!/bin/bash\nprintf "%s\\n" "$@" "OMP=$OMP_NUM_THREADS"\n')
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    path = f"{fake.parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    done = subprocess.run(
        ["bash"], input=text, text=True, check=True, capture_output=True, cwd=folder, env={"PATH": path, **env}
    )
    return done.stdout.splitlines()


def options(text: str) -> dict[str, str]:
    """Read the #SBATCH lines as a shell would."""
    words = [shlex.split(line.removeprefix("#SBATCH ")) for line in text.splitlines() if line.startswith("#SBATCH ")]
    assert all(len(word) == 1 for word in words)
    pairs = [word[0].partition("=") for word in words]
    return {key: value for key, _, value in pairs}


def test_a_job_of_two_nodes(tmp_path: Path) -> None:
    text = render(Job("configs/edc.yaml", nodes=2, gpus=8, cpus=12, time="1-12", partition="gpu,long", account="me"))
    assert text.startswith("#!/bin/bash\n")
    assert options(text) == {
        "--job-name": "edc",
        "--nodes": "2",
        "--ntasks-per-node": "8",
        "--cpus-per-task": "12",
        "--time": "1-12",
        "--gpus-per-node": "8",
        "--partition": "gpu,long",
        "--account": "me",
        "--signal": "SIGUSR1@120",
        "--requeue": "",
        "--open-mode": "append",
        "--output": "runs/slurm/%x-%j.out",
    }
    assert run(text, tmp_path) == [
        "--kill-on-bad-exit=1",
        "--cpus-per-task=12",
        "ddlight",
        "fit",
        "--config",
        "configs/edc.yaml",
        "--trainer.num_nodes=2",
        "--trainer.devices=8",
        "--trainer.accelerator=gpu",
        "OMP=12",
    ]


def test_sbatch_reads_options_before_any_command() -> None:
    """Options below the first command would be comments to SLURM."""
    lines = render(Job("x.yaml", array="0-1", partition="p", account="a")).splitlines()
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first_command:])
    assert sum(line.startswith("#SBATCH") for line in lines) == 13


def test_a_cpu_job_has_one_process_and_no_gpus(tmp_path: Path) -> None:
    text = render(Job("x.yaml", gpus=0, command="condense"))
    assert "--gpus-per-node" not in options(text)
    assert options(text)["--ntasks-per-node"] == "1"
    words = run(text, tmp_path)
    assert words[2:4] == ["ddlight", "condense"]
    assert {"--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.num_nodes=1"} <= set(words)


def test_an_array_passes_its_seeds_on(tmp_path: Path) -> None:
    text = render(Job("x.yaml", array="0-4%2"))
    assert options(text)["--array"] == "0-4%2"
    assert options(text)["--output"].endswith("%A_%a.out")
    assert "--data.seed=3" in run(text, tmp_path, SLURM_ARRAY_TASK_ID="3")
    assert not any("seed" in word for word in run(render(Job("x.yaml")), tmp_path))


def test_words_reach_ddlight_as_they_were_given(tmp_path: Path) -> None:
    config, extra = "my conf's/$HOME x.yaml", ("--a.b=c d", "--x='$HOME'", '--y="`id`"', "--z=*", "--w={a: [1, 2]}")
    text = render(Job(config, extra=extra, logs="my logs"))
    words = run(text, tmp_path)
    assert words[words.index("--config") + 1] == config
    assert tuple(words[-6:-1]) == extra
    assert options(text)["--job-name"] == "-HOME-x"
    assert options(text)["--output"] == "my logs/%x-%j.out"
    assert "mkdir -p 'my logs'" in text


@pytest.mark.parametrize("stem", ["bash", "interactive"])
def test_no_job_passes_for_an_interactive_one(stem: str) -> None:
    assert options(render(Job(f"{stem}.yaml")))["--job-name"] == f"ddlight-{stem}"


@pytest.mark.parametrize("time", ["30", "30:00", "4:00:00", "1-0", "1-12:30", "1-12:30:00"])
@pytest.mark.parametrize("array", ["0", "0-4", "0-10:2", "1,3,5-7", "0-9%2", None])
def test_slurms_own_forms_are_taken(time: str, array: str | None) -> None:
    given = options(render(Job("x.yaml", time=time, array=array)))
    assert (given["--time"], given.get("--array")) == (time, array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": "4h"}, r"--time is '4h'.*--time 4:00:00"),
        ({"time": "4:00:00:00"}, "--time is"),
        ({"time": "1:00\n#SBATCH --nodes=9"}, "--time is"),
        ({"array": "0..4"}, r"--array is '0\.\.4'.*--array 0-4"),
        ({"array": "5-"}, "--array is"),
        ({"partition": "a b"}, "--partition is 'a b'"),
        ({"account": ""}, "--account is"),
        ({"nodes": 0}, r"--nodes is 0; it takes 1 or more"),
        ({"gpus": -1}, "--gpus is -1; it takes 0 or more"),
        ({"cpus": 0}, "--cpus is 0"),
        ({"extra": ("--trainer.devices=2",)}, r"contradicts.*use --gpus"),
        ({"extra": ("--trainer.num_nodes", "2")}, r"contradicts.*use --nodes"),
        ({"extra": ("--data.seed=1",), "array": "0-1"}, r"contradicts.*use --array"),
    ],
)
def test_what_slurm_would_refuse_is_refused_here(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        render(replace(Job("x.yaml"), **change))  # type: ignore[arg-type]


def test_a_seed_may_be_passed_on_without_an_array(tmp_path: Path) -> None:
    assert "--data.seed=1" in run(render(Job("x.yaml", extra=("--data.seed=1",))), tmp_path)


def test_arguments_are_read_and_the_rest_passed_on() -> None:
    line = """
    --config x.yaml --nodes 2 --gpus 4 --cpus 6 --time 1:00:00 --partition p --account a --array 0-1
    --command condense --logs l --yes -- --a=1 --yes --config=y
    """
    job, given = parse(shlex.split(line))
    assert job == Job("x.yaml", "condense", 2, 4, 6, "1:00:00", "p", "a", "0-1", "l", ("--a=1", "--yes", "--config=y"))
    assert given.yes and not given.dry_run
    assert parse(["--config", "x.yaml"])[0] == Job("x.yaml")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a configuration, and a PATH without SLURM."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "x.yaml").write_text("# X.\n")
    monkeypatch.chdir(work)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return work


def fake_sbatch(folder: Path, code: int) -> None:
    fake = folder.parent / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\necho Submitted $1\necho no such partition >&2\nexit {code}\n")
    fake.chmod(0o755)


def test_a_dry_run_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "x.yaml", "--dry-run"]) == 0
    assert capsys.readouterr().out == render(Job("x.yaml"))
    assert [p.name for p in folder.iterdir()] == ["x.yaml"]


@pytest.mark.usefixtures("folder")
def test_a_missing_configuration_is_missing_data() -> None:
    with pytest.raises(DataError, match=r"no configuration y\.yaml.*ddlight configs"):
        main(["--config", "y.yaml", "--dry-run"])


def test_submitting_writes_the_file_and_calls_sbatch(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_sbatch(folder, 0)
    assert main(["--config", "x.yaml", "--yes"]) == 0
    assert capsys.readouterr().out == render(Job("x.yaml")) + "Submitted x.sbatch\n"
    assert (folder / "x.sbatch").read_text() == render(Job("x.yaml"))
    assert (folder / "runs" / "slurm").is_dir()
    assert main(["--config", "x.yaml", "--yes", "--nodes", "2"]) == 0  # its own file may be replaced
    assert "--nodes=2" in (folder / "x.sbatch").read_text()


def test_a_file_of_the_users_is_not_overwritten(folder: Path) -> None:
    (folder / "x.sbatch").write_text("mine")
    with pytest.raises(UsageError, match=r"x\.sbatch exists and was not written.*mv "):
        main(["--config", "x.yaml", "--yes"])
    assert (folder / "x.sbatch").read_text() == "mine"


def test_without_sbatch_the_line_to_type_is_given(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"sbatch is not on .*mkdir -p runs/slurm && sbatch x\.sbatch"):
        main(["--config", "x.yaml", "--yes"])
    assert (folder / "x.sbatch").read_text() == render(Job("x.yaml"))


def test_a_refusal_of_sbatch_is_passed_on(folder: Path) -> None:
    fake_sbatch(folder, 1)
    with pytest.raises(UsageError, match=r"sbatch refused x\.sbatch: no such partition"):
        main(["--config", "x.yaml", "--yes"])


class Terminal:
    """Standard input at which somebody types one line."""

    def __init__(self, line: str, tty: bool = True) -> None:
        self.line, self.tty = line, tty

    def isatty(self) -> bool:
        return self.tty

    def readline(self) -> str:
        return self.line


@pytest.mark.parametrize(("line", "submitted"), [("y\n", True), ("YES\n", True), ("\n", False), ("", False)])
def test_it_asks_first(
    line: str, submitted: bool, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_sbatch(folder, 0)
    monkeypatch.setattr(sys, "stdin", Terminal(line))
    assert main(["--config", "x.yaml"]) == 0
    out = capsys.readouterr().out
    assert "Submit this job? [y/N] " in out
    assert ("Submitted x.sbatch" in out, "Not submitted." in out) == (submitted, not submitted)
    assert (folder / "x.sbatch").exists() == submitted


def test_nobody_to_ask_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("y\n", tty=False))
    with pytest.raises(UsageError, match="--yes"):
        main(["--config", "x.yaml"])
    assert not (folder / "x.sbatch").exists()

"""README's commands parse and resolve, and its example of a method works as it stands."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from ddlight import __main__ as cli
from ddlight.core import discover

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def commands():
    """The ddlight command lines of README's shell blocks, comments and continuations resolved, loops at their first."""
    text = "\n".join(blocks("bash")).replace("\\\n", " ")
    for name, first in re.findall(r"for (\w+) in (\w+)", text):
        text = text.replace(f"${name}", first)
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    found = [
        words[next(i for i, w in enumerate(words) if w.endswith("ddlight")) + 1 :]
        for words in lines
        if any(w.endswith("ddlight") for w in words[:1])
    ]
    return [words for words in found if words]


@pytest.fixture(autouse=True)
def away(tmp_path, monkeypatch):
    """Run in an empty folder that sees the repository's configs."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "my_photos").mkdir()
    for name in ("cat", "dog"):
        folder = tmp_path / "my_photos" / name
        folder.mkdir()
        from PIL import Image

        for k in range(30):
            Image.new("RGB", (20, 20), (k, 40, 60)).save(folder / f"{k}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDLIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_MODE", "offline")


def test_there_are_commands():
    assert len(commands()) >= 8


def read_results(words):
    """Run a command that reads results on those of a tiny run, which serves as a teacher too."""
    study = ROOT / "configs" / "studies" / f"{Path(words[1]).name}.yaml"
    assert study.exists() or Path(words[1]).name in ("runs", "my_photos")
    assert cli.main(["fit", "--config", "configs/quickstart.yaml", "--tiny", "--trainer.progress=false"]) == 0
    made = next(Path("runs/tiny/quickstart").iterdir())
    for place in {Path("runs/teacher"), Path(words[1]) / "first"}:
        shutil.copytree(made, place)
    if "--analysis" in words:
        assert cli.main(next(other for other in commands() if other[0] == "analyze")) == 0
    assert cli.main(words) == 0


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words)[:60])
def test_command_resolves(words, tmp_path, capsys):
    if words[0] in ("report", "figures", "analyze"):
        read_results(words)
        return
    if words[0] == "grid":
        words = [*words, "--list"] if "--list" not in words else words
    elif words[0] not in ("submit", "configs") and "--dry-run" not in words:
        words = [*words, "--dry-run"]
    assert cli.main(words) == 0
    assert not list(tmp_path.glob("runs/**/result.json"))


def test_python_block_is_a_method(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "brightest.py").write_text(blocks("python")[2])
    monkeypatch.setenv("DDLIGHT_METHODS", str(tmp_path / "mine"))
    assert "Brightest" in [entry.name for entry in discover.extra_methods(tmp_path / "mine")]
    fit = ["fit", "--config", "configs/quickstart.yaml", "--data=Brightest", "--tiny", "--trainer.progress=false"]
    assert cli.main(fit) == 0
    assert len(list(tmp_path.glob("cache/Digits/Brightest/ipc10/*/selection.csv"))) == 1


def test_the_three_lines_of_python_choose_load_and_judge(capsys):
    exec(blocks("python")[0], {})
    count, acc = capsys.readouterr().out.split()
    assert count == "100" and float(acc) > 80


def test_the_readers_list_is_short_and_its_files_are_there():
    section = README.split("## Read the code")[1].split("\n## ")[0]
    named = re.findall(r"`((?:ddlight/)?[a-z_/0-9]+\.py)`", section)
    lines = sum(len((ROOT / "ddlight" / name.removeprefix("ddlight/")).read_text().splitlines()) for name in named)
    assert len(named) <= 15 and lines <= 3500
    assert abs(int(re.search(r"([\d,]+) lines", section)[1].replace(",", "")) - lines) <= 300


def test_links_lead_somewhere():
    for name in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / name).exists(), name


def test_the_python_example_trains(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(blocks("python")[1], {})
    assert float(capsys.readouterr().out) > 80
    assert (tmp_path / "runs" / "python" / "student.safetensors").is_file()


def test_protocols_in_the_table_are_all_there_are():
    from ddlight.recipes.table import PROTOCOLS

    row = next(line for line in README.splitlines() if line.startswith("| Protocols"))
    assert set(re.findall(r"`(\w+)`", row.split(":")[0])) == set(PROTOCOLS)


def test_the_quickstart_says_the_run_that_it_writes(capsys):
    assert cli.main(["fit", "--config", "configs/quickstart.yaml", "--dry-run"]) == 0
    folder = re.search(r"runs/quickstart/seed0-\w+", capsys.readouterr().out)
    assert folder is not None and f"run       {folder[0]}\n" in README

"""The notebooks run from top to bottom, within three minutes of CPU time each, and are kept without outputs."""

import os
import runpy
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from ddlight.data import Digits
from ddlight.methods.scoring.run import Scoring, ScoringRun
from ddlight.networks.students import ConvNet
from ddlight.recipes.budget import Budget

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS, SCRIPTS = sorted(FOLDER.glob("*.ipynb")), sorted(FOLDER.glob("*.py"))
LONGEST = 180


def output_text(notebook):
    """What all cells printed and returned, as one text."""
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    return "".join(o.get("text", "") or str(o.get("data", {})) for o in outputs)


def test_there_are_four():
    names = ["01_quickstart", "02_label_regimes", "03_new_method", "04_distilled_images"]
    assert [path.stem for path in NOTEBOOKS] == names


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_finds_what_it_imports_and_scores_a_table(path, home):
    script = runpy.run_path(str(path))
    run = ScoringRun(Scoring(ConvNet(1, 4), budget=Budget(epochs=4), ring=3), Digits(size=8), 10, 0, home / "cache")
    run.make()
    table = run.table()
    assert callable(script["main"]) and script["SCORES"]
    assert all(score(table).shape == (len(table.ids),) for score in script["SCORES"].values())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_kept_without_outputs(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DDLIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(shutil.copy(path, tmp_path), as_version=4)
    before = os.times()
    client = NotebookClient(
        notebook, timeout=LONGEST, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    text = output_text(notebook)
    assert "ddlight: " not in text and "Traceback" not in text
    assert "| Random |" in text
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert 5 < spent < LONGEST

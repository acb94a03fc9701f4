"""Every study that is shipped: what its header says, and that every kind of its runs parses, is built and has a plan.

Data and weights of paper-scale studies are on no test machine, so that nothing is read, made or trained here.
"""

import re
from pathlib import Path

import pytest
from PIL import Image

from ddlight.cli import command_line as training
from ddlight.data.table import TABLE
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Setting
from ddlight.recipes.table import resolve
from ddlight.studies import grid
from ddlight.studies.study import read_study

CONFIGS = Path(__file__).parents[2] / "configs"
STUDIES = [pytest.param(file, id=file.stem) for file in sorted((CONFIGS / "studies").glob("*.yaml"))]
PAPERS = [p for p in STUDIES if re.match("(ht|dvc)_(table|fig)[0-9_]+$", p.id)]
TABLES = {
    "ht": {"table1", "table2", "table3", "table6", "table7_8", "table11", "table12", "table14"},
    "dvc": {"table2", "table3", "table4", "table6", "table7"},
}
FIGURES = {"ht": {"fig1", "fig2", "fig4", "fig8"}, "dvc": set()}


@pytest.fixture
def photos(home):
    """The folder of pictures that the study my_photos reads."""
    for name in ("cat", "dog"):
        (home / "my_photos" / name).mkdir(parents=True)
        for number in range(30):
            Image.new("RGB", (20, 20), (number, 40, 60)).save(home / "my_photos" / name / f"{number}.png")


@pytest.fixture
def build(home, photos, monkeypatch):
    """Parse a run's command line and build its classes: build(cell) gives trainer, model and data module."""
    monkeypatch.setattr(training.CLI, "_run_subcommand", lambda self, name: None)
    return lambda cell: training.run(list(cell.arguments))


def kinds(study):
    """The runs before, and cells among which is every value of an axis, and every method in every regime."""
    seen, found = set(), list(study.before)
    for cell in study.cells:
        pair = tuple(cell.values.get(axis) for axis in ("method", "regime", "protocol"))
        brought = {pair, *((axis, value) for axis, value in cell.values.items() if axis != "set")}
        if not brought <= seen:
            found.append(cell)
            seen |= brought
    return found


def header(file):
    return re.match(r"(#.*\n)+", file.read_text())[0]


@pytest.mark.parametrize("file", STUDIES)
def test_the_header_says_what_it_is_and_what_to_type(file):
    text = header(file)
    assert re.fullmatch(r"# \S.{20,118}[.?]", text.splitlines()[0])
    for word in ("Paper:", "Command:", "Expected:", "Time:"):
        assert re.search(rf"^# {word} ", text, re.M), word
    commands = re.findall(r"ddlight grid (\S+)", text)
    assert commands and set(commands) == {f"configs/studies/{file.name}"}
    assert re.findall(r"ddlight report (\S+)", text) == [f"runs/{file.stem}"]
    assert read_study(file, Path("runs")).name == file.stem


@pytest.mark.parametrize("file", STUDIES)
def test_every_kind_of_its_runs_is_built_and_has_a_plan(build, file):
    for cell in kinds(read_study(file, Path("runs"))):
        cli = build(cell)
        plan = cli.model.plan(cli.datamodule)
        assert cli.trainer.run == cell.run
        assert type(cli.datamodule).__name__ == cell.overrides.get("data", "FullData")  # else that of a config
        if "model.budget" in cell.overrides:
            assert plan.budget == Budget(**cell.overrides["model.budget"])


def test_every_table_and_figure_has_its_study():
    found = {param.id for param in PAPERS}
    assert found == {f"{paper}_{name}" for paper in TABLES for name in TABLES[paper] | FIGURES[paper]}


@pytest.mark.parametrize("file", PAPERS)
def test_a_study_of_a_paper_claims_no_number_of_ours_and_says_how_many_cells_it_has(file):
    text, study = header(file), read_study(file, Path("runs"))
    assert re.search(r"^# Expected: not measured by us[.,]", text, re.M)
    assert re.search(rf"^# Time:     {len(study.cells)} cells\W[^#]*(\n#  [^#]*)*not measured; --estimate", text, re.M)
    assert re.search(r"^# Guess:    ", text, re.M)
    number = {"ht": "2604.18811", "dvc": "2606.18209"}[file.stem.split("_")[0]]
    assert f"arXiv {number}" in text
    assert {"Random"} <= {cell.values.get("method") for cell in study.cells}
    assert grid.select(study, ["set0"])


@pytest.mark.parametrize("file", [p for p in PAPERS if "FullData_" in p.values[0].read_text()])
def test_full_data_see_as_many_images_as_the_subsets_of_their_column(file):
    cells = read_study(file, Path("runs")).cells
    full = [cell for cell in cells if cell.values.get("method", "").startswith("FullData_")]
    assert full
    for cell in full:
        given, info = cell.overrides, TABLE[cell.overrides["data.dataset"]]
        setting = Setting(info.num_classes, given["data.ipc"], info.channels, info.flip, size=info.size)
        epochs = resolve(given["model.protocol"], setting).budget.epochs
        expected = epochs * given["data.ipc"] * info.num_classes / info.train
        assert given["model.budget"]["full_epochs"] == pytest.approx(expected, rel=1e-3), cell.name

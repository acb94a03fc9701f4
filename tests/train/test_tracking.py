"""W&B: one run per ddlight run, which a continued one goes on in, beside the loggers that are configured."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from ddlight.cli import command_line as training
from ddlight.core.errors import UsageError
from ddlight.studies import workers
from ddlight.train import tracking

WANDB = "lightning.pytorch.loggers.WandbLogger"
CSV = "lightning.pytorch.loggers.CSVLogger"
MODEL = ["--model=HardLabel", "--model.student=ConvNet", "--model.student.width=8", "--model.budget.steps=2"]
FIT = ["fit", "--data=Random", "--data.dataset=Digits", "--data.ipc=1", *MODEL]
CPU = ["--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.progress=false", "--trainer.run=runs/a"]


@pytest.fixture
def offline(home, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    return home


def given(run, write=True):
    return tracking.wandb_logger("project", Path(run), write)["init_args"]


def test_an_id_belongs_to_one_run_folder_and_stays(offline):
    first, other = given("x/study/HL"), given("y/study/HL")
    assert first["name"] == other["name"] == "study-HL"
    assert first["id"] != other["id"]
    assert re.fullmatch(r"[0-9a-f]{12}", first["id"])
    assert given("x/study/HL") == given("x/study/HL", write=False) == first


def test_who_may_not_write_gets_no_id_and_leaves_no_folder(offline):
    assert given("runs/a", write=False)["id"] is None
    assert not Path("runs").exists()


def test_configured_loggers_stay_and_another_runs_wandb_goes(offline):
    csv, old = {"class_path": CSV}, {"class_path": WANDB, "init_args": {"id": "old"}}
    for configured, kept in ((False, []), (None, []), (csv, [csv]), (old, []), ([old, csv], [csv])):
        *others, ours = tracking.with_wandb(configured, "project", Path("runs/a"), True)
        assert others == kept
        assert (ours["class_path"], ours["init_args"]["id"]) == (WANDB, Path("runs/a/wandb_id").read_text().strip())
    with pytest.raises(UsageError, match=r"trainer\.logger is true"):
        tracking.with_wandb(True, "project", Path("runs/a"), True)


def test_a_worker_ends_the_wandb_run_of_each_cell_even_if_it_fails(monkeypatch):
    ended = []

    def fail(arguments):
        raise ValueError(arguments)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(finish=lambda: ended.append("cell")))
    monkeypatch.setattr(training, "run", fail)
    for count in (1, 2):
        with pytest.raises(ValueError, match="fit"):
            workers.train(["fit"], threads=1)
        assert len(ended) == count


def test_a_fit_logs_to_wandb_and_to_the_configured_logger(offline):
    wandb = pytest.importorskip("wandb")
    logger = [f"--trainer.logger={CSV}", "--trainer.logger.save_dir=csv", "--wandb=project"]
    training.run([*FIT, *CPU, *logger, "--dry-run"])
    assert not Path("runs").exists()
    workers.train([*FIT, *CPU, *logger], threads=1)
    assert wandb.run is None
    wandb.teardown()  # its service stays in the folder where it was started, which is this test's
    identity = Path("runs/a/wandb_id").read_text().strip()
    assert [p.name for p in Path("runs/a/wandb").glob(f"offline-run-*-{identity}")]
    assert list(Path("csv").rglob("metrics.csv"))
    named = yaml.safe_load(Path("runs/a/config.yaml").read_text())["trainer"]["logger"]
    assert [one["class_path"] for one in named] == [CSV, WANDB]

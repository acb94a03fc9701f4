"""What a result says of the cost of its set: what was recorded, nothing where there was nothing, None where unknown."""

import json
from pathlib import Path

import pytest

from ddlight.cli.command_line import run
from ddlight.core import artefact
from ddlight.methods.baselines.released import SAMPLE


@pytest.fixture
def fitted(tmp_path, monkeypatch):
    """The set's manifest and the content of result.json of a run of a few steps."""
    monkeypatch.setenv("DDLIGHT_CACHE", str(tmp_path / "cache"))

    def fit(*words):
        place = tmp_path / "run"
        model = ["--model=HardLabel", "--model.student=MLP", "--model.budget.steps=2"]
        where = ["--trainer.accelerator=cpu", "--trainer.progress=false", f"--trainer.run={place}"]
        run(["fit", *words, "--data.dataset=Digits", *model, *where])
        result = json.loads((place / "result.json").read_text())
        return artefact.read_manifest(Path(result["set"]["path"])), result

    return fit


def test_what_others_did_not_say_is_not_known(fitted):
    manifest, result = fitted("--data=Released", f"--data.path={SAMPLE}")
    assert manifest["seconds"] > 0  # of reading the files
    assert result["schema"] == 2
    assert result["seconds"]["condense"] is None
    assert (result["flops"]["scoring"], result["flops"]["synthesis"]) == (None, None)
    assert result["flops"]["student"] > 0 and result["flops"]["teachers"] == 0


def test_what_costs_nothing_is_known(fitted):
    manifest, result = fitted("--data=Random", "--data.ipc=2")
    assert result["seconds"]["condense"] == manifest["seconds"] > 0
    assert (result["flops"]["scoring"], result["flops"]["synthesis"]) == (0.0, 0.0)


def test_a_scoring_run_is_charged(fitted):
    scoring = [f"--data.scoring.{word}" for word in ("student=MLP", "budget.steps=40", "early=1", "ring=3", "clean=4")]
    manifest, result = fitted("--data=EL2N", "--data.ipc=2", *scoring)
    assert result["seconds"]["condense"] == pytest.approx(manifest["seconds"] + manifest["scoring_seconds"])
    assert manifest["scoring_seconds"] > 0
    assert result["flops"]["scoring"] == manifest["flops_scoring"] > 0
    assert result["flops"]["synthesis"] == 0.0

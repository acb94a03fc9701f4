"""The command lines that are disturbed, and the folder in which they begin."""

from pathlib import Path
from typing import Any

import yaml
from processes import must, run

HARD = ["fit", "--model=HardLabel", "--model.test_curve=3", "--model.recipe.ema=0.9"]
STORED = ["fit", "--model=StoredLabel", "--model.teachers+=RunTeacher", "--model.teachers.run=runs/teacher"]
LENGTH = ["--model.recipe.batch=10", "--model.budget.steps=30", "--model.student=ConvNet", "--model.student.width=8"]
MACHINE = ["--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.progress=false"]
OFTEN = [*MACHINE, "--trainer.checkpoint_every=0.2"]
STUDY: dict[str, Any] = {
    "name": "study",
    "before": {"teacher": {"model": "HardLabel"}},
    "axes": {
        "regime": {
            "HL": {"model": "HardLabel"},
            "ST": {
                "model": "StoredLabel",
                "model.teachers": [{"class_path": "RunTeacher", "init_args": {"run": "{run:teacher}"}}],
            },
        },
        "set": [0, 1],
    },
}
COMMON = {
    "data": "Pictures",
    "data.ipc": 2,
    "data.dataset": "Digits",
    "model.student": "ConvNet",
    "model.student.width": 8,
    "model.budget.steps": 12,
    "model.recipe.batch": 10,
    "trainer.accelerator": "cpu",
    "trainer.devices": 1,
    "trainer.progress": False,
    "trainer.checkpoint_every": 0.2,
}


def data(method: str, ipc: int = 2) -> list[str]:
    """Options of a small set of Digits."""
    return [f"--data={method}", "--data.dataset=Digits", f"--data.ipc={ipc}"]


SCENARIOS = {
    "condense: selection": ["condense", *data("Random"), *MACHINE],
    "condense: tensors": ["condense", *data("Averages"), *MACHINE],
    "condense: pictures": ["condense", *data("Pictures"), *MACHINE],
    "fit: hard labels": [*HARD, *data("Pictures"), *LENGTH, *OFTEN, "--trainer.run=runs/hard"],
    "fit: stored labels": [*STORED, *data("Random", 3), *LENGTH, *OFTEN, "--trainer.run=runs/stored"],
    "grid": ["grid", "study.yaml", "--jobs", "2"],
}


def prepare(home: Path) -> Path:
    """Make a working folder with a finished teacher, a finished set and a study."""
    home.mkdir(parents=True)
    before = {name: {**COMMON, **options} for name, options in STUDY["before"].items()}
    study = {**STUDY, "before": before, "common": COMMON}
    (home / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    words = ["fit", "--model=HardLabel", *data("Random", 3), *LENGTH, *MACHINE, "--trainer.run=runs/teacher"]
    must(run(words, home))
    return home

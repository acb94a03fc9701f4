"""A folder of one's own images, from a run to the reports: where the images lie is said once."""

import numpy as np
import pytest
import yaml
from PIL import Image

from ddlight.sets import opened

CPU = ("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.progress=false")
SMALL = ("--model=HardLabel", "--model.student=MLP", "--model.student.width=8", "--model.budget.steps=2")
PHOTOS = ("--data.dataset=ImageFolder", "--data.dataset.root=photos", "--data.dataset.size=8", "--data.ipc=1")


@pytest.fixture
def photos(home):
    """Two classes of six photographs, all different."""
    for name in ("cats", "dogs"):
        (home / "photos" / name).mkdir(parents=True)
        for number in range(6):
            grey = 20 * number + 7 * (name == "dogs")
            Image.fromarray(np.full((8, 8, 3), grey, np.uint8)).save(home / "photos" / name / f"{number}.png")
    return home


def test_reports_find_the_images_where_the_run_read_them(command, photos):
    fitted = command("fit", "--data=Random", *PHOTOS, *SMALL, *CPU, "--trainer.run=runs/mine")
    assert fitted.code == 0, fitted.err
    drawn = command("figures", "runs", "--out", "out", "--only", "grids")
    assert drawn.code == 0, drawn.err
    assert list((photos / "out").glob("grids*.png"))
    told = command("analyze", "runs")
    assert told.code == 0 and "Random" in told.out, told.err


def test_a_set_without_a_run_is_shown_from_the_folder_that_it_was_made_from(command, photos, monkeypatch):
    made = command("condense", "--data=Random", *PHOTOS, *CPU)
    assert made.code == 0, made.err
    folder = made.err.split("condensed set: ")[1].strip()
    other = photos / "other"
    other.mkdir()
    monkeypatch.chdir(other)  # the folder was given as seen from elsewhere
    for words in (("show", folder, "--grid", "grid.png"), ("analyze", folder)):
        told = command(*words)
        assert told.code == 0 and "Random" in told.out, told.err
    assert Image.open(other / "grid.png").size[0] > 0
    (photos / "photos").rename(photos / "moved")
    gone = command("show", folder, "--grid", "grid.png")
    assert gone.code != 0 and str(photos / "photos") in gone.err
    assert command("show", folder, "--grid", "grid.png", "--root", str(photos / "moved")).code == 0


def test_the_folder_of_a_run_is_read_from_its_config(tmp_path):
    inner = {"class_path": "ImageFolder", "init_args": {"root": "there", "size": 8}}
    noisy = {"class_path": "NoisyLabels", "init_args": {"dataset": inner, "share": 0.2}}
    for dataset, root in ((inner, "there"), (noisy, "there"), ({"class_path": "Digits", "init_args": {}}, None)):
        content = {"data": {"class_path": "Random", "init_args": {"dataset": dataset}}}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
        assert opened.root_of(tmp_path) == root
    assert opened.root_of(tmp_path / "gone") is None and opened.root_of(None) is None


@pytest.mark.parametrize("progress", ["true", "false"])
def test_a_scoring_run_says_how_far_it_is(command, photos, progress):
    scoring = ("--data.scoring.budget.steps=4", "--data.scoring.student=MLP", "--data.scoring.student.width=8")
    made = command("condense", "--data=Herding", *PHOTOS, *scoring, *CPU[:2], f"--trainer.progress={progress}")
    assert made.code == 0, made.err
    assert ("step 4 of 4, " in made.err) == (progress == "true")

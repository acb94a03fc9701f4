"""`ddlight score`, `condense --files` and imported scores as a user types them."""

import numpy as np
import pytest
from PIL import Image

from ddlight.methods.scores.score_file import import_scores
from ddlight.methods.scoring.table import read_table

NET = ["--data.scoring.student=ConvNet", "--data.scoring.student.depth=2", "--data.scoring.student.width=4"]
SCORING = [*NET, "--data.scoring.budget.steps=4", "--data.scoring.ring=2", "--data.scoring.clean=2"]
CPU = ["--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.progress=false"]
PHOTOS = ["--data.dataset=ImageFolder", "--data.dataset.root=photos", "--data.dataset.size=16"]


@pytest.fixture
def photos(home):
    """A folder with images of two classes, eight of one and five of the other."""
    draw = np.random.default_rng(0)
    for name, count in (("cat", 8), ("dog", 5)):
        (home / "photos" / name).mkdir(parents=True)
        for n in range(count):
            pixels = draw.integers(0, 255, (20, 24, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(home / "photos" / name / f"{n}.png")
    return home


def test_a_scoring_run_is_made_once_exported_and_imported_again(photos, command):
    words = ["--data=AUM", *PHOTOS, "--data.ipc=2", *SCORING, *CPU]
    answer = command("score", *words, "--csv=scores.csv")
    assert answer.code == 0, answer.err
    assert "scores: " in answer.err
    folder = next((photos / "cache").rglob("scores.safetensors")).parent
    table = read_table(folder)
    again = import_scores(photos / "scores.csv", "train.aum_prob", table.ids, "photos")
    np.testing.assert_allclose(again, table["train.aum_prob"])
    second = command("score", *words)
    assert second.code == 0 and "scoring" not in second.err.split("scores: ")[0]
    chosen = command("condense", "--data=ScoreFile", *PHOTOS, "--data.ipc=2", "--data.path=scores.csv", *CPU)
    assert chosen.code == 2 and "train.aum_prob" in chosen.err and "--data.column" in chosen.err
    words = ["--data.column=train.aum_prob", "--data.larger=easier"]
    chosen = command("condense", "--data=ScoreFile", *PHOTOS, "--data.ipc=2", "--data.path=scores.csv", *words, *CPU)
    assert chosen.code == 0, chosen.err


def test_anyones_folder_ends_with_a_list_of_files_and_a_folder_of_links(photos, command):
    words = ["condense", "--data=CADPrune", *PHOTOS, "--data.ipc=3", "--data.budget.epochs=40", *NET, *CPU]
    words += ["--data.scoring.recipe.batch=4", "--data.j=2", "--data.w=1"]
    answer = command(*words, "--files=kept")
    assert answer.code == 0, answer.err
    listed = (photos / "kept" / "files.txt").read_text().split()
    assert len(listed) == 6 and "6 files in kept" in answer.err
    links = sorted((photos / "kept").glob("*/*.png"))
    assert all(link.is_symlink() and link.resolve().is_file() for link in links)
    assert sorted(str(link.resolve()) for link in links) == sorted(str((photos / f).resolve()) for f in listed)
    assert {link.parent.name for link in links} == {"cat", "dog"}
    again = command(*words, "--files=kept")
    assert again.code == 2 and "kept is not empty" in again.err
    copied = command(*words, "--files=copies", "--copy=true")
    assert copied.code == 0
    assert not any(p.is_symlink() for p in (photos / "copies").rglob("*"))


def test_a_class_smaller_than_ipc_is_named(photos, command):
    answer = command("condense", "--data=AUM", *PHOTOS, "--data.ipc=5", *SCORING, *CPU)
    assert answer.code == 2
    assert "ipc=5 is more than class 'dog'" in answer.err and "--data.ipc=4" in answer.err


def test_a_method_without_scores_needs_no_scoring_run(home, command):
    answer = command("score", "--data=Random", "--data.dataset=Digits", *CPU)
    assert answer.code == 2
    assert "Random needs no scoring run" in answer.err


def test_arrays_are_no_files_to_hand_out(home, command):
    answer = command("condense", "--data=Random", "--data.dataset=Digits", "--data.ipc=1", "--files=kept", *CPU)
    assert answer.code == 2
    assert "Random of Digits is no choice of files" in answer.err

"""What `ddlight show` says of condensed sets and runs, and the pictures it draws."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddlight.cli import show
from ddlight.core.artefact import seal
from ddlight.core.errors import DataError, UsageError
from ddlight.data import Digits
from ddlight.sets import pictures
from ddlight.sets.labels import LabelPlan, LabelStore
from ddlight.sets.store import Selection, Synthesis, write_set

Seal = Callable[..., Path]


@pytest.fixture
def sealed(tmp_path: Path) -> Seal:
    """Seal a set of the Digits and return its folder."""

    def write(made: Selection | Synthesis, **changes: object) -> Path:
        dataset = Digits(held_out=2, size=16)
        split = dataset.split("train")
        manifest = {
            "method": "Maker",
            "args": {"beta": 0.5},
            "what": "condensed set",
            "fingerprint": "f00d",
            "dataset": "Digits",
            "dataset_identity": dataset.identity(),
            "classes": list(dataset.info.classes),
            "ipc": 2,
            "seed": 3,
            "space": "pixel",
            "mean": [0.25],
            "std": [0.5],
            "labels": "hard",
            "learned_lr": None,
            "tile_factor": 1,
            "selected_on": "held_out",
            "seconds": 4000.0,
            "peak_memory_bytes": 1_500_000_000,
            "versions": {"ddlight": "0.1.0", "torch": "2.15.0"},
            **changes,
        }
        classes = list(manifest["classes"])
        return seal(tmp_path / "set", lambda place: write_set(place, made, split.ids, split.labels, classes), manifest)

    return write


def selection(per_class: int) -> Selection:
    labels = Digits(held_out=2, size=16).split("train").labels
    return Selection(np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in range(10)]))


def facts(out: str) -> dict[str, str]:
    """Read `name  value` lines; the first line is the title."""
    return {line[2:12].strip(): line[14:] for line in out.splitlines()[1:] if line.startswith("  ")}


def test_a_set_of_indices(sealed: Seal, capsys: pytest.CaptureFixture[str]) -> None:
    folder = sealed(selection(2))
    assert show.main([str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Maker: ipc 2 of Digits, seed 3\n")
    told = facts(out)
    assert told["images"] == "20 real images, stored as indices and sample ids"
    assert told["per class"] == "2 each"
    assert told["source"] == "20 real images"
    assert told["arguments"] == "beta=0.5"
    assert told["chosen on"] == "the held_out split"
    assert told["made in"] == "1 h 7 min, at most 1.5 GB of memory"
    assert told["classes"] == "10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert told["content"] == json.loads((folder / "manifest.json").read_text())["content_sha256"]
    assert told["checksums"] == "right: 1 file"
    assert show.main([str(folder / "manifest.json")]) == 0


def test_a_changed_set_is_told_and_fails(sealed: Seal, capsys: pytest.CaptureFixture[str]) -> None:
    folder = sealed(selection(2))
    (folder / "selection.csv").write_text((folder / "selection.csv").read_text() + "\n")
    assert show.main([str(folder)]) == 3
    told = facts(capsys.readouterr().out)
    assert told["checksums"].startswith("wrong. ") and "selection.csv" in told["checksums"]
    assert "per class" not in told


def test_uneven_classes(sealed: Seal, capsys: pytest.CaptureFixture[str]) -> None:
    indices = selection(2).indices
    show.main([str(sealed(Selection(indices[1:])))])
    assert facts(capsys.readouterr().out)["per class"].startswith("1 to 2; fewest: 0 1,")


def images(n: int, channels: int = 1) -> np.ndarray:
    return np.arange(n * channels * 64, dtype=np.uint32).reshape(n, channels, 8, 8).astype(np.uint8)


def test_stored_images(sealed: Seal, capsys: pytest.CaptureFixture[str]) -> None:
    folder = sealed(Synthesis(images(4, 3), np.array([0, 0, 1, 9]), 16), learned_lr=0.013, tile_factor=2)
    assert show.main([str(folder)]) == 0
    told = facts(capsys.readouterr().out)
    assert told["images"] == "4 3x8x8 uint8"
    assert told["per class"].startswith("0 to 2; fewest: ")
    assert (told["tiles"], told["learned lr"], told["source"]) == ("2x2 per image", "0.013", "16 real images")
    assert told["checksums"] == "right: 4 files"


def test_soft_labels_are_counted_by_their_largest(sealed: Seal, capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.eye(10, dtype=np.float32)[[*range(10), *range(10)]] * 3
    folder = sealed(
        Synthesis(images(20).astype(np.float32), labels), labels="logits", space="normalised", selected_on="none"
    )
    assert show.main([str(folder)]) == 0
    told = facts(capsys.readouterr().out)
    assert told["per class"] == "2 each"
    assert told["labels"] == "logits"
    assert told["images"] == "20 1x8x8 float32, normalised space"
    assert told["chosen on"] == "nothing was chosen"


def picture(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file))


def test_grid_of_indices_shows_the_real_images(
    sealed: Seal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scale 3 (16 px to 48), 2 px between: the last image of class 1 is the dataset's own."""
    folder, file = sealed(selection(2)), tmp_path / "new" / "grid.png"
    assert show.main([str(folder), "--grid", str(file), "--classes", "2", "--per-class", "5"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{file}: 4 of 20 images, 2 of 10 classes")
    split = Digits(held_out=2, size=16).split("train")
    expected = split.images[selection(2).indices[3], 0].repeat(3, 0).repeat(3, 1)
    drawn = picture(file)
    assert drawn.shape[0] == 2 * 50
    assert (drawn[50:98, -50:-2] == expected[..., None]).all()
    assert show.main([str(folder)]) == 0  # the set itself was left alone


@pytest.mark.parametrize(
    ("space", "value", "shown"),
    [("pixel", 0.5, 128), ("pixel", 1.7, 255), ("normalised", 0.5, 128), ("normalised", -3.0, 0), ("zca", 0.0, 128)],
)
def test_grid_of_floats(space: str, value: float, shown: int, sealed: Seal, tmp_path: Path) -> None:
    """Mean 0.25 and std 0.5 turn 0.5 into 0.5 again, and -3 into black."""
    made = Synthesis(np.full((1, 1, 60, 60), value, np.float32), np.array([4]))
    show.main([str(sealed(made, space=space)), "--grid", str(tmp_path / "g.png")])
    drawn = picture(tmp_path / "g.png")
    row = drawn[4 * 62 : 4 * 62 + 60, -62:-2]
    assert (row == shown).all()
    assert (drawn[: 4 * 62, -62:] == 255).all()  # classes without images stay white


def test_grid_of_whitened_images_has_one_contrast(sealed: Seal, tmp_path: Path) -> None:
    """Whitened pixels have no fixed range: 0.5 +- 0.2 for one standard deviation."""
    pattern = np.where(np.indices((60, 60)).sum(0) % 2, 7.0, -7.0).astype(np.float32)
    show.main(
        [str(sealed(Synthesis(pattern[None, None], np.array([4])), space="zca")), "--grid", str(tmp_path / "g.png")]
    )
    row = picture(tmp_path / "g.png")[4 * 62 : 4 * 62 + 60, -62:-2]
    assert set(np.unique(row)) == {round(255 * 0.3), round(255 * 0.7)}


def test_grid_names_and_colour() -> None:
    pixels = np.zeros((2, 3, 40, 60), np.uint8)
    pixels[1] = np.array([10, 20, 30], np.uint8)[:, None, None]
    rows = [("a", np.array([0])), ("A very long class name that will not do", np.array([1, 0]))]
    drawn = pictures.grid(pixels, rows, [0.0], [1.0])
    margin = drawn.shape[1] - 2 * 62
    assert drawn.shape == (2 * 42, margin + 2 * 62, 3)
    assert (drawn[42:82, margin : margin + 60] == (10, 20, 30)).all()
    assert (drawn[42:82, margin + 62 : margin + 122] == 0).all()
    ink = [(drawn[y : y + 40, :margin] < 128).sum() for y in (0, 42)]
    assert 0 < ink[0] < ink[1]


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(UsageError, match="4 channels cannot be drawn"):
        pictures.grid(np.zeros((1, 4, 8, 8), np.uint8), [("a", np.array([0]))], [0.0], [1.0])


def test_a_grid_may_not_be_written_into_the_set(sealed: Seal, tmp_path: Path) -> None:
    folder = sealed(selection(2))
    with pytest.raises(UsageError, match="lies in the set"):
        show.main([str(folder), "--grid", str(folder / "g.png")])
    with pytest.raises(UsageError, match=r"writes a PNG file.*--grid .*g\.png"):
        show.main([str(folder), "--grid", str(tmp_path / "g.jpg")])
    assert show.main([str(folder)]) == 0


def test_a_set_of_an_unknown_dataset(sealed: Seal, tmp_path: Path) -> None:
    identity = {"name": "Elsewhere", "held_out": 0, "files": []}
    folder = sealed(selection(2), dataset="Elsewhere", dataset_identity=identity)
    assert show.main([str(folder)]) == 0
    with pytest.raises(DataError, match="made from Elsewhere"):
        show.main([str(folder), "--grid", str(tmp_path / "g.png")])


def test_the_root_of_the_dataset_is_used(sealed: Seal, tmp_path: Path) -> None:
    folder = sealed(selection(2), dataset="CIFAR10", dataset_identity={"name": "CIFAR10", "held_out": 0, "files": []})
    with pytest.raises(DataError, match=f"CIFAR10 was not found(.|\n)*{tmp_path / 'nowhere'}"):
        show.main([str(folder), "--grid", str(tmp_path / "g.png"), "--root", str(tmp_path / "nowhere")])


RUN = {
    "schema": 1,
    "run": "random_0",
    "config": "random",
    "finished": "2026-01-31T12:00:00+00:00",
    "set": {
        "dataset": "Digits",
        "method": "Random",
        "args": {},
        "ipc": 10,
        "seed": 7,
        "fingerprint": "f",
        "content_sha256": "c",
        "images": 20,
        "source_images": 80,
        "classes": 2,
        "bytes_images": 1,
        "bytes_labels": 1,
        "selected_on": "none",
        "path": "cache/x",
    },
    "regime": "SoftLabel",
    "protocol": "ht_small_soft",
    "recipe": {},
    "augment": {},
    "student": {"class": "ConvNet", "args": {"width": 8}, "parameters": 1234},
    "teachers": [{"name": "resnet18", "fingerprint": "t", "parameters": 5, "acc": None}],
    "seed": 1,
    "budget": {
        "unit": "full_epochs",
        "asked": 6,
        "steps": 1600,
        "batch": 64,
        "images_seen": 102400,
        "passes": 5120,
        "full_epochs": 6.0,
    },
    "flops": {"student": 1.5e12, "teachers": 2e11, "scoring": 0, "synthesis": 0},
    "acc": {
        "test": 54.32,
        "test_top5": None,
        "per_class": [50.0, 58.6],
        "held_out": 53.0,
        "best_on_test": 55.0,
        "test_reads": 4,
        "test_images": 359,
    },
    "nll": 1.2345,
    "ece": 0.05,
    "seconds": {"condense": None, "setup": 0.1, "fit": 12.0, "evaluate": 0.4},
    "peak_memory_bytes": {"host": 500_000_000, "device": None},
    "machine": {"device": "cpu", "ranks": 1, "nodes": 1, "precision": "32-true"},
    "versions": dict.fromkeys(("ddlight", "python", "torch", "torchvision", "lightning", "timm", "numpy"), "1.0"),
}


def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "result.json").write_text(json.dumps(RUN))
    (tmp_path / "config.yaml").write_text("")
    assert show.main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("random_0: Random ipc 10 of Digits, SoftLabel, seed 1\n")
    told = facts(out)
    assert told["acc"] == "54.3 % on 359 test images, last step, read 4 times"
    assert told["also"] == "held out 53.0, best on test 55.0"
    assert told["set"] == "20 images of 80 real ones, made with seed 7"
    assert told["student"] == "ConvNet(width=8), 1,234 parameters"
    assert told["teachers"] == "resnet18"
    assert told["budget"] == "6 full_epochs: 1,600 steps of 64 images"
    assert told["seconds"] == "setup 0.1, fit 12.0, evaluate 0.4"
    assert told["again"] == f"ddlight fit --config {tmp_path / 'config.yaml'}"
    with pytest.raises(UsageError, match="is a run: --grid needs a condensed set"):
        show.main([str(tmp_path), "--grid", str(tmp_path / "g.png")])


def test_a_half_written_result_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"schema": 1')
    with pytest.raises(DataError, match=r"result\.json"):
        show.main([str(tmp_path)])


def test_another_artefact_is_shown_by_what_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = LabelStore(tmp_path, LabelPlan(4, 4, 3, 2, 1.0, "fp16", 5, {"set": "abc"}))
    labels.write(lambda batches: np.zeros((4 * len(batches), 3), np.float32))
    assert show.main([str(labels.folder)]) == 0
    out = capsys.readouterr().out
    told = facts(out)
    assert out.startswith("folder of stored labels\n")
    assert (told["passes"], told["seed"], told["set"], told["recipe"]) == ("2", "5", "abc", labels.fingerprint)
    assert told["checksums"] == "right: 2 files"
    with pytest.raises(UsageError, match="is a folder of stored labels: --grid needs a condensed set"):
        show.main([str(labels.folder), "--grid", str(tmp_path / "grid.png")])
    next(labels.folder.glob("*.npy")).unlink()
    assert show.main([str(labels.folder)]) == 3
    assert "wrong. The folder of stored labels" in capsys.readouterr().out


def test_what_is_neither_set_nor_run(sealed: Seal, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not exist.*ddlight show FOLDER"):
        show.main([str(tmp_path / "none")])
    (tmp_path / "x.partial").mkdir()
    with pytest.raises(DataError, match=r"unfinished set.*ddlight condense"):
        show.main([str(tmp_path / "x.partial")])
    folder = sealed(selection(1))
    with pytest.raises(DataError, match=f"Below it lie: {folder}"):
        show.main([str(tmp_path)])


@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_counts_are_positive(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        show.main(["x", "--per-class", value])
    assert error.value.code == 2
    assert "1 or more" in capsys.readouterr().err or value == "-1"


NET = {"class": "ConvNet", "depth": 3, "width": 8, "norm": "instance"}


def test_a_scoring_run_is_shown_and_its_damage_noticed(home, command):
    from ddlight.data import Digits
    from ddlight.methods.scoring.run import Scoring, ScoringRun
    from ddlight.networks.students import MLP
    from ddlight.recipes.budget import Budget

    scoring = Scoring(MLP(8, 2), budget=Budget(steps=3), ring=2, clean=2)
    folder = ScoringRun(scoring, Digits(held_out=3), 1, 4, home / "cache").make()
    answer = command("show", folder)
    assert answer.code == 0
    for part in ("scoring run of Digits, seed 4", "MLP(width=8, depth=2)", "ccs", "768 images", "2 passes", "right: 4"):
        assert part in answer.out
    assert command("show", folder, "--grid", "g.png").code == 2
    (folder / "ids.json").write_text("[]")
    answer = command("show", folder)
    assert answer.code == 3 and "wrong. The scoring run" in answer.out


def test_a_searched_set_says_what_was_tried():
    manifest = {"options": [0.0, 0.5], "acc": [50.0, 61.25], "chosen": 0.5, "seconds": 90.0}
    assert show._choice(manifest) == "0.5 of 0: 50.0 %, 0.5: 61.2 % (held out); 2 min"


def test_arguments_are_shown_as_they_are_typed():
    scoring = {"class": "Scoring", "student": NET, "recipe": None, "early": 10}
    assert show._value(scoring) == "Scoring(student=ConvNet(depth=3, width=8, norm=instance), early=10)"

"""Every configuration that is shipped: it parses, dry-runs without its data, and says in its header what it is."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ddlight.cli import dry_run
from ddlight.core.files import read_json
from ddlight.core.result import Result
from ddlight.recipes.table import PROTOCOLS

CONFIGS = Path(__file__).parents[1] / "configs"
QUICKSTART = CONFIGS / "quickstart.yaml"
CPU = ("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.progress=false")
SHORT = (*CPU, "--model.student.width=8", "--model.budget.steps=6")


def listed(*patterns):
    """Files below configs/ as pytest parameters, named by their path."""
    files = sorted(file for pattern in patterns for file in CONFIGS.glob(pattern))
    return [pytest.param(file, id=file.relative_to(CONFIGS).as_posix()) for file in files]


NAMED = listed(
    "*.yaml", "coresets/*.yaml", "decoupled/*.yaml", "matching/*.yaml", "teachers/*.yaml", "generative/*.yaml"
)
PRINTED = [p for p in NAMED if not p.id.startswith(("matching/", "generative/"))]
PRINTED += listed("matching/frepo*.yaml", "generative/mgd3*.yaml")
"""Those whose options are printed and parsed again: of the family that has them alike, one."""
FRAGMENTS = listed("base/**/*.yaml")
OURS = [*NAMED, *FRAGMENTS, *listed("sweeps/*.yaml", "generators/*.yaml")]


@pytest.fixture
def no_data(monkeypatch, home):
    """A machine without weights, network and most datasets, on which the measured step is as small as it can be."""
    monkeypatch.setenv("DDLIGHT_DATA", str(home / "data"))
    monkeypatch.setenv("TORCH_HOME", str(home / "torch"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(dry_run, "PROBE_IMAGES", 2)


def printed(answer):
    """The config that --print_config wrote."""
    assert answer.code == 0, answer.err
    return yaml.safe_load(answer.out)


# --- headers ---


@pytest.mark.parametrize("file", OURS)
def test_the_first_line_says_what_it_is(file):
    first = file.read_text().splitlines()[0]
    assert re.fullmatch(r"# \S.{20,118}[.:]", first), first
    if "base" in file.parts:
        assert first.startswith("# Fragment, ")


@pytest.mark.parametrize("file", NAMED)
def test_the_header_gives_the_command_and_what_to_expect(file):
    header = re.match(r"(#.*\n)+", file.read_text())[0]
    assert f"ddlight fit --config configs/{file.relative_to(CONFIGS).as_posix()}" in header
    assert "Expected:" in header


@pytest.mark.parametrize("file", OURS)
def test_files_that_a_config_mentions_exist(file):
    mentioned = set(re.findall(r"configs/[a-z0-9_/]+\.yaml", file.read_text()))
    missing = [name for name in mentioned if not (CONFIGS.parent / name).is_file()]
    assert not missing


def test_every_fragment_is_used_or_shown():
    texts = "\n".join(p.values[0].read_text() for p in (*NAMED, *listed("sweeps/*.yaml", "studies/*.yaml")))
    shown = set(re.findall(r"[\w/]+", texts))
    unused = [p.id for p in FRAGMENTS if not any(word.split("/")[-1] == p.values[0].stem for word in shown)]
    assert not unused


# --- named configs ---


@pytest.mark.parametrize("file", NAMED)
def test_it_dry_runs_without_its_data(command, no_data, monkeypatch, file):
    monkeypatch.setattr(dry_run.Probe, "train", lambda self, most: (dry_run.Line(most, 1, 0.0), 1.0, most))
    monkeypatch.setattr(dry_run.Probe, "evaluation", lambda self, images: 1)
    answer = command("fit", "--config", file, "--dry-run", *CPU)
    assert answer.code == 0, answer.err
    assert "dry run of 'fit': nothing is written\n" in answer.out
    if "missing" not in answer.out:
        assert re.search(r"^budget .* steps of \d+ images", answer.out, re.M)


@pytest.mark.parametrize("file", PRINTED)
def test_what_print_config_prints_parses_to_itself(command, home, file):
    first = command("fit", "--config", file, "--print_config")
    (home / "printed.yaml").write_text(first.out)
    again = command("fit", "--config", home / "printed.yaml", "--print_config")
    assert printed(again) == printed(first)
    assert printed(command("condense", "--config", file, "--print_config"))["data"] == printed(first)["data"]


def test_config_of_a_run_repeats_the_run(command, home):
    assert command("fit", "--config", QUICKSTART, "--model.seed=5", "--trainer.run=a", *SHORT).code == 0
    assert command("fit", "--config", "a/config.yaml", "--trainer.run=b").code == 0
    first, again = (yaml.safe_load(Path(run, "config.yaml").read_text()) for run in "ab")
    assert first["model"]["init_args"]["recipe"]["lr"] == 0.01
    assert first["trainer"].pop("run") == "a"
    assert again["trainer"].pop("run") == "b"
    assert again == first
    for name in ("student.safetensors", "metrics.csv"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()
    results = [Result.read(Path(run)) for run in "ab"]
    assert results[0].acc == results[1].acc
    assert results[0].set == results[1].set
    assert results[0].recipe == results[1].recipe


# --- protocols ---


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_brings_the_regime_and_the_teachers_of_the_table(command, name):
    words = ["--data=Random", "--data.dataset=Digits", "--model.student=ConvNet", f"--model.protocol={name}"]
    if name == "ht_small_soft":  # its teacher is one of the same data, which the table cannot name
        words += ["--model.teacher=RunTeacher", "--model.teacher.run=runs/teacher"]
    model = printed(command("fit", *words, "--print_config"))["model"]
    row, given = PROTOCOLS[name], model["init_args"]
    teachers = given.get("teachers", [given["teacher"]] if "teacher" in given else [])
    assert model["class_path"].endswith(f".{row.regime}")
    assert given["protocol"] == row.name
    assert tuple(t["init_args"]["model"] for t in teachers if "model" in t["init_args"]) == row.teachers
    assert {t["init_args"].get("weights", "IMAGENET1K_V1") for t in teachers} <= {"IMAGENET1K_V1"}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_replaces_that_of_a_config_and_its_regime(command, name):
    answer = command("fit", "--config", CONFIGS / "rded_rn18_ipc10.yaml", f"--model.protocol={name}", "--print_config")
    model = printed(answer)["model"]
    assert model["class_path"].endswith(f".{PROTOCOLS[name].regime}")
    assert model["init_args"]["protocol"] == name
    assert model["init_args"]["student"]["init_args"]["depth"] == 18


# --- fragments ---


@pytest.mark.parametrize("file", listed("base/datasets/*.yaml", "base/students/*.yaml", "base/trainers/*.yaml"))
def test_the_other_fragments_are_values_of_their_option(command, file):
    option = {"datasets": "data.dataset", "students": "model.student", "trainers": "trainer"}[file.parent.name]
    answer = command("fit", "--config", QUICKSTART, f"--{option}={file}", "--print_config")
    found = printed(answer)
    for key in option.split("."):
        found = found.get("init_args", found)[key]
    given = yaml.safe_load(file.read_text())
    flat = {**found, **found.get("init_args", {})}
    assert found.get("class_path", "").split(".")[-1] == given.pop("class_path", "")
    given.update(given.pop("init_args", {}))
    assert {key: flat[key] for key in given} == given


# --- building on another file ---


def test_config_key_merges_key_by_key_and_relative_to_its_file(command, home):
    (home / "deep").mkdir()
    (home / "deep" / "root.yaml").write_text("model: {class_path: HardLabel, init_args: {protocol: edc, seed: 4}}\n")
    (home / "deep" / "middle.yaml").write_text("config: root.yaml\nmodel: {init_args: {seed: 5, test_curve: 2}}\n")
    (home / "top.yaml").write_text(
        "config: deep/middle.yaml\n"
        "data: {class_path: Random, init_args: {dataset: Digits}}\n"
        "model: {init_args: {student: MLP, test_curve: 3}}\n"
    )
    model = printed(command("fit", "--config", "top.yaml", "--model.seed=6", "--print_config"))["model"]["init_args"]
    assert [model[k] for k in ("protocol", "seed", "test_curve")] == ["edc", 6, 3]
    model = printed(command("fit", "--config", "top.yaml", "--print_config"))["model"]["init_args"]
    assert model["seed"] == 5


def test_several_bases_apply_in_order(command, home):
    (home / "a.yaml").write_text("trainer: {checkpoint_every: 0.5, resume: false}\n")
    (home / "b.yaml").write_text("trainer: {checkpoint_every: 0.25}\n")
    (home / "top.yaml").write_text(
        "config: [a.yaml, b.yaml]\n"
        "data: {class_path: Random, init_args: {dataset: Digits}}\n"
        "model: {class_path: HardLabel, init_args: {student: MLP}}\n"
    )
    trainer = printed(command("fit", "--config", "top.yaml", "--print_config"))["trainer"]
    assert (trainer["checkpoint_every"], trainer["resume"]) == (0.25, False)


def test_a_config_that_builds_on_itself_is_refused(command, home):
    (home / "a.yaml").write_text("config: b.yaml\n")
    (home / "b.yaml").write_text("config: a.yaml\n")
    answer = command("fit", "--config", "a.yaml")
    assert answer.code == 2
    assert "a.yaml builds on itself" in answer.err


# --- what the named configs promise ---


def test_edc_without_imagenet(command, no_data, home):
    plain = command("fit", "--config", CONFIGS / "edc_rn50_ipc50.yaml", *CPU)
    dry = command("fit", "--config", CONFIGS / "edc_rn50_ipc50.yaml", "--dry-run", *CPU)
    assert (plain.code, dry.code) == (3, 0)
    for text in (plain.err, dry.out):
        assert "ImageNet1K was not found" in text
        assert f"{home / 'data' / 'imagenet'}/\n    train/<wnid>/*.JPEG\n    val/<wnid>/*.JPEG" in text
        assert "register at https://image-net.org" in text
    assert "150000 steps of 100 images" in dry.out
    assert "teachers  resnet18, mobilenet_v2, shufflenet_v2_x0_5, alexnet" in dry.out
    for teacher in ("resnet18", "alexnet"):
        assert f"missing   teacher {teacher}: its weights are not on this machine yet; 'fit' downloads them" in dry.out
    assert "Downloading" not in dry.out + dry.err


def test_edc_is_four_teachers_and_their_mean(command, home):
    answer = command("fit", "--config", CONFIGS / "edc_rn50_ipc50.yaml", "--tiny", *CPU)
    assert answer.code == 0, answer.err
    result = Result.read(next((home / "runs" / "tiny" / "edc_rn50_ipc50").glob("*/result.json")).parent)
    assert (result.regime, result.protocol, result.config) == ("MultiTeacherLabel", "edc", "edc_rn50_ipc50")
    assert len({t.fingerprint for t in result.teachers}) == 4
    assert (result.recipe["ema"], result.recipe["ce_weight"], result.budget.steps) == (0.99, 0.025, 20)
    assert (result.set.method, result.set.images) == ("EDC", 100)
    teachers = sorted((home / "runs" / "tiny").glob("teacher*"))
    assert [read_json(folder / "result.json")["regime"] for folder in teachers] == ["HardLabel"] * 4


@pytest.mark.parametrize("file", listed("decoupled/rded_f*.yaml", "decoupled/ca2d_f*.yaml", "decoupled/pca_f*.yaml"))
def test_sets_of_patches_run_in_seconds(command, home, file):
    answer = command("fit", "--config", file, "--tiny", *CPU)
    assert answer.code == 0, answer.err
    folder = next(f for f in (home / "runs" / "tiny" / file.stem).glob("*/result.json"))
    result = Result.read(folder.parent)
    method = result.set.method
    tiles = 4 if method == "PCA" else 1
    assert (result.set.images, result.set.source_images) == (100, 100 * tiles)
    assert (result.flops.synthesis > 0, result.flops.scoring > 0) == (method != "PCA", method != "RDED")
    assert result.augment["tiles"] == (2 if method == "PCA" else 1)


@pytest.mark.parametrize("file", listed("decoupled/gvbsm_f*.yaml", "decoupled/edc_f*.yaml"))
def test_sets_of_matched_statistics_run_in_seconds(command, home, file):
    answer = command("fit", "--config", file, "--tiny", *CPU)
    assert answer.code == 0, answer.err
    result = Result.read(next((home / "runs" / "tiny" / file.stem).glob("*/result.json")).parent)
    assert (result.set.images, result.set.source_images) == (100, 100 if result.set.method == "EDC" else 0)
    assert result.flops.synthesis > 0 and result.flops.scoring > 0
    assert len(list((home / "cache").rglob("statistics.safetensors"))) == 2


def test_my_photos_trains_on_a_folder_of_pictures(command, home):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "owl"):
        (home / "pictures" / name).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 256, (24, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(home / "pictures" / name / f"{number}.png")
    answer = command(
        *("fit", "--config", CONFIGS / "my_photos.yaml", "--data.dataset.root=pictures", "--data.dataset.size=16"),
        *("--data.ipc=2", "--model.student=ConvNet", "--model.student.depth=2", "--model.student.width=8"),
        *("--model.budget.full_epochs=2", *CPU),
    )
    assert answer.code == 0, answer.err
    result = Result.read(next((home / "runs").rglob("result.json")).parent)
    assert (result.set.images, result.set.classes, result.budget.unit) == (6, 3, "full_epochs")
    assert result.budget.images_seen >= 2 * 15

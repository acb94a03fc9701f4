"""Shipped configs are found from any folder, in a clone and after an installation from a wheel."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ddlight.cli.configs import find_config, shipped

ROOT = Path(__file__).parents[2]
CPU = ("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.progress=false")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("quickstart", "quickstart.yaml"),
        ("configs/quickstart.yaml", "quickstart.yaml"),
        ("my_photos", "my_photos.yaml"),
        ("coresets/herding", "coresets/herding.yaml"),
        ("herding.yaml", "coresets/herding.yaml"),
        ("studies/my_photos", "studies/my_photos.yaml"),
    ],
)
def test_a_shipped_config_is_found_by_name_from_any_folder(home, name, found):
    assert find_config(name) == shipped() / found


def test_what_is_here_goes_first(home):
    (home / "configs").mkdir()
    (home / "configs" / "quickstart.yaml").write_text("{}")
    assert find_config("quickstart") == Path("configs/quickstart.yaml")
    (home / "quickstart.yaml").write_text("{}")
    assert find_config("quickstart") == Path("quickstart.yaml")
    assert find_config("my_photos", "studies") == shipped() / "studies" / "my_photos.yaml"


def test_a_fragment_is_no_config_by_its_name_alone(home):
    assert find_config("rded") == Path("rded")
    assert find_config("base/protocols/rded").is_file() == (shipped() / "base" / "protocols" / "rded.yaml").is_file()


def test_a_name_that_nothing_has_is_answered_with_the_nearest(command):
    answer = command("fit", "--config", "quickstrat")
    assert answer.code == 2
    assert "There is no config quickstrat." in answer.err and "Did you mean quickstart?" in answer.err


def test_commands_take_shipped_names(command, home):
    dry = command("fit", "--config", "quickstart", "--dry-run", *CPU)
    assert dry.code == 0 and "runs/quickstart/seed0-" in dry.out
    assert command("grid", "my_photos", "--list").code == 0
    assert command("submit", "--config", "quickstart", "--dry-run").code == 0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that pip would install, unpacked."""
    pytest.importorskip("setuptools", minversion="77")
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in names:
        if not name.startswith(("tests/", "notebooks/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", place, source]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = place.glob("*.whl")
    zipfile.ZipFile(file).extractall(place / "installed")
    return place / "installed"


def test_the_wheel_holds_every_file_that_the_package_reads(wheel):
    names = subprocess.run(["git", "ls-files", "ddlight", "configs"], cwd=ROOT, capture_output=True, text=True).stdout
    files = [name for name in names.splitlines() if (ROOT / name).is_file()]
    wanted = [f"ddlight/{name}" if name.startswith("configs/") else name for name in files]
    assert [name for name in wanted if not (wheel / name).is_file()] == []
    assert not (wheel / "configs").exists()


@pytest.mark.parametrize(
    "words", ["fit --config my_photos --dry-run", "fit --config configs/quickstart.yaml --dry-run"]
)
def test_an_installed_ddlight_finds_its_configs(wheel, home, words):
    environment = {**os.environ, "PYTHONPATH": str(wheel), "OMP_NUM_THREADS": "1"}
    code = "import ddlight, sys; assert ddlight.__file__.startswith(sys.argv[1]); from ddlight.__main__ import main; "
    code += "sys.exit(main(sys.argv[2].split()))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(wheel), words], cwd=home, env=environment, capture_output=True, text=True
    )
    if "my_photos" in words:  # its folder of pictures is not there
        assert "root" in done.stderr + done.stdout
    else:
        assert done.returncode == 0, done.stderr
    assert "There is no config" not in done.stderr

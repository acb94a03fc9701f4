"""Memory of a run in a process of its own: what a set of images takes, and what a dry run says before."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("memory_run.py")
PIXELS = 3 * 224 * 224

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells memory, others not")


def measure(task, folder, ipc, student, batch):
    """What one process took (task "fit", "condense") or predicts (task "predict")."""
    words = [sys.executable, str(SCRIPT), task, str(folder), str(ipc), student, str(batch)]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_set_is_made_piece_by_piece_and_held_once(tmp_path):
    """1,500 images take 226 MB: making them holds pieces, training holds them once, and both are predicted."""
    made = measure("condense", tmp_path, 750, "convnet", 8)
    assert made["memory"] < 1500 * PIXELS * 0.75
    predicted = measure("predict", tmp_path, 750, "convnet", 8)
    taken = measure("fit", tmp_path, 750, "convnet", 8)
    assert predicted["memory"] == pytest.approx(taken["memory"], rel=0.2)
    assert predicted["disk"] == pytest.approx(taken["disk"], rel=0.2)
    small = measure("fit", tmp_path / "small", 10, "convnet", 8)
    assert taken["memory"] - small["memory"] < 1.2 * 1500 * PIXELS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ipc", "student", "batch"), [(50, "resnet18", 16), (50, "resnet18", 50), (50, "convnet32", 50)]
)
def test_a_dry_run_predicts_memory_and_disk_of_larger_networks(tmp_path, ipc, student, batch):
    predicted, taken = (measure(task, tmp_path, ipc, student, batch) for task in ("predict", "fit"))
    assert predicted["memory"] == pytest.approx(taken["memory"], rel=0.2)
    assert predicted["disk"] == pytest.approx(taken["disk"], rel=0.2)


@pytest.mark.slow
def test_fifty_thousand_images_train_within_nine_gigabytes(tmp_path):
    measure("condense", tmp_path, 25000, "convnet", 100)
    predicted, taken = (measure(task, tmp_path, 25000, "convnet", 100) for task in ("predict", "fit"))
    assert taken["memory"] < 9e9
    assert predicted["memory"] == pytest.approx(taken["memory"], rel=0.2)

"""The benchmark: what it compares is equal, what it counts is right, and every part runs."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from ddlight.bench import fit, gpu, labels, load, train
from ddlight.bench.timing import Measure, interleaved, measured, one_thread, ratio
from ddlight.data import Digits
from ddlight.methods.baselines.random import Random
from ddlight.networks.students import MLP, ConvNet

IDS = {
    "load": ["P1", "P2", "P3a", "P3b", "P4", "P4m", "P23b", "P23"],
    "labels": ["P22"],
    "train": ["P5", "P6", "P7", "P7b", "P8", "P9", "P9a", "P9b", "P10", "P11", "P12", "P13", "P24", "P24b"],
}


class Clock:
    """A clock that work moves."""

    now = 0.0

    def __call__(self):
        return self.now


def test_a_ratio_is_the_median_of_interleaved_rounds_without_the_first():
    clock, order = Clock(), []
    slow, fast = iter([100, 6, 8, 10]), iter([1, 2, 2, 2])

    def work(name, costs):
        order.append(name)
        clock.now += next(costs)

    found = ratio("X", "x", 3, lambda: work("slow", slow), lambda: work("fast", fast), 3, clock)
    assert order == ["slow", "fast"] * 4
    assert (found.value, found.rounds, found.holds) == (4.0, (3.0, 4.0, 5.0), True)


def test_rounds_of_several_works_and_the_ratios_between_them():
    a, b, c = iter([9.0, 1, 2]), iter([9.0, 2, 8]), iter([9.0, 3, 3])
    found = interleaved({"a": lambda: next(a), "b": lambda: next(b), "c": lambda: next(c)}, 2)
    assert found == {"a": [1, 2], "b": [2, 8], "c": [3, 3]}
    assert measured("X", "x", 1, found["b"], found["a"]).rounds == (2.0, 4.0)
    assert not measured("X", "x", 1, found["b"], found["a"], most=True).holds


def test_a_difference_must_stay_below_its_goal():
    assert Measure("P4", "x", 1, 1.0, most=True).holds
    assert not Measure("P4", "x", 1, 2.0, most=True).holds


def test_threads_are_given_back():
    torch.set_num_threads(2)
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


# --- load ---


def test_the_measured_views_are_crops_of_the_decoded_files(tmp_path):
    files = load.write_jpegs(tmp_path, 3, load.SMALL, 75)
    pixels = np.stack([load.read_square(file) for file in files])
    np.testing.assert_array_equal(pixels[1].transpose(1, 2, 0), np.asarray(Image.open(files[1])))
    views = list(load.views(torch.from_numpy(pixels)))
    assert [tuple(view.shape) for view in views] == [(3, 3, 224, 224)]
    assert abs(float(views[0].mean())) < 3


def test_large_files_are_about_imagenets_and_differences_from_pil_are_found(tmp_path, monkeypatch):
    files = load.write_jpegs(tmp_path, 4, load.LARGE, 93)
    assert [Image.open(file).size for file in files] == [(500, 375), (375, 500)] * 2
    assert 60e3 < np.mean([file.stat().st_size for file in files]) < 140e3
    largest, mean = load.differences(files)
    assert largest.holds and mean.holds
    right = load.read_full
    monkeypatch.setattr(load, "read_full", lambda path: right(path) // 16 * 16)
    largest, mean = load.differences(files)
    assert 8 < largest.value < 17 and not largest.holds and not mean.holds


def test_pictures_of_a_folder_are_measured_in_place_of_written_ones(command, home):
    load.write_jpegs(home / "photos" / "a", 8, load.SMALL, 75)
    answer = command("bench", "load", "--quick", "--rounds", "1", "--root", "photos", "--json", "out.json")
    assert [line.split()[0] for line in answer.out.splitlines()] == ["P1", "P2", "P4", "P4m", "P23b", "P23"]
    assert json.loads((home / "out.json").read_text())["pictures"] == "photos"
    assert command("bench", "labels", "--root", "photos").code == 2
    (home / "empty").mkdir()
    assert "holds no pictures" in command("bench", "load", "--quick", "--root", "empty").err


# --- labels ---


def test_labels_are_read_from_both_stores(tmp_path):
    (found,) = labels.measure(tmp_path, True, 1)
    assert found.id == "P22"
    assert len(found.rounds) == 1
    assert len(list(tmp_path.glob("*.tar"))) == 3


# --- train ---


def test_a_measured_step_trains_the_student(tmp_path):
    data = Random(Digits(size=16), ipc=4, cache=str(tmp_path))
    for name, model in train.regimes(train.QUICK, tmp_path).items():
        step = train.stepper(model, data, tmp_path / "run")
        before = [p.detach().clone() for p in model.network.parameters()]
        step()
        assert all((p != b).any() for p, b in zip(model.network.parameters(), before, strict=True)), name


def test_a_run_and_its_bare_loop_do_the_same_steps(tmp_path, monkeypatch):
    """Both are timed from the end of the second step to the end of the last one."""
    counts = {"run": 0, "bare": 0}
    current = ["run"]
    forward = ConvNet(1, 4).build(10, 1, 32).forward.__func__

    def counted(self, images):
        counts[current[0]] += images.shape == (100, 1, 32, 32)  # one more, of one image, only counts operations
        return forward(self, images)

    monkeypatch.setattr("ddlight.networks.convnet.ConvNetwork.forward", counted)
    monkeypatch.setattr(train, "THREAD", lambda: float(counts[current[0]]))
    loop = train.Loop("X", "x", 1, ConvNet(1, 4), 10, 7)
    seconds = [loop.run(tmp_path)]
    current[0] = "bare"
    seconds.append(loop.bare(tmp_path))
    assert counts == {"run": 7, "bare": 7}
    assert seconds == [5.0, 5.0]


def test_bytes_of_a_run_are_those_of_its_files(tmp_path):
    before = train.written()
    (tmp_path / "x").write_bytes(b"0" * 10_000)
    assert 10_000 <= train.written() - before < 11_000
    often, once = train._bytes(tmp_path, MLP(depth=2, width=256), 20)
    size = (tmp_path / "bytes" / "student.safetensors").stat().st_size
    assert once.value == pytest.approx(300 * 2 * size / size, rel=0.1)
    assert often.value == pytest.approx(300 * 2 / (9 * 2 + 1), rel=0.1)


# --- fit ---


class FewDigits(Digits):
    """The first of them."""

    def split(self, name):
        return super().split(name).take(np.arange(150))


def test_the_plain_script_and_ddlights_command_train_and_test_on_the_same_pictures(tmp_path, command, monkeypatch):
    monkeypatch.setattr(fit, "Digits", FewDigits)
    pictures = fit.write_digits(tmp_path / "digits")
    assert len(list(pictures.rglob("*.png"))) == 300
    plain = [sys.executable, "-c", fit.PLAIN, str(pictures), "2", "3", "8", "4"]
    done = subprocess.run(plain, capture_output=True, text=True, check=True)
    steps, accuracy = done.stdout.split()
    assert steps == "3" and 0 < float(accuracy) < 100
    words = fit.fit_command(tmp_path, pictures, 3)
    assert command(*words[3:], "--model.student.depth=1").code == 0
    result = json.loads((tmp_path / "run0" / "result.json").read_text())
    assert (result["budget"]["steps"], result["set"]["images"], result["acc"]["test_images"]) == (3, 100, 150)


def test_cpu_seconds_are_those_of_the_command():
    code = "import time\nwhile time.process_time() < 0.3: pass\ntime.sleep(0.3)"
    assert 0.25 < fit.cpu_seconds(lambda: [sys.executable, "-c", code]) < 0.55


def test_an_evaluation_is_compared_with_its_network(tmp_path):
    found = fit.evaluation(tmp_path, ConvNet(1, 4), 1)
    assert found.id == "P28" and found.value > 1


# --- gpu ---


def test_the_steps_of_the_gpu_train_on_the_cpu_too_and_the_part_needs_a_gpu(tmp_path, command):
    for step in gpu.steps(tmp_path, train.QUICK, "cpu"):
        step()
    if not torch.cuda.is_available():
        answer = command("bench", "gpu")
        assert answer.code == 2 and "needs a CUDA device" in answer.err


def test_waits_are_what_torch_warns_of(monkeypatch):
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)

    def step():
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    assert gpu.waits(step) == 1


# --- the command ---


def test_goals_that_rest_on_bf16_are_not_judged_without(command, home, monkeypatch):
    monkeypatch.setattr("ddlight.bench.labels.measure", lambda *_: [Measure("A", "x", 2, 1.0, bf16=True)])
    for speed, verdict, holds in ((2.0, "misses by 50%", False), (0.2, "no bf16 units", None)):
        monkeypatch.setattr("ddlight.networks.device.bf16_speed", lambda value=speed: value)
        assert f"{verdict} " in command("bench", "labels", "--json", "out.json").out
        assert json.loads((home / "out.json").read_text())["measures"][0]["holds"] is holds


@pytest.mark.parametrize("part", IDS)
def test_the_command_prints_a_line_a_goal_and_writes_every_round(command, home, part):
    answer = command("bench", part, "--quick", "--rounds", "1", "--json", "out.json")
    assert answer.code == 0, answer.err
    assert [line.split()[0] for line in answer.out.splitlines()] == IDS[part]
    assert all("not judged" in line for line in answer.out.splitlines())
    content = json.loads((home / "out.json").read_text())
    assert [m["id"] for m in content["measures"]] == IDS[part]
    assert content["measures"][0]["rounds"][0] == pytest.approx(content["measures"][0]["value"])
    assert content["quick"] and len(content["processor"]) > 3


def test_an_unknown_part_is_refused(command):
    answer = command("bench", "everything")
    assert answer.code == 2
    assert "invalid choice: 'everything'" in answer.err

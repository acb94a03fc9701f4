"""The doctor's checks, each from facts given to it; and once the real machine."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ddlight.cli import doctor
from ddlight.cli.doctor import Check, Pin, Probe


@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
def test_stolen_lightning_fails(version: str) -> None:
    check = doctor.check_package("lightning", version)
    assert check.status == "fail"
    assert "GHSA-w37p-236h-pfx3" in check.detail and "change every key" in check.detail
    assert check.fix == 'pip install "lightning>=2.6.6"'


@pytest.mark.parametrize("version", ["2.5.6", "2.6.1", "2.6.5"])
def test_old_lightning_fails_for_its_advisory(version: str) -> None:
    check = doctor.check_package("lightning", version)
    assert check.status == "fail" and "GHSA-qqmf-gpg7-g8gw" in check.detail


@pytest.mark.parametrize(
    ("name", "version", "status"),
    [
        ("lightning", "2.6.6", "ok"),
        ("lightning", "2.10.0", "ok"),
        ("torch", "2.11.0+cpu", "ok"),
        ("torch", "2.15.0a0+git12", "ok"),
        ("torch", "2.9.1", "fail"),
        ("torch", "2.13.0+cu130", "fail"),
        ("torch", "2.13.1", "ok"),
        ("jsonargparse", "4.53.0", "ok"),
        ("jsonargparse", "5.0", "fail"),
        ("jsonargparse", "4.9", "fail"),
        ("timm", None, "fail"),
    ],
)
def test_versions(name: str, version: str | None, status: str) -> None:
    check = doctor.check_package(name, version)
    assert check.status == status
    assert check.fix.startswith(f'pip install "{name}>=') == (status == "fail")


def test_pins_are_those_of_the_build_file() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for name, pin in doctor.PINS.items():
        (spec,) = re.findall(rf'"{name}(?:\[\w+\])?([><=!][^"]*)"', text)
        assert sorted(spec.split(",")) == sorted(pin.spec().split(",")), name


def test_pin_text() -> None:
    assert Pin("1.2", below="2", bad=("1.3.0",)).spec() == ">=1.2,!=1.3.0,<2"


NMS = "Traceback (most recent call last):\n  ...\nRuntimeError: operator torchvision::nms does not exist\n"


@pytest.mark.parametrize(
    ("version", "index"),
    [
        ("2.15.0+cpu", " --index-url https://download.pytorch.org/whl/cpu"),
        ("2.15.0+cu130", " --index-url https://download.pytorch.org/whl/cu130"),
        ("2.15.0", ""),
        ("2.15.0a0+git1", ""),
    ],
)
def test_mismatched_wheels_are_said_in_words(version: str, index: str) -> None:
    check = doctor.check_wheels(Probe({}, NMS), version)
    assert check.status == "fail"
    assert "operator torchvision::nms does not exist" in check.detail and version in check.detail
    assert check.fix == f"pip install --force-reinstall torch torchvision{index}"


def test_other_import_errors_are_passed_on() -> None:
    check = doctor.check_wheels(Probe(None, "Traceback\nImportError: libcudart.so.13: cannot open\n"), "2.15.0")
    assert check.status == "fail" and check.detail.endswith("ImportError: libcudart.so.13: cannot open")
    assert doctor.check_wheels(Probe({}, ""), "2.15.0").status == "ok"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Stand-ins for torch and torchvision, as a process started from here will import them."""

    def write(torchvision: str) -> None:
        (tmp_path / "torch").mkdir()
        (tmp_path / "torch" / "__init__.py").write_text(
            "import types\n"
            "T = types.SimpleNamespace\n"
            "__version__ = '2.15.0+cpu'\n"
            "cuda = T(is_available=lambda: False)\n"
            "distributed = T(is_available=lambda: False)\n"
            "version = T(cuda=None)\n"
            "backends = T(mps=T(is_available=lambda: False))\n"
        )
        (tmp_path / "torchvision.py").write_text(torchvision)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return write


def test_the_probe_survives_a_mismatch(wheels: Callable[[str], None]) -> None:
    wheels("raise RuntimeError('operator torchvision::nms does not exist')")
    probe = doctor.probe_torch()
    assert probe.torch == {"version": "2.15.0+cpu", "accelerated": False, "gpus": [], "mps": False, "nccl": ""}
    assert doctor.check_wheels(probe, "2.15.0+cpu").status == "fail"
    assert "torch" in doctor.check_gpu(probe.torch, True, {}).fix


def test_the_probe_of_sound_wheels_and_of_slow_ones(wheels: Callable[[str], None]) -> None:
    wheels("")
    assert doctor.probe_torch().error == ""
    slow = doctor.probe_torch(timeout=0.001)
    assert slow.torch is None
    assert doctor.check_wheels(slow, "2.15.0").status == "fail"


def facts(**changes: object) -> dict[str, object]:
    return {"version": "2.15.0", "accelerated": True, "gpus": [], "mps": False, "nccl": "", **changes}


H100 = ["NVIDIA H100", 85_000_000_000]


@pytest.mark.parametrize(
    ("torch", "driver", "env", "status", "text"),
    [
        (facts(gpus=[H100, H100]), True, {}, "ok", "NVIDIA H100 (85 GB), NVIDIA H100 (85 GB)"),
        (facts(mps=True), False, {}, "ok", "mps"),
        (facts(), False, {}, "ok", "none: runs use the CPU"),
        ({}, False, {}, "ok", "none"),
        (facts(accelerated=False, version="2.15.0+cpu"), True, {}, "warn", "torch 2.15.0+cpu is a CPU build"),
        (facts(), True, {}, "warn", "torch finds no GPU"),
        (facts(), True, {"CUDA_VISIBLE_DEVICES": ""}, "warn", "hidden by CUDA_VISIBLE_DEVICES=''"),
    ],
)
def test_gpu(torch: dict[str, object], driver: bool, env: dict[str, str], status: str, text: str) -> None:
    check = doctor.check_gpu(torch, driver, env)
    assert check.status == status and text in check.detail
    assert bool(check.fix) == (status == "warn")


def test_nccl() -> None:
    assert doctor.check_nccl(facts(nccl="2.30.7")) == Check("ok", "NCCL", "2.30.7")
    assert doctor.check_nccl(facts(gpus=[H100, H100])).status == "warn"
    assert doctor.check_nccl(facts(gpus=[H100])).status == "ok"


@pytest.mark.parametrize(
    ("env", "srun", "status", "text"),
    [
        ({}, False, "ok", "none"),
        ({}, True, "ok", "srun found  → ddlight submit --config X"),
        ({"JOB_ID": "7", "NTASKS": "8", "NNODES": "2"}, True, "fail", "--ntasks=8, which Lightning refuses"),
        ({"JOB_ID": "7", "NTASKS": "8", "NNODES": "2"}, True, "fail", "→ #SBATCH --ntasks-per-node=4"),
        ({"JOB_ID": "7", "NTASKS": "8", "NNODES": "2", "NTASKS_PER_NODE": "4"}, True, "ok", "2 nodes, 4 tasks per"),
        ({"JOB_ID": "7", "NTASKS": "8", "JOB_NAME": "interactive"}, True, "ok", "interactive job 7"),
        ({"JOB_ID": "7"}, True, "ok", "job 7: 1 nodes, 1 tasks"),
    ],
)
def test_slurm(env: dict[str, str], srun: bool, status: str, text: str) -> None:
    check = doctor.check_slurm({f"SLURM_{key}": value for key, value in env.items()}, srun)
    assert check.status == status
    assert text in doctor.lines([check])[0]


NETRC = "machine api.wandb.ai\n  login user\n  password not-to-be-shown\n"


def test_wandb_by_variable(tmp_path: Path) -> None:
    check = doctor.check_wandb({"WANDB_API_KEY": "not-to-be-shown"}, tmp_path)
    assert check.status == "ok" and "not-to-be-shown" not in doctor.lines([check])[0]
    assert doctor.check_wandb({"WANDB_MODE": "offline"}, tmp_path).detail == "offline by WANDB_MODE"


def test_wandb_by_netrc(tmp_path: Path) -> None:
    assert doctor.check_wandb({}, tmp_path) == Check(
        "warn", "W&B", "not logged in: runs are logged offline", "wandb login"
    )
    (tmp_path / ".netrc").write_text(NETRC)
    check = doctor.check_wandb({}, tmp_path)
    assert check.status == "ok" and "not-to-be-shown" not in check.detail
    assert doctor.check_wandb({"WANDB_BASE_URL": "https://wandb.example.org:8080"}, tmp_path).status == "warn"
    assert doctor.check_wandb({"NETRC": str(tmp_path / "none")}, tmp_path).status == "warn"
    (tmp_path / ".netrc").write_text("nonsense {")
    assert "cannot be read" in doctor.check_wandb({}, tmp_path).detail


def test_limits_of_a_container(tmp_path: Path) -> None:
    usable, total = doctor.cores(tmp_path)
    assert 1 <= usable <= total
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    (tmp_path / "memory.max").write_text("3000000000\n")
    assert doctor.cores(tmp_path) == (1, total)
    assert doctor.memory(tmp_path) == 3_000_000_000
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert doctor.cores(tmp_path) == (usable, total)
    assert doctor.memory(tmp_path) == doctor.memory(tmp_path / "none")


def test_cores_and_memory() -> None:
    assert doctor.check_cores(2, 16, {}).detail == "2 of 16 cores"
    many = doctor.check_cores(2, 16, {"OMP_NUM_THREADS": "16"})
    assert (many.status, many.fix) == ("warn", "export OMP_NUM_THREADS=2")
    assert doctor.check_cores(2, 2, {"OMP_NUM_THREADS": "1"}).status == "ok"
    assert doctor.check_bf16(2.4).detail == "2.4 x as fast as fp32 on the CPU: auto is bf16"
    assert doctor.check_bf16(0.15).detail.endswith("auto is fp32") and "without torch" in doctor.check_bf16(None).detail
    assert doctor.check_memory(2_000_000_000).status == "warn"
    assert doctor.check_memory(8_000_000_000) == Check("ok", "memory", "8.0 GB")
    assert doctor.check_memory(None).status == "ok"


def test_allocator() -> None:
    assert "tcmalloc" in doctor.check_allocator({"LD_PRELOAD": "/usr/lib/libtcmalloc.so.4"}, True).detail
    assert "glibc" in doctor.check_allocator({}, True).detail
    assert "left as it is" in doctor.check_allocator({}, False).detail


def test_data() -> None:
    found = {"A": "", "B": "B was not found. Searched:\n /x", "C": "", "D": "D is damaged.\nmore"}
    there, missing, broken = doctor.check_data(found)
    assert (there.status, there.detail.split(" (")[0]) == ("ok", "found: A, C")
    assert (missing.status, missing.detail, missing.fix) == ("ok", "not here: B", "ddlight datasets B")
    assert (broken.status, broken.detail, broken.fix) == ("warn", "D is damaged.", "ddlight datasets D")
    assert doctor.check_data({})[0].status == "warn"


def test_data_are_found_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDLIGHT_DATA", str(tmp_path))
    found = doctor.find_data(patience=20)
    assert found["Digits"] == ""
    assert found["CIFAR10"].startswith("CIFAR10 was not found")
    assert found["ImageNet1K"].startswith("ImageNet1K was not found")
    assert "ImageFolder" not in found


def test_a_broken_reader_is_told_and_a_slow_one_counts_as_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    gate = threading.Event()

    def look(name: str) -> str:
        gate.wait(10)
        return "late"

    monkeypatch.setattr("ddlight.data.digits._load", lambda: 1 / 0)
    assert doctor._look("Digits") == "Digits: ZeroDivisionError: division by zero"
    monkeypatch.setattr(doctor, "_look", look)
    assert set(doctor.find_data(patience=0.01).values()) == {""}
    gate.set()


def test_lines_are_aligned() -> None:
    checks = [Check("ok", "a", "one"), Check("warn", "longer", "two", "do this")]
    assert doctor.lines(checks) == ["ok    a       one", "warn  longer  two  → do this"]


def test_main_on_this_machine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One screen, nothing failing where the tests run, W&B not imported, and 1 when something fails."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    loaded = "wandb" in sys.modules
    probe = Probe(facts(), "")
    monkeypatch.setattr(doctor, "probe_torch", lambda: probe)
    assert doctor.main([]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) <= 24
    names = {line.split()[1] for line in out}
    assert {"python", "ddlight", "torch", "wheels", "data", "GPU", "NCCL", "SLURM", "W&B", "allocator"} <= names
    assert ("wandb" in sys.modules) == loaded
    monkeypatch.setattr(doctor, "probe_torch", lambda: Probe(None, NMS))
    assert doctor.main([]) == 1
    assert any(line.startswith("fail  wheels") for line in capsys.readouterr().out.splitlines())

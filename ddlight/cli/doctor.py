"""`ddlight doctor`: one screen on whether this machine can run ddlight, and what to type where it cannot."""

import argparse
import ctypes
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from ddlight import __version__
from ddlight.core.errors import DDLightError
from ddlight.core.system import total_memory
from ddlight.train.tracking import login

Status = Literal["ok", "warn", "fail"]

PROBE = """
import contextlib, json, torch
count = torch.cuda.device_count() if torch.cuda.is_available() else 0
gpus = [torch.cuda.get_device_properties(i) for i in range(count)]
nccl = torch.distributed.is_available() and torch.distributed.is_nccl_available()
print(json.dumps({
    "version": torch.__version__,
    "accelerated": bool(torch.version.cuda or getattr(torch.version, "hip", None)),
    "gpus": [[g.name, g.total_memory] for g in gpus],
    "mps": torch.backends.mps.is_available(),
    "nccl": ".".join(map(str, torch.cuda.nccl.version())) if nccl and count else "in this torch" if nccl else "",
}), flush=True)
import torchvision
with contextlib.suppress(ImportError):
    from ddlight.networks.device import bf16_speed
    print(bf16_speed(), flush=True)
"""


@dataclass(frozen=True)
class Check:
    """What one look at the machine found.

    Attributes:
        status: "ok", "warn" (ddlight runs, with something missing) or "fail" (it does not, or must not).
        name: what was looked at.
        detail: what was found.
        fix: what to type; "" where there is nothing to do.
    """

    status: Status
    name: str
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Pin:
    """Versions of a package that ddlight works with, as in pyproject.toml.

    Attributes:
        least: first version that will do.
        below: first version that is too new; "" where none is known.
        bad: versions in between that will not do.
    """

    least: str
    below: str = ""
    bad: tuple[str, ...] = ()

    def spec(self) -> str:
        """The pin as pip writes it, such as ">=2.11,!=2.13.0"."""
        return ",".join([f">={self.least}", *(f"!={v}" for v in self.bad), *([f"<{self.below}"] if self.below else [])])

    def allows(self, version: str) -> bool:
        """Whether a version such as "2.15.0+cu130" will do."""
        given = numbers(version)
        high_enough, low_enough = given >= numbers(self.least), not self.below or given < numbers(self.below)
        return high_enough and low_enough and given not in map(numbers, self.bad)


PINS = {
    "torch": Pin("2.11", bad=("2.13.0",)),
    "torchvision": Pin("0.26"),
    "lightning": Pin("2.6.6"),
    "timm": Pin("1.0.20"),
    "torchmetrics": Pin("1.4"),
    "jsonargparse": Pin("4.53", below="5"),
    "wandb": Pin("0.18"),
}
STOLEN = ("2.6.2", "2.6.3")
"""Versions of lightning that were published with code that steals credentials."""


@dataclass(frozen=True)
class Probe:
    """What importing torch and torchvision in a process of their own gave.

    Attributes:
        torch: facts that PROBE printed; None where torch could not be imported.
        error: what was written to stderr where an import failed; "" where both succeeded.
        bf16: how many times as fast as fp32 bf16 is on the processor; None where an import failed.
    """

    torch: Mapping[str, Any] | None
    error: str
    bf16: float | None = None


def main(argv: Sequence[str]) -> int:
    """Run `ddlight doctor`. Returns 1 where a check failed, else 0."""
    parser = argparse.ArgumentParser(prog="ddlight doctor", description="Check this machine.", allow_abbrev=False)
    parser.parse_args(argv)
    checks = examine()
    sys.stdout.write("".join(f"{line}\n" for line in lines(checks)))
    return int(any(check.status == "fail" for check in checks))


def lines(checks: Sequence[Check]) -> list[str]:
    """Write one line per check: status, name, detail and, after an arrow, what to type."""
    width = max((len(check.name) for check in checks), default=0)
    return [f"{c.status:<4}  {c.name:<{width}}  {c.detail}" + f"  → {c.fix}" * bool(c.fix) for c in checks]


def examine() -> list[Check]:
    """Look at everything, in the order in which it is shown."""
    probe = probe_torch()
    facts = probe.torch or {}
    return [
        check_python(sys.version_info[:3]),
        Check("ok", "ddlight", f"{__version__} in {Path(__file__).parents[1]}"),
        *(check_package(name, installed(name)) for name in PINS),
        check_wheels(probe, installed("torch") or ""),
        *check_data(find_data()),
        check_gpu(facts, shutil.which("nvidia-smi") is not None, os.environ),
        check_nccl(facts),
        check_slurm(os.environ, shutil.which("srun") is not None),
        check_wandb(os.environ, Path.home()),
        check_cores(*cores(), os.environ),
        check_bf16(probe.bf16),
        check_memory(memory()),
        check_allocator(os.environ, _has_mallopt()),
    ]


# Versions and wheels


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: (2, 15, 0) of "2.15.0+cu130" and of "2.15.0rc1"."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found.group().split("."))) if found else ()


def installed(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_python(version: tuple[int, ...]) -> Check:
    """Python 3.10 or newer."""
    text = f"{'.'.join(map(str, version))} in {sys.prefix}"
    if version < (3, 10):
        return Check("fail", "python", f"{text}: 3.10 or newer is needed", "install a newer Python")
    return Check("ok", "python", text)


def check_package(name: str, version: str | None) -> Check:
    """A package is there, in a version that ddlight works with; lightning is none that steals or lets code in."""
    pin = PINS[name]
    fix = f'pip install "{name}{pin.spec()}"'
    if version is None:
        return Check("fail", name, "not installed", fix)
    if name == "lightning" and version in STOLEN:
        detail = f"{version} was published with code that steals credentials (GHSA-w37p-236h-pfx3)"
        return Check("fail", name, f"{detail}: change every key and password that this machine held", fix)
    if name == "lightning" and not pin.allows(version):
        return Check("fail", name, f"{version} lets a checkpoint run code when it is loaded (GHSA-qqmf-gpg7-g8gw)", fix)
    if not pin.allows(version):
        return Check("fail", name, f"{version} is not supported", fix)
    return Check("ok", name, version)


def probe_torch(timeout: float = 120.0) -> Probe:
    """Import torch and torchvision in a process of their own, which may fail without taking this one along.

    Args:
        timeout: seconds after which the import is given up.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return Probe(None, f"importing torch took longer than {timeout:.0f} s")
    facts, speed, *_ = [*done.stdout.splitlines(), "", ""]
    error = done.stderr if done.returncode else ""
    return Probe(json.loads(facts) if facts else None, error, float(speed) if speed else None)


def check_wheels(probe: Probe, version: str) -> Check:
    """Torch and torchvision can be imported together.

    Args:
        probe: what importing them gave.
        version: the installed torch, whose tag such as "+cpu" says which index it came from.
    """
    if not probe.error:
        return Check("ok", "wheels", "torch and torchvision fit together")
    fix = f"pip install --force-reinstall torch torchvision{_index(version)}"
    if "torchvision::nms does not exist" in probe.error:
        detail = f"torchvision was built for another torch than {version} (operator torchvision::nms does not exist)"
        return Check("fail", "wheels", f"{detail}: install both from one index", fix)
    last = probe.error.strip().splitlines()[-1]
    return Check("fail", "wheels", f"torch and torchvision cannot be imported: {last}", fix)


def _index(version: str) -> str:
    tag = re.fullmatch(r"[^+]+\+(cpu|cu\d+|xpu|rocm[\d.]+)", version)
    return f" --index-url https://download.pytorch.org/whl/{tag.group(1)}" if tag else ""


# Data


def find_data(patience: float = 2.0) -> dict[str, str]:
    """Look for every dataset of the table.

    Args:
        patience: seconds to wait for each. Missing data are noticed at once, so that what takes longer is there.

    Returns:
        dict: name -> "" where the data are there, else what is wrong; empty where the datasets cannot be read.
    """
    try:
        from ddlight.data.table import TABLE

        names = [name for name, info in TABLE.items() if info.train]  # the others have no place of their own
    except ImportError:
        return {}
    found = {}
    for name in names:
        answer: list[str] = []
        looking = threading.Thread(target=lambda n=name, a=answer: a.append(_look(n)), daemon=True)
        looking.start()
        looking.join(patience)
        found[name] = answer[0] if answer else ""
    return found


def _look(name: str) -> str:
    from ddlight import data as datasets

    try:
        getattr(datasets, name)().identity()
    except DDLightError as error:
        return str(error)
    except Exception as error:  # a broken installation must not end the examination
        return f"{name}: {type(error).__name__}: {error}"
    return ""


def check_data(found: Mapping[str, str]) -> list[Check]:
    """Say which datasets are there, which are missing and which are wrong.

    Args:
        found: name -> "" where the data are there, else what is wrong.
    """
    if not found:
        return [Check("warn", "data", "the datasets cannot be read", 'pip install "scikit-learn>=1.4" "numpy>=1.26"')]
    there = [name for name, wrong in found.items() if not wrong]
    missing = [name for name, wrong in found.items() if wrong.startswith(f"{name} was not found")]
    broken = {name: wrong for name, wrong in found.items() if name not in there and name not in missing}
    place = os.environ.get("DDLIGHT_DATA") or "~/.cache/ddlight/data"
    checks = [Check("ok" if there else "warn", "data", f"found: {', '.join(there) or 'none'} (in {place} and beside)")]
    if missing:
        checks.append(Check("ok", "data", f"not here: {', '.join(missing)}", f"ddlight datasets {missing[0]}"))
    return checks + [
        Check("warn", "data", wrong.splitlines()[0], f"ddlight datasets {n}") for n, wrong in broken.items()
    ]


# Devices and cluster


def check_gpu(torch: Mapping[str, Any], driver: bool, env: Mapping[str, str]) -> Check:
    """Which GPUs torch can use.

    Args:
        torch: facts of the probe; empty where torch could not be imported.
        driver: whether an NVIDIA driver's tools are on the PATH.
        env: environment variables.
    """
    if torch.get("gpus"):
        return Check("ok", "GPU", ", ".join(f"{name} ({size / 1e9:.0f} GB)" for name, size in torch["gpus"]))
    if torch.get("mps"):
        return Check("ok", "GPU", "Apple (mps)")
    hidden = env.get("CUDA_VISIBLE_DEVICES")
    if driver and hidden in ("", "-1"):
        return Check("warn", "GPU", f"hidden by CUDA_VISIBLE_DEVICES='{hidden}'", "unset CUDA_VISIBLE_DEVICES")
    if driver and torch and not torch["accelerated"]:
        fix = "pip install --force-reinstall torch torchvision"
        return Check("warn", "GPU", f"an NVIDIA driver is here, but torch {torch['version']} is a CPU build", fix)
    if driver and torch:
        return Check("warn", "GPU", "an NVIDIA driver is here, but torch finds no GPU (driver too old?)", "nvidia-smi")
    return Check("ok", "GPU", "none: runs use the CPU")


def check_nccl(torch: Mapping[str, Any]) -> Check:
    """NCCL, which several GPUs need to work together."""
    if torch.get("nccl"):
        return Check("ok", "NCCL", torch["nccl"])
    if len(torch.get("gpus", [])) > 1:
        return Check("warn", "NCCL", "not in this torch: several GPUs cannot work together", "--trainer.devices=1")
    return Check("ok", "NCCL", "none, and not needed without several GPUs")


def check_slurm(env: Mapping[str, str], srun: bool) -> Check:
    """SLURM: outside a job whether jobs can be started, inside one whether Lightning will accept it.

    Args:
        env: environment variables.
        srun: whether srun is on the PATH.
    """
    job, tasks, nodes = (env.get(f"SLURM_{name}") for name in ("JOB_ID", "NTASKS", "NNODES"))
    if job is None:
        return Check("ok", "SLURM", "srun found", "ddlight submit --config X") if srun else Check("ok", "SLURM", "none")
    if env.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return Check("ok", "SLURM", f"interactive job {job}: Lightning starts its processes itself")
    per_node = env.get("SLURM_NTASKS_PER_NODE")
    if int(tasks or 1) > 1 and per_node is None:
        per = int(tasks or 1) // int(nodes or 1)
        detail = f"job {job} asks for --ntasks={tasks}, which Lightning refuses"
        return Check("fail", "SLURM", detail, f"#SBATCH --ntasks-per-node={per}")
    return Check("ok", "SLURM", f"job {job}: {nodes or 1} nodes, {per_node or 1} tasks per node")


def check_wandb(env: Mapping[str, str], home: Path) -> Check:
    """Whether W&B finds a login."""
    ready, detail = login(env, home)
    return Check("ok", "W&B", detail) if ready else Check("warn", "W&B", detail, "wandb login")


# This machine


def cores(cgroup: Path = Path("/sys/fs/cgroup")) -> tuple[int, int]:
    """Return the CPU cores that this process may use, and those that the machine has."""
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    quota = _words(cgroup / "cpu.max")
    if len(quota) == 2 and quota[0].isdigit():
        usable = min(usable, max(1, int(quota[0]) // int(quota[1])))
    return usable, total


def check_cores(usable: int, total: int, env: Mapping[str, str]) -> Check:
    """CPU cores, and whether OMP_NUM_THREADS asks for more than there are."""
    detail = f"{usable} of {total} cores" if usable < total else f"{total} cores"
    threads = env.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) > usable:
        return Check("warn", "CPU", f"{detail}, but OMP_NUM_THREADS={threads}", f"export OMP_NUM_THREADS={usable}")
    return Check("ok", "CPU", detail + f", OMP_NUM_THREADS={threads}" * bool(threads))


def check_bf16(speed: float | None) -> Check:
    """What precision auto becomes on the processor; None is not known, as torch could not be imported."""
    if speed is None:
        return Check("ok", "bf16", "not known without torch")
    return Check("ok", "bf16", f"{speed:.2g} x as fast as fp32 on the CPU: auto is {'bf16' if speed > 1 else 'fp32'}")


def memory(cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the memory that this process may use, in bytes; None where the system does not tell."""
    total = total_memory()
    if math.isinf(total):
        return None
    limit = _words(cgroup / "memory.max")
    return int(min(total, int(limit[0]))) if limit and limit[0].isdigit() else int(total)


def check_memory(size: int | None) -> Check:
    """Memory; a warning below 4 GB, which the full small datasets with a network take."""
    if size is None:
        return Check("ok", "memory", "this system does not tell")
    return Check("warn" if size < 4e9 else "ok", "memory", f"{size / 1e9:.1f} GB")


def check_allocator(env: Mapping[str, str], mallopt: bool) -> Check:
    """How large blocks of memory are kept between training steps on the CPU.

    Args:
        env: environment variables.
        mallopt: whether the C library lets its allocator be tuned, as ddlight does when it starts.
    """
    preload = env.get("LD_PRELOAD", "")
    for name in ("tcmalloc", "jemalloc"):
        if name in preload:
            return Check("ok", "allocator", f"{name} by LD_PRELOAD")
    if mallopt:
        return Check("ok", "allocator", "glibc, told at start-up to keep large blocks")
    return Check("ok", "allocator", f"that of {platform.system()}, left as it is")


def _has_mallopt() -> bool:
    return platform.libc_ver()[0] == "glibc" and hasattr(ctypes.CDLL(None), "mallopt")


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []

"""One training run in a process of its own, which prints what memory it took and what was predicted, as JSON.

Called by test_memory.py: python memory_run.py condense|predict|fit FOLDER IPC STUDENT BATCH
"""

import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torchmetrics  # noqa: F401  among the libraries that are not counted
from PIL import Image

from ddlight.cli.dry_run import estimate
from ddlight.core.artefact import Unit
from ddlight.data import ImageFolder
from ddlight.methods.base import Synthesiser
from ddlight.networks.students import ConvNet, ResNet, Torchvision  # noqa: F401
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.hard_label import HardLabel
from ddlight.sets.store import Synthesis
from ddlight.train.trainer import Trainer

SIDE, PIECE = 224, 250
STUDENTS = {
    "convnet": lambda: ConvNet(2, 8),
    "convnet32": lambda: ConvNet(3, 32),
    "resnet18": lambda: Torchvision("resnet18"),
}


class Blocks(Synthesiser):
    """Images of random blocks of 8 x 8 pixels, made 250 at a time."""

    def estimate_seconds(self):
        return 1.0

    def units(self):
        pieces = -(-self.ipc // PIECE)
        return [Unit(2 * k + c, (c,), (k,)) for k in range(pieces) for c in range(2)]

    def make(self, unit):
        count = min(PIECE, self.ipc - PIECE * unit.images[0])
        coarse = np.random.default_rng(unit.number).integers(0, 255, (count, 3, SIDE // 8, SIDE // 8), np.uint8)
        return Synthesis(coarse.repeat(8, 2).repeat(8, 3), np.full(count, unit.classes[0]))


def status(name):
    """A line of /proc/self/status in bytes."""
    return int(re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)[1]) * 1024


def tree(folder):
    """A dataset of two classes with two images each."""
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            for i in range(2):
                place = folder / part / name / f"{i}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (SIDE, SIDE), (40 * i, 0, 0)).save(place)
    return str(folder)


def main(task, folder, ipc, student, batch):
    data = Blocks(ImageFolder(tree(Path(folder) / "tree"), size=SIDE), ipc=int(ipc), cache=str(Path(folder) / "cache"))
    recipe = Override(batch=int(batch), crop_scale=(0.5, 1.0), mix="cutmix")
    model = HardLabel(STUDENTS[student](), recipe=recipe, budget=Budget(steps=4))
    trainer = Trainer(run=str(Path(folder) / "run"), accelerator="cpu", devices=1, progress=False)
    before = status("VmRSS")
    if task == "condense":
        data.condense()
        print(json.dumps({"memory": status("VmHWM") - before}))
    elif task == "predict":
        run = model.resolve_run(data, data.expected_images, 4)
        start = time.perf_counter()
        cost = estimate(run, model, data, torch.device("cpu"), 1)
        print(json.dumps({"memory": cost.memory, "disk": cost.disk, "seconds": time.perf_counter() - start}))
    else:
        trainer.fit_run(model, data)
        wrote = sum(p.stat().st_size for p in (Path(folder) / "run").rglob("*") if p.is_file())
        print(json.dumps({"memory": status("VmHWM") - before, "disk": wrote}))


if __name__ == "__main__":
    main(*sys.argv[1:6])

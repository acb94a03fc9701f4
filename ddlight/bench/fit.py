"""A whole `ddlight fit` beside a plain script that reads, trains and tests the same: CPU seconds of the processes."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ddlight.bench.timing import THREAD, Measure, interleaved, measured, ratio
from ddlight.data.digits import Digits
from ddlight.methods.baselines.random import Random
from ddlight.networks.students import ConvNet
from ddlight.recipes.budget import Budget
from ddlight.regimes.hard_label import HardLabel
from ddlight.train.trainer import Trainer
from ddlight.views.normalise import normalise

STEPS, IPC, SIZE, WIDTH = 2000, 10, 32, 32
PLAIN = """
import sys
from pathlib import Path
import numpy as np
import torch
from PIL import Image
from torch import nn

root, ipc, steps, size, width = Path(sys.argv[1]), *map(int, sys.argv[2:])

def read(part, count=None):
    images, labels = [], []
    for label, folder in enumerate(sorted((root / part).iterdir())):
        for file in sorted(folder.iterdir())[:count]:
            with Image.open(file) as image:
                images.append(np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)))
            labels.append(label)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    return (pixels - 0.5) / 0.25, torch.tensor(labels)

images, labels = read("train", ipc)
classes, layers, channels = int(labels.max()) + 1, [], 3
for _ in range(3):
    layers += [nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(width, width), nn.ReLU(True), nn.AvgPool2d(2)]
    channels = width
network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * (size // 8) ** 2, classes))
optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
done = 0
while done < steps:
    for rows in torch.randperm(len(images)).split(256):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images[rows]), labels[rows]).backward()
        optimizer.step()
        schedule.step()
        done += 1
        if done == steps:
            break
tests = "test" if (root / "test").is_dir() else "val"
images, labels = read(tests)
with torch.no_grad():
    right = sum(int((network(x).argmax(1) == y).sum()) for x, y in zip(images.split(500), labels.split(500)))
print(done, 100 * right / len(labels))
"""


def measure(folder: Path, quick: bool, rounds: int, root: Path | None = None) -> Iterator[Measure]:
    """Goals of a whole run, of its start and of its evaluation; pictures are `root`'s train/ and test/, or digits."""
    pictures, steps = root or write_digits(folder / "digits"), 3 if quick else STEPS
    ours = partial(cpu_seconds, partial(fit_command, folder, pictures))
    plain = [sys.executable, "-c", PLAIN, str(pictures), *map(str, (IPC, steps, SIZE, WIDTH))]
    works = {"ours": lambda: ours(steps), "plain": lambda: cpu_seconds(lambda: plain)}
    seconds = interleaved(works, min(3, rounds))
    what = f"CPU time of a fit of {steps:,} steps, compiled where that pays / a plain script"
    yield measured("P26", what, 0.75, seconds["ours"], seconds["plain"], most=True)
    imports = [sys.executable, "-c", "import torch, lightning"]
    works = {"ours": lambda: ours(1), "imports": lambda: cpu_seconds(lambda: imports)}
    seconds = interleaved(works, min(3, rounds))
    what = "CPU time of a fit of one step / importing torch and lightning"
    yield measured("P27", what, 1.5, seconds["ours"], seconds["imports"], most=True)
    yield evaluation(folder, ConvNet(1, 4) if quick else ConvNet(3, 128), rounds)


def fit_command(folder: Path, pictures: Path, steps: int) -> list[str]:
    """A command that fits a ConvNet-D3 on `IPC` pictures a class, in a run folder of its own."""
    run = folder / f"run{len(list(folder.glob('run*')))}"
    words = ["--data=Random", "--data.dataset=ImageFolder", f"--data.dataset.root={pictures}", f"--data.ipc={IPC}"]
    words += [f"--data.dataset.size={SIZE}", f"--data.cache={folder / 'cache'}", "--model=HardLabel"]
    words += ["--model.student=ConvNet", f"--model.student.width={WIDTH}", f"--model.budget.steps={steps}"]
    words += ["--model.compile_networks=auto", "--trainer.accelerator=cpu", "--trainer.devices=1"]
    return [sys.executable, "-m", "ddlight", "fit", *words, "--trainer.progress=false", f"--trainer.run={run}"]


def cpu_seconds(command: Callable[..., Sequence[str]], *args: object) -> float:
    """CPU seconds of a command and of all that it starts, each of their threads alone."""
    words, before = command(*args), resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(words, env=env, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def write_digits(folder: Path) -> Path:
    """Write the digits as pictures in train/<class>/ and test/<class>/; return the folder."""
    for part in ("train", "test"):
        split = Digits(size=SIZE).split(part)  # type: ignore[arg-type]
        for n, (image, label) in enumerate(zip(split.images, split.labels.tolist(), strict=True)):
            file = folder / part / str(label) / f"{n:04d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0]).save(file)
    return folder


def evaluation(folder: Path, student: ConvNet, rounds: int) -> Measure:
    """Time of reading the test split with a run's Trainer, over that of the network on the same images."""
    data = Random(Digits(size=SIZE), ipc=1, cache=str(folder / "cache"))
    trainer = Trainer(run=str(folder / "test"), progress=False, resume=False, accelerator="cpu", devices=1)
    model = HardLabel(student, budget=Budget(steps=1))
    trainer.fit(model, datamodule=data)
    info, test = data.dataset.info, data.dataset.split("test")

    @torch.inference_mode()
    def bare() -> int:
        assert model.network is not None
        images = normalise(torch.from_numpy(np.array(test.images)), info.mean, info.std)
        return int((model.network(images).argmax(1) == torch.from_numpy(np.array(test.labels))).sum())

    def ours() -> None:
        trainer.test(model, datamodule=data, verbose=False)

    what = "CPU time of reading the test split: ddlight's Trainer / the network alone"
    return ratio("P28", what, 1.1, ours, bare, rounds, THREAD, most=True)

"""What tests of methods share: a teacher with weights of its own, and a folder of pictures of many shapes."""

import numpy as np
import pytest
import torch
from PIL import Image

from ddlight.data import Digits
from ddlight.methods.baselines.full import FullData
from ddlight.networks.students import ConvNet
from ddlight.networks.teachers import FileTeacher, RunTeacher
from ddlight.recipes.budget import Budget
from ddlight.regimes.hard_label import HardLabel
from ddlight.train.trainer import Trainer

SIZE = 8
STUDENT = ConvNet(depth=2, width=6, norm="batch")
GREY = {"mean": [0.31], "std": [0.4]}
COLOUR = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25]}


@pytest.fixture
def patch_teacher(home):
    """Build a teacher and its plain network: patch_teacher(size=16, classes=10, colour=False)."""

    def build(size=16, classes=10, colour=False):
        torch.manual_seed(3)
        network = STUDENT.build(classes, 3 if colour else 1, size)
        with torch.no_grad():
            for value in network.parameters():
                value.mul_(2)
            network(torch.randn(64, 3 if colour else 1, size, size))
        file = home / f"teacher{size}-{classes}-{colour}.pt"
        torch.save(network.state_dict(), file)
        return FileTeacher(STUDENT, str(file), **(COLOUR if colour else GREY), size=size), network.eval()

    return build


@pytest.fixture
def pictures(home):
    """A folder of two classes of 12 pictures each, no two of one shape."""
    rng = np.random.default_rng(5)
    for name in ("cat", "dog"):
        (home / "pictures" / "train" / name).mkdir(parents=True)
        (home / "pictures" / "test" / name).mkdir(parents=True)
        for number in range(13):
            coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((20 + 3 * number, 50 - 2 * number), Image.Resampling.BICUBIC)
            image.save(home / "pictures" / ("test" if number == 12 else "train") / name / f"{number:02d}.png")
    return home / "pictures"


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    """A ConvNet with BatchNorm that knows most digits."""
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("teacher")
    model = HardLabel(ConvNet(2, 8, "batch"), "rethinkdc_hard", budget=Budget(steps=150))
    data = FullData(Digits(size=SIZE), cache=str(run))
    Trainer(run=str(run), accelerator="cpu", devices=1, progress=False).fit(model, datamodule=data)
    return RunTeacher(str(run))

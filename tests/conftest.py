"""What tests of whole runs share: a tiny training run in this process, in folders of its own."""

import multiprocessing

import pytest


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty working folder with its own cache of condensed sets."""
    monkeypatch.setenv("DDLIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fit(home):
    """Fit a regime on a data module on the CPU, and give the Trainer back: fit(model, data, run="a", ...)."""
    import torch

    from ddlight.train.trainer import Trainer

    torch.set_num_threads(1)

    def run_it(model, data, run="run", callbacks=(), test=True, **options):
        options = {"accelerator": "cpu", "devices": 1, "progress": False, "resume": False, **options}
        trainer = Trainer(run=str(home / run), callbacks=list(callbacks), **options)
        if test:
            trainer.fit_run(model, data)
        else:
            trainer.fit(model, datamodule=data)
        return trainer

    return run_it


@pytest.fixture(scope="session")
def processes():
    """A multiprocessing context whose processes begin with the heavy libraries imported: for ranks and signals."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ddlight.cli.command_line", "sklearn.datasets"])
    return context


@pytest.fixture
def command(home, monkeypatch, capsys):
    """Run a command line in this process, as the shell would: command("fit", ...) gives code, out and err.

    A traceback would show as an exception of the test itself.
    """
    import logging
    from types import SimpleNamespace

    import torch

    from ddlight.__main__ import main

    torch.set_num_threads(1)
    monkeypatch.delenv("DDLIGHT_DEBUG", raising=False)

    def call(*words):
        logging.getLogger("ddlight").handlers.clear()  # the handler of an earlier test writes to what is closed by now
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:  # how argparse ends --help
            code = stop.code
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    yield call
    logging.getLogger("ddlight").handlers.clear()
    logging.getLogger("ddlight").propagate = True


@pytest.fixture
def relabel():
    """Write a folder of labels as the published relabelling scripts do, with torchvision's and PIL's transforms.

    relabel(folder, images uint8 (N, C, H, W), teacher, info, epochs=..., batch=..., items=6, mixing="cutmix",
    half=True, sampler=RandomSampler, scale=(0.1, 1.0)) gives {(epoch, batch): (indices, mixed and normalised views)}.
    `pruned` is LPLD's number of batches that are kept, without the remainder of each pass and with the order beside
    them; `top` (LPQLD) counts them through and keeps so many logits in small types; `softened` (HALD) writes a pass a
    file, probabilities at that temperature.
    """
    import json

    import numpy as np
    import torch
    from torch.utils.data import DataLoader, Dataset, RandomSampler
    from torchvision.transforms import InterpolationMode, RandomResizedCrop
    from torchvision.transforms import functional as steps

    class Drawn(Dataset):
        def __init__(self, images, info, tensors, scale):
            self.images, self.info, self.tensors, self.scale = images, info, tensors, list(scale)

        def __len__(self):
            return len(self.images)

        def __getitem__(self, index):
            image = steps.to_pil_image(torch.from_numpy(self.images[index]))
            width, height = image.size
            top, left, h, w = RandomResizedCrop.get_params(image, self.scale, [3 / 4, 4 / 3])
            if self.tensors:
                image, coords = steps.to_tensor(image), (top / width, left / height, h / width, w / height)
            else:
                coords = (top / height, left / width, h / height, w / width)
            size = [self.info.size] * 2
            view = steps.resized_crop(image, top, left, h, w, size, InterpolationMode.BILINEAR, antialias=True)
            mirrored = bool(torch.rand(1) < 0.5)
            view = steps.hflip(view) if mirrored else view
            view = view if self.tensors else steps.to_tensor(view)
            return steps.normalize(view, self.info.mean, self.info.std), torch.FloatTensor(coords), mirrored, index

    def mix(views, mixing, draw):
        if mixing == "none":
            return views, None, None, None
        partner, share = torch.randperm(len(views)), float(draw.beta(1, 1))
        if mixing == "mixup":
            return share * views + (1 - share) * views[partner], partner, share, None
        side = views.shape[2]
        cut, centre = int(side * np.sqrt(1 - share)), draw.integers(side, size=2)
        low, high = (np.clip(centre + move, 0, side) for move in (-(cut // 2), cut // 2))
        views[:, :, low[0] : high[0], low[1] : high[1]] = views[partner, :, low[0] : high[0], low[1] : high[1]]
        return views, partner, share, [low[0], low[1], high[0], high[1]]

    def write(
        folder,
        images,
        teacher,
        info,
        *,
        epochs,
        batch,
        items=6,
        mixing="cutmix",
        half=True,
        sampler=None,
        scale=(0.1, 1.0),
        pruned=None,
        top=None,
        softened=None,
    ):
        data, seen, draw = Drawn(images, info, items == 8, scale), {}, np.random.default_rng(7)
        generator = torch.Generator()
        generator.manual_seed(42)
        source, order = (sampler or RandomSampler)(data, generator=generator), {}
        loader = DataLoader(data, batch_size=batch, sampler=source, drop_last=pruned is not None)
        left = pruned
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            for epoch in range(epochs):
                whole = []
                (folder if top or softened else folder / f"epoch_{epoch}").mkdir(parents=True, exist_ok=True)
                for number, (views, coords, mirrored, index) in enumerate(loader):
                    if left is not None and len(seen) == left:
                        break
                    mixed, partner, share, box = mix(views, mixing, draw)
                    logits = teacher(mixed).half() if half else teacher(mixed)
                    orders = torch.zeros(len(index), 2, 2).int()
                    content = [coords, mirrored, partner, share, box, logits, index, orders][:items]
                    if top:
                        largest = logits.topk(top, 1)
                        box = [torch.tensor(int(edge), dtype=torch.uint8) for edge in box]
                        content = [coords.half(), mirrored, partner.byte(), share, box, *largest]
                        content[6] = content[6].short()
                    if softened:
                        content = [coords.half(), *content[1:5], (teacher(mixed) / softened).softmax(1).half()]
                    file = f"batch_{len(seen)}.tar" if top else f"epoch_{epoch}/batch_{number}.tar"
                    whole.append(content)
                    order.setdefault(str(len(seen) if top else epoch), []).extend(index.tolist())
                    if not softened:
                        torch.save(content, folder / file)
                    seen[epoch, number] = index, mixed
                if softened:
                    torch.save(whole, folder / f"epoch_{epoch}.tar")
        if pruned is not None:
            (folder / f"sampler_indices_{'batch' if top else 'epoch'}.json").write_text(json.dumps(order))
        elif softened:
            torch.save(order, folder / "sampler_indices_dict.pt")
        return seen

    return write

"""TrainedDiT: a class-conditional DiT that ddlight trains itself, on any dataset; sealed, and shared by all who ask."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.utils import make_grid, save_image

from ddlight.core import files
from ddlight.core.artefact import Artefact, Unit, Workspace
from ddlight.core.errors import UsageError
from ddlight.core.naming import named
from ddlight.core.randomness import generator
from ddlight.data.base import RealDataset
from ddlight.methods.generative.engine.backbone import Backbone, Denoiser
from ddlight.methods.generative.engine.latents import mirrored
from ddlight.methods.generative.engine.network import DiTNetwork
from ddlight.methods.generative.engine.schedule import LEVELS, Schedule, ancestral, linear_betas, spread, training_loss
from ddlight.methods.generative.engine.training import Averages, Training, batch_of
from ddlight.methods.scoring.cost import operations_per_second, training_facts
from ddlight.methods.watch import IterationBar
from ddlight.networks.device import current_device, number_format
from ddlight.networks.flops import TRAINING

log = logging.getLogger("ddlight")
VERSION = 1
"""Raised by hand when other weights come from the same arguments."""
TINY_GENERATOR: dict[str, Any] = {
    "class_path": "ddlight.TrainedDiT",
    "init_args": {"width": 16, "depth": 1, "heads": 2, "patch": 8, "steps": 2, "batch": 8},
}
"""A generator of a second, for `--tiny`."""
TOKENS = 7
"""Patches a side, at least, unless `patch` is given."""
SHOWN, SHOWN_STEPS, SHOWN_GUIDANCE = 20, 20, 2.0
"""Samples in a picture of the training, and how they are drawn."""


@dataclass(frozen=True)
class TrainedDiT(Backbone):
    """A class-conditional DiT that ddlight trains on the dataset's own pixels; `ddlight generator` makes it.

    Paper: arXiv 2212.09748 (network, loss with learned variance, label dropout), in pixels in place of latents. The
    network says the velocity (arXiv 2202.00512, appendix D), of which small networks make images where those that say
    the noise fail: at the first steps an error of the noise counts 150 times in the image.

    Args:
        width: of a token.
        depth: number of blocks.
        heads: of attention.
        patch: side of a patch in pixels; null takes the largest that leaves 7 x 7 of them or more.
        steps: of training.
        batch: images of a step.
        lr: of AdamW.
        ema: decay of the weights' average, which is what samples.
        label_dropout: share of images whose class is withheld in training, for guidance.
        precision: number format of training: fp32, bf16, or auto, which takes bf16 where it is fast.
        seed: of weights and draws.
    """

    width: int = 256
    depth: int = 6
    heads: int = 4
    patch: int | None = None
    steps: int = 20_000
    batch: int = 64
    lr: float = 3e-4
    ema: float = 0.999
    label_dropout: float = 0.1
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers. Raises UsageError."""
        for name in ("width", "depth", "heads", "steps", "batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"backbone.{name} is {getattr(self, name)}; allowed: 1 or more.")
        if self.width % (4 * self.heads) or self.width % self.heads:
            raise UsageError(f"backbone.width {self.width} must be a multiple of 4 x heads: {4 * self.heads}.")

    def run(self, dataset: RealDataset, cache: Path) -> "GeneratorRun":
        """The training of a dataset's generator."""
        return GeneratorRun(self, dataset, cache)

    def load(self, dataset: RealDataset, cache: Path) -> "PixelDenoiser":
        """The trained network."""
        return self.run(dataset, cache).model()

    def facts(self, dataset: RealDataset, cache: Path) -> dict[str, Any]:
        """Which training it was, and what that cost: a part of what the set cost."""
        return training_facts("generator", self.run(dataset, cache).manifest())


class PixelDenoiser(Denoiser):
    """A `DiTNetwork` over images in [-1, 1]: they are their own latents.

    Args:
        network: on its device.
        num_classes: classes that it knows; one more stands for none.
        size: of the images in pixels.
    """

    network: DiTNetwork

    def __init__(self, network: DiTNetwork, num_classes: int, size: int) -> None:
        self.network, self.num_classes, self.size = network, num_classes, size
        self.channels = self.guided_channels = network.channels
        self.shape = (network.channels, size, size)
        self.betas = linear_betas()
        self._abar = torch.from_numpy(np.cumprod(1 - self.betas)).float().to(network.places.device)

    def condition(self, labels: Sequence[int], prompts: Sequence[str] | None = None) -> Tensor:
        """The classes' numbers."""
        return torch.as_tensor(list(labels), device=self.network.label.weight.device)

    def tuned_parts(self) -> tuple[Sequence[nn.Module], dict[str, int], nn.Embedding]:
        """Blocks, layers and table of a `DiTNetwork`."""
        return list(self.network.blocks), {"qkv": 1, "proj": 2, "fc2": 1}, self.network.label

    def null(self, condition: Tensor) -> Tensor:
        """The number that stands for no class."""
        return torch.full_like(condition, self.num_classes)

    def __call__(self, x: Tensor, t: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Noise, from the velocity that the network says, and variance."""
        velocity, v = self.network(x, t, condition).float().chunk(2, 1)
        abar = self._abar[t].reshape(-1, 1, 1, 1)
        return abar.sqrt() * velocity + (1 - abar).sqrt() * x, v

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The images; nothing about them is uncertain."""
        return images, torch.zeros_like(images)

    def decode(self, latents: Tensor) -> Tensor:
        """The latents."""
        return latents


class GeneratorRun(Artefact):
    """The training of a `TrainedDiT` on one device: its name on disk, its progress, its weights.

    While it works, `preview.png` in its working folder has samples, each column a class, renewed with its progress.

    Args:
        how: the generator.
        dataset: whose training split it learns.
        cache: folder of condensed sets; it lies in <cache>/<dataset>/generators/<fingerprint>.
    """

    kind = "generator"
    again = "'ddlight generator'"

    def __init__(self, how: TrainedDiT, dataset: RealDataset, cache: Path) -> None:
        super().__init__(cache / dataset.info.name / "generators")
        self.how, self.dataset = how, dataset

    def identity(self) -> dict[str, Any]:
        """Data and all numbers of the training."""
        return {"version": VERSION, "dataset_identity": self.dataset.identity(), "network": named(self.how)}

    @cached_property
    def patch(self) -> int:
        """Side of a patch. Raises UsageError where it does not divide the image's side."""
        size, given = self.dataset.info.size, self.how.patch
        patch = given or max(p for p in range(1, max(1, size // TOKENS) + 1) if size % p == 0)
        if size % patch:
            raise UsageError(f"backbone.patch {patch} does not divide images of {size} pixels.")
        return patch

    def network(self) -> DiTNetwork:
        """The network as it begins."""
        how, info = self.how, self.dataset.info
        shape = self.dataset.num_classes, info.channels, info.size, self.patch, how.width, how.depth, how.heads
        return DiTNetwork(*shape, seed=int(generator(how.seed, "generator weights").integers(2**62)))

    def model(self) -> PixelDenoiser:
        """The trained network, loaded. Raises DataError where it is missing or damaged."""
        self.verified()
        network = self.network()
        network.load_state_dict(load_file(self.folder / "network.safetensors"))
        return self._denoiser(network.eval().requires_grad_(False))

    def _denoiser(self, network: DiTNetwork) -> PixelDenoiser:
        return PixelDenoiser(network.to(current_device()), self.dataset.num_classes, self.dataset.info.size)

    # --- making it ---

    def make_unit(self, work: Workspace, unit: Unit) -> None:
        """Train, from where a stopped process was."""
        how, info = self.how, self.dataset.info
        model = self._denoiser(self.network().train())
        parameters = dict(model.network.named_parameters())
        size = sum(p.numel() for p in parameters.values())
        log.info("generator of %s: %s, %d parameters, %d steps", info.name, how, size, how.steps)
        training = Training(how.steps, how.lr, how.ema, True, work.folder / "training.progress")
        drawn: list[Tensor] = []

        def show(averages: Averages) -> None:
            drawn[:] = [samples(self._averaged(averages), self.dataset.num_classes)]

        with IterationBar(f"generator of {info.name}", how.steps, lambda x: (x[0] + 1) / 2, work.folder) as bar:

            def watch(step: int, terms: Any, averages: Averages, kept: bool) -> None:
                if kept or step == 0 or step + 1 == how.steps:
                    show(averages)
                    bar.picture(drawn)
                bar(step, terms, drawn)

            averages, seconds = training.run(parameters, self._loss(model), watch, {})
        if not drawn:  # it was stopped after its last step
            show(averages)
        picture = make_grid((drawn[0].clamp(-1, 1).cpu() + 1) / 2, nrow=min(self.dataset.num_classes, SHOWN))
        save_image(picture, work.folder / "samples.png")
        files.write_json(work.folder / "seconds.json", seconds)
        work.write(unit, save({name: tensor.cpu().contiguous() for name, tensor in averages.items()}))

    def _averaged(self, averages: Averages) -> PixelDenoiser:
        network = self.network()
        network.load_state_dict(averages)
        return self._denoiser(network.eval())

    def _loss(self, model: PixelDenoiser) -> Callable[[int], dict[str, Tensor]]:
        """DiT's loss at a step: images in an order of each pass, levels, noise, mirrors and dropped classes drawn."""
        how, info, split = self.how, self.dataset.info, self.dataset.index("train")
        schedule, device = Schedule(model.betas, np.arange(LEVELS)), current_device()
        order: Callable[[int], np.ndarray] = lru_cache(2)(
            lambda epoch: generator(how.seed, "generator order", epoch).permutation(len(split))
        )

        def loss(step: int) -> dict[str, Tensor]:
            rows = batch_of(step, how.batch, len(split), order)
            rng = generator(how.seed, "generator step", step)
            x0 = torch.from_numpy(self.dataset.take("train", rows)).to(device).float() / 127.5 - 1
            x0 = mirrored(x0, rng) if info.flip else x0
            t = torch.from_numpy(rng.integers(LEVELS, size=len(rows))).to(device)
            dropped = rng.random(len(rows)) < how.label_dropout
            labels = np.where(dropped, self.dataset.num_classes, split.labels[rows])
            noise = torch.from_numpy(rng.standard_normal(x0.shape, np.float32)).to(device)
            with self._format(device):
                eps, v = model(schedule.noised(x0, t, noise), t, model.condition(labels.tolist()))
            return {"loss": training_loss(schedule, x0, t, noise, eps, v, velocity=True).mean()}

        return loss

    def _format(self, device: torch.device) -> AbstractContextManager[Any]:
        chosen = number_format(self.how.precision, "bf16", "fp32", device.type, "backbone.precision")
        return torch.autocast(device.type, torch.bfloat16) if chosen == "bf16" else nullcontext()

    def collect(self, place: Path, work: Workspace) -> dict[str, Any]:
        """Write the averaged weights and some samples; what training them cost."""
        files.write_bytes(place / "network.safetensors", work.read(Unit(0)))
        files.write_bytes(place / "samples.png", (work.folder / "samples.png").read_bytes())
        return {
            "dataset": self.dataset.info.name,
            "classes": list(self.dataset.info.classes),
            "how": asdict(self.how),
            "seconds": files.read_json(work.folder / "seconds.json"),
            "images_seen": self.images,
            "flops": self.flops,
        }

    # --- what it costs ---

    @property
    def images(self) -> int:
        """Images that it sees while it is trained."""
        return self.how.steps * self.how.batch

    @cached_property
    def forward_flops(self) -> float:
        """Operations of one look at one image."""
        return denoiser_flops(self._denoiser(self.network()))

    @property
    def flops(self) -> float:
        """Operations of the training."""
        return TRAINING * self.images * self.forward_flops

    def estimate_seconds(self) -> float:
        """Rough time to train it; 0 where it exists."""
        return 0.0 if self.exists else self.flops / operations_per_second()


@torch.no_grad()
def samples(model: Denoiser, num_classes: int) -> Tensor:
    """A few images of the first classes, one row of all of them after another: (n, C, S, S), about in [-1, 1]."""
    schedule = Schedule(model.betas, spread(SHOWN_STEPS))
    labels = [k % num_classes for k in range(max(SHOWN // num_classes, 1) * min(num_classes, SHOWN))]
    noise = generator(0, "generator samples").standard_normal((SHOWN_STEPS, len(labels), *model.shape), np.float32)
    drawn = torch.from_numpy(noise).to(current_device())
    predict = model.guided(model.condition(labels), SHOWN_GUIDANCE)
    return model.decode(ancestral(predict, schedule, drawn[-1], lambda i: drawn[i - 1]))


def denoiser_flops(model: Denoiser) -> float:
    """Operations of one look at one image's latents; a multiply and an add count as two."""
    device = next(model.network.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *model.shape, device=device), torch.zeros(1, dtype=torch.int64, device=device),
              model.condition([0]))  # fmt: skip
    return float(counter.get_total_flops())

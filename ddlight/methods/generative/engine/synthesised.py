"""GenerativeSynthesiser: what every method that samples from a generator shares."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ddlight.core.artefact import Artefact, Unit
from ddlight.core.errors import DataError, UsageError
from ddlight.core.files import cache_folder
from ddlight.core.randomness import generator
from ddlight.methods.base import Synthesiser, require_images
from ddlight.methods.generative.engine.backbone import Backbone, Denoiser
from ddlight.methods.generative.engine.latents import Latents, fitted
from ddlight.methods.generative.engine.schedule import Hook, Schedule, ancestral, leading, redrawn, spread
from ddlight.methods.generative.engine.trained import TINY_GENERATOR, GeneratorRun, TrainedDiT, denoiser_flops
from ddlight.methods.images import repeatable
from ddlight.methods.scoring.cost import operations_per_second
from ddlight.methods.watch import IterationBar
from ddlight.networks.device import current_device
from ddlight.sets.store import Synthesis


class GenerativeSynthesiser(Synthesiser):
    """Draws the images of each class from a generator, a few at a time; what is drawn is kept after each batch.

    Noise belongs to (seed, name of the class, number of the image): it is the same in any subset of the classes, for
    any ipc and on any number of ranks. Deviation: published codes draw from one stream, in order.
    A method says in `draw` how latents come about, perhaps by `sample` or `redraw`.

    Args:
        backbone: the generator; null trains a `TrainedDiT` of this dataset.
        steps: of sampling, of the 1,000 levels.
        guidance: scale of classifier-free guidance; 1 takes none.
        guided_channels: of the latents; null takes the generator's own: 3 of DiT's 4, as its code has it.
        batch: images that are drawn together.
    """

    tiny: ClassVar[dict[str, Any]] = {"backbone": TINY_GENERATOR, "steps": 3, "batch": 2}
    uses_real: ClassVar[bool] = False
    """Whether making the set needs the full data, beside the generator."""
    share: float = 1.0
    """Share of the steps that are taken, and so of the noise."""

    def __init__(
        self,
        *args: Any,
        backbone: Backbone | None = None,
        steps: int = 50,
        guidance: float = 4.0,
        guided_channels: int | None = None,
        batch: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if steps < 1 or batch < 1:
            raise UsageError(f"steps and batch are at least 1; given: steps={steps}, batch={batch}.")
        self.backbone, self.steps, self.guidance = backbone, steps, guidance
        self.guided_channels, self.batch = guided_channels, batch

    # --- what a method says ---

    @abstractmethod
    def draw(self, label: int, images: Sequence[int]) -> Tensor:
        """Latents of some of a class's images, (n, C, h, w)."""

    @property
    def needed(self) -> Sequence[Artefact]:
        """What must be known of the full data first."""
        return ()

    # --- what it can use ---

    @cached_property
    def described(self) -> Backbone:
        """The generator that is meant."""
        return self.backbone or TrainedDiT()

    @property
    def place(self) -> Path:
        """Folder of condensed sets."""
        return cache_folder(self.cache)

    @cached_property
    def model(self) -> Denoiser:
        """The generator, loaded."""
        return self.described.load(self.dataset, self.place)

    @cached_property
    def schedule(self) -> Schedule:
        """The steps that are taken."""
        return Schedule(self.model.betas, spread(self.steps))

    def condition(self, label: int, images: Sequence[int]) -> Tensor:
        """What the generator is told of some of a class's images."""
        return self.model.condition([label] * len(images))

    def predict(self, label: int, images: Sequence[int]) -> Callable[[Tensor, int], tuple[Tensor, Tensor | None]]:
        """The guided generator for some of a class's images."""
        return self.model.guided(self.condition(label, images), self.guidance, self.guided_channels)

    def noise(self, label: int, images: Sequence[int]) -> Callable[[int], Tensor]:
        """Standard normal noise of a step, 1..steps; that of `steps` is where sampling begins: (n, C, h, w)."""
        purpose = f"noise of {self.dataset.info.classes[label]}"
        shape = self.steps, *self.model.shape
        drawn = np.stack([generator(self.seed, purpose, k).standard_normal(shape, np.float32) for k in images], 1)
        return lambda i: torch.from_numpy(drawn[i - 1]).to(current_device())

    def sample(self, label: int, images: Sequence[int], hook: Hook | None = None) -> Tensor:
        """Latents from noise, by DDPM's ancestral steps, to whose means the hook adds: (n, C, h, w)."""
        noise = self.noise(label, images)
        return ancestral(self.predict(label, images), self.schedule, noise(self.steps), noise, hook)

    def redraw(self, label: int, images: Sequence[int], points: np.ndarray) -> Tensor:
        """A class's points (ipc, C h w), noised to the level of `share` and brought back by DDIM: (n, C, h, w)."""
        schedule = Schedule(self.model.betas, leading(self.steps, 1)[: self.taken])
        targets, noise = self.targets(points, images), self.noise(label, images)(self.taken)
        return redrawn(self.predict(label, images), schedule, targets, noise)

    def latents(self, **options: Any) -> Latents:
        """Latents of the full data, made once for all sets that ask for the same."""
        return Latents(self.described, self.dataset, self.place, **options)

    def targets(self, points: np.ndarray, images: Sequence[int]) -> Tensor:
        """Some of a class's targets (ipc, C h w), as latents on the device: (n, C, h, w)."""
        chosen = torch.from_numpy(np.ascontiguousarray(points[list(images)], np.float32))
        return chosen.reshape(-1, *self.model.shape).to(current_device())

    # --- making it ---

    @property
    def generator_run(self) -> GeneratorRun | None:
        """The training that `ddlight generator` does; None where the generator was trained elsewhere."""
        how = self.described
        return how.run(self.dataset, self.place) if isinstance(how, TrainedDiT) else None

    def prepare(self) -> None:
        """Train the generator and look at the full data, where that is missing. Raises as `Backbone.load`."""
        if self.uses_real:
            require_images(self.dataset, self.ipc)
        if (run := self.generator_run) is not None:
            run.ensure()
        _ = self.model
        for made in self.needed:
            made.ensure()

    def make(self, unit: Unit) -> Synthesis:
        """Draw a class's images, from the batch at which a stopped process was."""
        label = unit.classes[0]
        kept = self.load_progress(unit)
        done = np.empty((0, *self._image_shape), np.uint8) if kept is None else kept["images"].numpy()
        title = f"{type(self).__name__} of {self.dataset.info.classes[label]}"
        for made in self.needed:
            made.ensure()
        with (
            repeatable(tf32=True),
            torch.no_grad(),
            IterationBar(title, self.ipc, lambda x: torch.from_numpy(x).float() / 255, self.working, len(done)) as bar,
        ):
            while len(done) < self.ipc:
                images = range(len(done), min(len(done) + self.batch, self.ipc))
                done = np.concatenate([done, self.pixels(self.model.decode(self.draw(label, images)))])
                self.save_progress(unit, {"images": torch.from_numpy(done)})
                bar(len(done) - 1, {"images": torch.tensor(float(len(done)))}, done)
        flat = done.reshape(len(done), -1)
        if (dull := flat.min(1) == flat.max(1)).any():
            raise DataError(f"{title}: image {int(dull.argmax())} has one colour. The generator did not train.")
        return Synthesis(done, np.full(self.ipc, label, np.int64), self.source_images(label))

    def source_images(self, label: int) -> int:
        """Real images that went into a class's: all of it where the full data is looked at."""
        return int((self.dataset.index("train").labels == label).sum()) if self.uses_real else 0

    @property
    def _image_shape(self) -> tuple[int, int, int]:
        info = self.dataset.info
        return info.channels, info.size, info.size

    def pixels(self, images: Tensor) -> np.ndarray:
        """Images of the generator in [-1, 1] as the set keeps them: uint8, at the dataset's size."""
        channels, size, _ = self._image_shape
        return ((fitted(images, size, channels).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()

    # --- what it costs ---

    @property
    def taken(self) -> int:
        """Steps that are taken."""
        return max(1, int(self.steps * self.share))

    @property
    def looks(self) -> float:
        """Times that the network looks at latents, for the whole set."""
        return self.expected_images * self.taken * (1 if self.guidance == 1 else 2)

    def estimate_seconds(self) -> float:
        """Time to train a generator of ddlight's own and to sample; one from elsewhere is not loaded to be asked."""
        if (run := self.generator_run) is None:
            return 0.0
        return run.estimate_seconds() + self.looks * run.forward_flops / operations_per_second()

    def facts(self) -> dict[str, Any]:
        """The generator, its training where it is known, and what sampling took."""
        flops = self.looks * denoiser_flops(self.model)
        return {**self.described.facts(self.dataset, self.place), "flops_synthesis": flops, "steps": self.steps}

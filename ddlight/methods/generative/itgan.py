"""ITGAN: latents of real images that a frozen generator turns into images from which networks learn the same.

Latents z begin where the generator makes each real image x_i of its own; then, in a new random network psi with one
draw A of DSA an iteration, for each class

    L_con   | mean of psi(A(x)) over a real batch - mean_i psi(A(G(z_i))) |^2
    L_div   mean_i | psi(A(x_i)) - psi(A(G(z_i))) |^2      each stays near its own real image
    z       moved by L_con + lambda L_div; G is frozen
"""

from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam

from ddlight.core.errors import UsageError
from ddlight.core.files import cache_folder
from ddlight.methods.generative.d3hr import denoised, inverted
from ddlight.methods.generative.engine import Backbone, TrainedDiT
from ddlight.methods.generative.engine.backbone import Denoiser
from ddlight.methods.generative.engine.latents import fitted
from ddlight.methods.generative.engine.schedule import Schedule, leading
from ddlight.methods.generative.engine.trained import TINY_GENERATOR, GeneratorRun, denoiser_flops
from ddlight.methods.images import NormalisedSpace
from ddlight.methods.matching.dm import class_means
from ddlight.methods.matching.engine import Learned, MatchingSynthesiser, Parametrisation, Published
from ddlight.methods.matching.engine.learned import ALL
from ddlight.networks.layers import embed_with_logits


class GeneratedImages(Parametrisation):
    """Images as a few deterministic steps of a frozen generator make them of latents.

    Args:
        model: the generator.
        real: images that the latents begin at, in [-1, 1], as the generator takes them: (n, C, S, S).
        labels: their classes.
        steps: from latents to images.
        guidance: of the generator.
        space: in which images are given.
        shape: channels and side of the images that are given.
    """

    chunk = 32

    def __init__(
        self,
        model: Denoiser,
        real: Tensor,
        labels: list[int],
        steps: int,
        guidance: float,
        space: NormalisedSpace,
        shape: tuple[int, int],
    ) -> None:
        super().__init__()
        self.model, self.labels, self.guidance, self.space, self.shape = model, labels, guidance, space, shape
        self.schedule = Schedule(model.betas, leading(steps + 1))
        with torch.no_grad():
            parts = [
                inverted(self._predict(labels[k : k + self.chunk]), self.schedule, model.encode(part)[0])
                for k, part in zip(range(0, len(real), self.chunk), real.split(self.chunk), strict=True)
            ]
        self.latents = nn.Parameter(torch.cat(parts))

    def _predict(self, labels: list[int]) -> Any:
        return self.model.guided(self.model.condition(labels), self.guidance)

    def __len__(self) -> int:
        return len(self.latents)

    def forward(self, rows: slice = ALL) -> Tensor:
        """Images of some latents, normalised."""
        clean = denoised(self._predict(self.labels[rows]), self.schedule, self.latents[rows])
        channels, size = self.shape
        mean, deviation = self.space.statistics(clean.device)
        return ((fitted(self.model.decode(clean), size, channels) + 1) / 2 - mean) / deviation

    @torch.no_grad()
    def kept(self) -> Tensor:
        """The images, made a chunk at a time."""
        starts = range(0, len(self), self.chunk)
        return torch.cat([self(slice(start, min(start + self.chunk, len(self)))) for start in starts])


class ITGAN(MatchingSynthesiser):
    """Images that a frozen generator makes of latents, which are moved so that networks' features match the real ones'.

    Paper: arXiv 2204.07513. Deviation: the generator is a conditional diffusion seen as a deterministic map of a few
    steps, whose inverse is where latents begin, in place of a BigGAN and an inversion by gradients; ipc latents a class
    in place of one for each training image. Iterations, optimiser, lambda and the kind of network are not known: they
    are options, with DM's random networks.

    Args:
        backbone: the generator; null trains a `TrainedDiT` of this dataset.
        generator_steps: from latents to images.
        guidance: of the generator.
        divergence: lambda, weight of each image's distance to its own real one. Deviation: 0.001 is a guess.
        batch_real: real images of a class in an iteration.
        dsa: operations of DSA; none for no augmentation; null takes the published ones.
    """

    tiny: ClassVar[dict[str, Any]] = {
        **MatchingSynthesiser.tiny,
        "backbone": TINY_GENERATOR,
        "generator_steps": 2,
        "batch_real": 8,
    }

    def __init__(
        self,
        *args: Any,
        backbone: Backbone | None = None,
        generator_steps: int = 5,
        guidance: float = 1.0,
        divergence: float = 0.001,
        batch_real: int = 256,
        dsa: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.backbone, self.generator_steps, self.guidance = backbone, generator_steps, guidance
        self.divergence, self.batch_real, self.dsa = divergence, batch_real, dsa
        self.require_positive("generator_steps", "batch_real")
        if self.numbers.init != "real":
            raise UsageError("ITGAN's latents begin at real images: take --data.init=real, or none.")
        self.augment = self.augmentation(dsa)

    def published(self) -> Published:
        """The learning rate that the released files name; the length is a guess. Deviation: see the class."""
        return Published(1000, lr=0.001, init="real")

    @property
    def described(self) -> Backbone:
        """The generator that is meant."""
        return self.backbone or TrainedDiT()

    @property
    def generator_run(self) -> GeneratorRun | None:
        """The training that `ddlight generator` does; None where the generator was trained elsewhere."""
        how = self.described
        return how.run(self.dataset, cache_folder(self.cache)) if isinstance(how, TrainedDiT) else None

    @cached_property
    def model(self) -> Denoiser:
        """The generator, loaded."""
        return self.described.load(self.dataset, cache_folder(self.cache))

    @cached_property
    def counterparts(self) -> Tensor:
        """The real image of each latent, normalised: (n, C, S, S)."""
        return self.initial()

    def prepare(self) -> None:
        """Look at the classes, and train the generator where it is missing."""
        super().prepare()
        if (run := self.generator_run) is not None:
            run.ensure()
        _ = self.model

    def begin(self) -> Learned:
        """Latents of real images, moved by Adam."""
        info, model = self.dataset.info, self.model
        space = NormalisedSpace(info.mean, info.std)
        pixels = fitted(space.unit(self.counterparts) * 2 - 1, model.size, model.channels)
        labels = self.labels(len(pixels)).tolist()
        numbers = self.generator_steps, self.guidance, space, (info.channels, info.size)
        images = GeneratedImages(model, pixels, labels, *numbers)
        return Learned(images, latents=Adam(images.parameters(), lr=self.numbers.lr))

    def step(self, learned: Learned, iteration: int) -> dict[str, Tensor]:
        """Match the means of all classes and each image with its own, in a new network."""
        network, leaf = self.fresh(iteration).requires_grad_(False), learned.images.leaf()
        classes = range(self.dataset.num_classes)
        views = [self.augment.siamese(iteration, c) for c in classes]
        with torch.no_grad():
            goal = class_means(
                network, [v(self.real_batch(self.batch_real, c, iteration)) for c, v in enumerate(views)]
            )
            own = torch.cat([view(self.counterparts[self.rows(c)]) for c, view in enumerate(views)])
            features = embed_with_logits(network, own)[0]
        made = embed_with_logits(network, torch.cat([view(leaf[self.rows(c)]) for c, view in enumerate(views)]))[0]
        matched, apart = matching_terms(goal, features, made, self.dataset.num_classes)
        loss = matched + self.divergence * apart
        loss.backward()
        learned.move(leaf)
        return {"loss": loss, "matched": matched, "own": apart}

    def operations(self) -> float:
        """Passes of the real batches and of the images, forward and backward, and of the generator."""
        run = self.generator_run
        look = denoiser_flops(self.model) if run is None else run.forward_flops
        images = self.dataset.num_classes * self.batch_real + 4 * self.expected_images
        generator = self.generator_steps * (1 if self.guidance == 1 else 2) * 4 * self.expected_images * look
        return self.numbers.iterations * (images * self.forward_flops + generator)

    def estimate_seconds(self) -> float:
        """As for other matching methods, and the generator's training where it is missing."""
        run = self.generator_run
        return super().estimate_seconds() + (0.0 if run is None else run.estimate_seconds())

    def facts(self) -> dict[str, Any]:
        """As for other matching methods, with the generator and its cost."""
        return {**super().facts(), **self.described.facts(self.dataset, cache_folder(self.cache))}


def matching_terms(goal: Tensor, own: Tensor, made: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """L_con and L_div, sums over the classes.

    Args:
        goal: mean features of each class's real batch, (classes, D).
        own: features of the real image of each latent, class after class, (n, D).
        made: features of the made ones, (n, D).
        classes: number of classes.
    """
    means = made.unflatten(0, (classes, -1)).mean(1)
    apart = (own - made).square().sum(1).unflatten(0, (classes, -1)).mean(1)
    return (goal - means).square().sum(), apart.sum()

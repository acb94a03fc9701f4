"""MatchingSynthesiser: what every matching method shares around its iterations."""

import logging
import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from math import log2
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer

from ddlight.core.artefact import Unit
from ddlight.core.errors import DataError, UsageError
from ddlight.core.override import replaced
from ddlight.core.randomness import generator, torch_seeded
from ddlight.methods.base import Synthesiser, require_images
from ddlight.methods.images import repeatable
from ddlight.methods.matching.engine.augment import Augmentation
from ddlight.methods.matching.engine.learned import Learned, Parametrisation, PlainImages
from ddlight.methods.matching.engine.real import RealImages
from ddlight.methods.matching.trajectory.experts import ExpertRun
from ddlight.methods.scoring.cost import image_flops, operations_per_second
from ddlight.methods.watch import SHOWN, IterationBar
from ddlight.networks.device import current_device
from ddlight.networks.flops import activations
from ddlight.networks.students import ConvNet, Student
from ddlight.sets.store import Synthesis
from ddlight.views.view import to_input, to_unit

log = logging.getLogger("ddlight")
Init: TypeAlias = Literal["noise", "real"]
MOMENTUM = 0.5
"""Of the SGD that moves images, in all codes of the family."""
BATCH = 256
"""Images of a batch that networks learn from."""
SAVE_SECONDS = 180.0
"""Progress is kept on disk once in this time."""
FORWARD, BACKWARD, TWICE = 1.3, 1.8, 10.0
"""Memory of an image's passes, in units of its activations: without a graph, with one, and differentiated twice.

Measured with a ConvNet-D3 of width 32 on a CPU, to a factor of two."""
BYTES_EACH = 9
"""Of activations for each number that a convolution gives: float32, once more normalised, a quarter as often pooled."""
CHECK_EVERY = 20
"""Iterations between two looks at whether everything is finite; each look waits for the device."""
TINY_MATCHING: dict[str, Any] = {
    "student": {"class_path": "ddlight.ConvNet", "init_args": {"depth": 3, "width": 8}},
    "iterations": 2,
}
"""A matching of a second, for `--tiny`."""


@dataclass(frozen=True)
class Published:
    """A paper's numbers for a dataset and ipc.

    Args:
        iterations: of the outer loop.
        lr: learning rate of the images.
        init: how images begin.
    """

    iterations: int
    lr: float
    init: Init


class MatchingSynthesiser(Synthesiser):
    """Moves images, class after class in one unit, by iterations that can be stopped after any of them.

    A method says in `published` what its paper's numbers are and in `step` what one iteration does. What else it learns
    than images, and by which optimisers, it says in `begin`. Everything that is drawn is drawn for its iteration, so
    that nothing needs to be remembered but what `Learned` holds. Images are never clamped and are kept as float32.

    Args:
        student: network that is matched on; null takes a ConvNet of width 128: 3 blocks up to 32 pixels, 4 at 64.
        iterations: of the outer loop; null takes the published number.
        lr: learning rate of the images; null takes the published one.
        init: images begin as noise of N(0, 1) or as random real ones; null takes what was published.
    """

    one_unit = True
    space = "normalised"
    norm: ClassVar[Literal["instance", "batch"]] = "instance"
    """Of the ConvNet that is matched on where no student is given."""
    tiny: ClassVar[dict[str, Any]] = TINY_MATCHING

    def __init__(
        self,
        *args: Any,
        student: Student | None = None,
        iterations: int | None = None,
        lr: float | None = None,
        init: Init | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.student, self.iterations, self.lr, self.init = student, iterations, lr, init
        self.require_positive("iterations", "lr")

    # --- what a method says ---

    @abstractmethod
    def published(self) -> Published:
        """The paper's numbers for this dataset and ipc."""

    @abstractmethod
    def step(self, learned: Learned, iteration: int) -> Mapping[str, Tensor]:
        """Take one iteration: move what is learned, and return the terms of the loss, by name, to be shown."""

    @abstractmethod
    def operations(self) -> float:
        """Floating-point operations of all iterations."""

    def graph_images(self) -> float:
        """Images in the largest graph, times FORWARD, BACKWARD or TWICE by what is done; 0 where a method is silent."""
        return 0.0

    def begin(self) -> Learned:
        """What is learned, as it is at first, on the device: by default images, moved by SGD."""
        images = PlainImages(self.initial())
        return Learned(images, images=SGD(images.parameters(), lr=self.numbers.lr, momentum=MOMENTUM))

    def finish(self, learned: Learned) -> Synthesis:
        """The set: by default the images as they are, with hard labels."""
        images = learned.images.kept().cpu().numpy()
        return Synthesis(images, self.labels(len(images)), len(images) if self.numbers.init == "real" else 0)

    @property
    def expert_run(self) -> ExpertRun | None:
        """Experts that are matched, which `ddlight experts` trains; by default there are none."""
        return None

    # --- what it can use ---

    def require_positive(self, *names: str) -> None:
        """Raise UsageError where one of these arguments is given and not above 0."""
        for name in names:
            if (value := getattr(self, name)) is not None and not value > 0:
                raise UsageError(f"{name} is {value}; allowed: above 0.")

    @cached_property
    def numbers(self) -> Published:
        """The numbers that are used: the published ones where no others are given."""
        given = {name: getattr(self, name) for name in ("iterations", "lr", "init")}
        return replaced(self.published(), {name: value for name, value in given.items() if value is not None})

    @cached_property
    def network(self) -> Student:
        """What is matched on."""
        return self.student or ConvNet(depth=max(1, round(log2(self.dataset.info.size)) - 2), norm=self.norm)

    @property
    def device(self) -> torch.device:
        """This process's GPU where there is one."""
        return current_device()

    def fresh(self, *index: int) -> nn.Module:
        """A network that was never trained, in training mode, on the device: the same for the same numbers."""
        info = self.dataset.info
        with torch_seeded(int(generator(self.seed, "matching network", *index).integers(2**62))):
            network = self.network.build(self.dataset.num_classes, info.channels, info.size)
        return network.to(self.device).train()

    @cached_property
    def real(self) -> RealImages:
        """The real images, as networks take them."""
        return RealImages(self.dataset, lambda x: to_input(x, self.dataset.info, self.whitening), self.device)

    def real_batch(self, count: int, label: int, *index: int) -> Tensor:
        """Different real images of a class, at most `count`: (n, C, S, S), the same for the same numbers."""
        return self.real.draw(label, count, generator(self.seed, "matching batch", *index, label))

    def augmentation(self, strategy: str | None = None) -> Augmentation:
        """DSA; with no strategy the published one, which mirrors images where the dataset may be mirrored."""
        info = self.dataset.info
        published = f"color_crop_cutout{'_flip' * info.flip}_scale_rotate"
        return Augmentation(strategy or published, info.size, self.seed)

    def rows(self, label: int) -> slice:
        """A class's rows among what is learned."""
        return slice(label * self.ipc, (label + 1) * self.ipc)

    def labels(self, images: int) -> np.ndarray:
        """Classes of `images` images that lie class after class, as many of each: int64 (images,)."""
        return np.arange(self.dataset.num_classes).repeat(images // self.dataset.num_classes)

    def train_epoch(
        self, network: nn.Module, optimizer: Optimizer, images: Tensor, augment: Augmentation, *index: int
    ) -> None:
        """Train a network once through images that lie class after class, each of which is augmented by itself."""
        labels = torch.from_numpy(self.labels(len(images))).to(images.device)
        order = generator(self.seed, "matching order", *index).permutation(len(images))
        for number, rows in enumerate(torch.from_numpy(order).to(images.device).split(BATCH)):
            optimizer.zero_grad()
            cross_entropy(network(augment.each(images[rows], *index, number)), labels[rows]).backward()
            optimizer.step()

    def initial(self) -> Tensor:
        """Images to begin with, class after class: noise, or real ones in a random order of each class."""
        classes, info = range(self.dataset.num_classes), self.dataset.info
        if self.numbers.init == "noise":
            shape = (self.ipc, info.channels, info.size, info.size)
            noise = [generator(self.seed, "matching noise", c).standard_normal(shape, np.float32) for c in classes]
            return torch.from_numpy(np.concatenate(noise)).to(self.device)
        return torch.cat([self.real.draw(c, self.ipc, generator(self.seed, "matching real", c)) for c in classes])

    # --- the loop ---

    def prepare(self) -> None:
        """Train the experts, where there are any. Raises UsageError where a class has too few images to begin with."""
        if self.numbers.init == "real":
            require_images(self.dataset, self.ipc)
        if self.expert_run is not None:
            self.expert_run.make(self.progress)

    def make(self, unit: Unit) -> Synthesis:
        """Iterate, from where a stopped process was. Raises DataError where something is not finite any more."""
        title = f"{type(self).__name__} of {self.dataset.info.name}"
        last, info = self.numbers.iterations, self.dataset.info
        with repeatable(tf32=False):
            learned, first = self.begin(), 0
            if kept := self.load_progress(unit):
                first = int(kept.pop("iteration"))
                learned.unpack(kept)
                log.info("%s: %d of %d iterations are done", title, first, last)
            saved = time.perf_counter()

            def pixels(images: Parametrisation) -> Tensor:
                return to_unit(images(slice(SHOWN)), info, "normalised", self.whitening)

            with IterationBar(title, last, pixels, self.working, first) as bar:
                for t in range(first, last):
                    terms = self.step(learned, t)
                    due = time.perf_counter() - saved > SAVE_SECONDS
                    if due or t % CHECK_EVERY == 0 or t + 1 == last:
                        self._check(learned, terms, t)
                    if due:
                        self.save_progress(unit, {"iteration": torch.tensor(t + 1), **learned.packed()})
                        saved = time.perf_counter()
                    bar(t, terms, learned.images)
            return self.finish(learned)

    def _check(self, learned: Learned, terms: Mapping[str, Tensor], iteration: int) -> None:
        wrong = [name for name, tensor in [*terms.items(), *learned.named_parameters()] if not tensor.isfinite().all()]
        if wrong:
            raise DataError(
                f"{wrong[0]} is not finite after iteration {iteration} of {type(self).__name__}. "
                f"Give a lower --data.lr; it is {self.numbers.lr:g}."
            )

    # --- what it costs ---

    @cached_property
    def forward_flops(self) -> float:
        """Operations of one image's forward pass."""
        return image_flops(self.network, self.dataset)

    def estimate_seconds(self) -> float:
        """Time of all iterations and of the experts that are missing, from the operations that they take."""
        experts = 0.0 if self.expert_run is None else self.expert_run.estimate_seconds()
        return experts + self.operations() / operations_per_second()

    def estimate_memory(self) -> int:
        """The largest graph's activations, and the real images where they are kept on a GPU."""
        if not (held := self.graph_images()):
            return 0
        info = self.dataset.info
        real = info.train * info.channels * info.size**2 if self.device.type == "cuda" else 0
        numbers = activations(self.fresh(0), info.channels, info.size)
        return real + int(held * BYTES_EACH * numbers)

    def facts(self) -> dict[str, Any]:
        """The numbers that were used, the network, and what it cost."""
        cost = {} if self.expert_run is None else self.expert_run.facts()
        own = {"matching": asdict(self.numbers), "network": str(self.network), "flops_synthesis": self.operations()}
        return {**own, **cost}
